"""Our db engine beside Django's, and beside the session apps that are installed.

One run on one database, chosen as in the tests (``tests/databases.py``)::

    TEST_DATABASE=postgresql python -m benchmarks.engines

Each measured request goes through the engine's session middleware to a view. All engines take
turns, request by request; the median of many is what counts. It is the time on the clock: waiting
for the database is what a session engine does.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import django
from django.conf import settings

from tests import databases

ROUNDS = 1000
THREADS = 8
WRITES = 400


@dataclass(frozen=True)
class Candidate:
    """An engine and the way to keep the last access with it."""

    name: str
    engine: str
    middleware: str = "django.contrib.sessions.middleware.SessionMiddleware"
    #: What keeps the last access: our middleware, else SESSION_SAVE_EVERY_REQUEST.
    inner: str = ""
    app: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


CANDIDATES = (
    Candidate("django db", "django.contrib.sessions.backends.db"),
    Candidate("django cached_db", "django.contrib.sessions.backends.cached_db"),
    Candidate(
        "django-user-sessions",
        "user_sessions.backends.db",
        "user_sessions.middleware.SessionMiddleware",
        app="user_sessions",
    ),
    Candidate(
        "django-qsessions",
        "qsessions.backends.db",
        "qsessions.middleware.SessionMiddleware",
        app="qsessions",
    ),
    Candidate(
        "dirigible_session db",
        "dirigible_session.backends.db",
        inner="dirigible_session.middleware.DirigibleSessionMiddleware",
    ),
)


def set_up() -> list[Candidate]:
    """Configure Django and return the candidates that are installed."""
    found = [one for one in CANDIDATES if not one.app or find_spec(one.app)]
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        DATABASES=databases.chosen(),
        # Its sessions are in Django's cache in memory: faster than any cache of a real site.
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "dirigible_session",
            *(one.app for one in found if one.app),
        ],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        MIDDLEWARE=[],
    )
    django.setup()
    return found


class Site:
    """What answers requests with the sessions of one engine."""

    def __init__(self, candidate: Candidate) -> None:
        from django.http import HttpResponse
        from django.test import RequestFactory, override_settings
        from django.utils.module_loading import import_string

        self.candidate = candidate
        self.number = 0
        self._factory = RequestFactory(headers={"user-agent": "benchmark"})
        self._override = override_settings(SESSION_ENGINE=candidate.engine)
        self._save_every = override_settings(
            SESSION_ENGINE=candidate.engine, SESSION_SAVE_EVERY_REQUEST=True
        )

        def read(request: Any) -> HttpResponse:
            request.session.get("attribute1")
            return HttpResponse()

        def write(request: Any) -> HttpResponse:
            request.session["attribute2"] = request.number
            return HttpResponse()

        with self._override:
            outer = import_string(candidate.middleware)
            self._read, self._write, self._keep = outer(read), outer(write), outer(read)
            if candidate.inner:
                self._keep = outer(import_string(candidate.inner)(read))
            self.key = self._new_session()

    def _new_session(self) -> str:
        store_class = import_module(self.candidate.engine).SessionStore
        try:
            store = store_class(user_agent="benchmark", ip="127.0.0.1")
        except TypeError:
            store = store_class()
        for number in range(8):
            store[f"attribute{number}"] = {"number": number, "text": "x" * 20}
        store.save()
        return str(store.session_key)

    def _request(self) -> Any:
        request = self._factory.get("/")
        request.COOKIES[settings.SESSION_COOKIE_NAME] = self.key
        self.number += 1
        request.number = self.number
        return request

    def _timed(self, handler: Any, override: Any) -> float:
        with override:
            request = self._request()
            begin = time.perf_counter()
            handler(request)
            return time.perf_counter() - begin

    def read(self) -> float:
        """Return the seconds that a request takes that reads."""
        return self._timed(self._read, self._override)

    def write(self) -> float:
        """Return the seconds that a request takes that writes."""
        return self._timed(self._write, self._override)

    def keep(self) -> float:
        """Return the seconds that a request takes that reads, and keeps the last access."""
        override = self._override if self.candidate.inner else self._save_every
        return self._timed(self._keep, override)

    def lost(self) -> int:
        """Return how many of 400 attributes, set by requests in 8 threads, are lost."""
        from django.contrib.sessions.backends.base import UpdateError
        from django.db import connections

        with self._override:
            key = self._new_session()
            store_class = import_module(self.candidate.engine).SessionStore
            numbers = iter(range(WRITES))
            lock = threading.Lock()

            def work() -> None:
                try:
                    while True:
                        with lock:
                            number = next(numbers, None)
                        if number is None:
                            return
                        store = _opened(store_class, key)
                        store[f"set{number}"] = number
                        try:
                            store.save()
                        except UpdateError:
                            # The request is answered with an error: what it set is lost.
                            continue
                finally:
                    connections.close_all()

            threads = [threading.Thread(target=work) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            kept = sum(name.startswith("set") for name, _ in _opened(store_class, key).items())
        return WRITES - kept


def _opened(store_class: Any, key: str) -> Any:
    try:
        return store_class(session_key=key, user_agent="benchmark", ip="127.0.0.1")
    except TypeError:
        return store_class(key)


def measured(sites: list[Site], do: Callable[[Site], float]) -> list[float]:
    """Return the median of each site, in microseconds."""
    times: list[list[float]] = [[] for _ in sites]
    for turn in range(ROUNDS + 20):
        for index in range(len(sites)):
            at = (index + turn) % len(sites)
            seconds = do(sites[at])
            if turn >= 20:
                times[at].append(seconds * 1e6)
    return [median(one) for one in times]


def main() -> None:
    """Measure, and print a table."""
    candidates = set_up()
    from django.db import connection

    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        sites = [Site(candidate) for candidate in candidates]
        columns = [measured(sites, do) for do in (Site.read, Site.write, Site.keep)]
        lost = [site.lost() for site in sites]
    finally:
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
    out = sys.stdout
    out.write(f"{connection.vendor}, Django {django.get_version()}; µs (ratio to django db)\n\n")
    out.write("| engine | reads | writes | reads, keeps last access | lost of 400 |\n")
    out.write("| --- | ---: | ---: | ---: | ---: |\n")
    for index, site in enumerate(sites):
        cells = [f"{column[index]:.0f} ({column[index] / column[0]:.2f})" for column in columns]
        out.write(f"| {site.candidate.name} | {' | '.join(cells)} | {lost[index]} |\n")


if __name__ == "__main__":
    main()
