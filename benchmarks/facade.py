"""``python -m benchmarks.facade``: what the facade and its middleware cost, against Django alone.

1. Attributes: reading and setting one, on a session that is loaded.
2. Requests: the middleware stack with and without ours, sync and async.
3. Last accesses: kept by us, and by ``SESSION_SAVE_EVERY_REQUEST``; the clock is turned by hand.

The engine is Django's db, on SQLite in a temporary directory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import django
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.management import call_command
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings

from dirigible_session import facade
from dirigible_session.lifecycle import TIMES_KEY, Times
from dirigible_session.middleware import DirigibleSessionMiddleware

from .measure import ROUNDS, Variant, medians

RUNS = 3
VISITS = 1000
WRITES = ("INSERT", "UPDATE", "DELETE")

Handler = Callable[[HttpRequest], Any]


@contextmanager
def empty_store() -> Iterator[None]:
    """Set Django up, with an empty table of sessions."""
    with tempfile.TemporaryDirectory() as directory:
        settings.configure(
            SECRET_KEY="benchmark",
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.sqlite3",
                    "NAME": str(Path(directory) / "db.sqlite3"),
                    # How fast the disk is, is not the question here.
                    "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},
                }
            },
            INSTALLED_APPS=["django.contrib.sessions", "dirigible_session"],
            MIDDLEWARE=[
                "django.contrib.sessions.middleware.SessionMiddleware",
                "dirigible_session.middleware.DirigibleSessionMiddleware",
            ],
            USE_TZ=True,
        )
        django.setup()
        call_command("migrate", verbosity=0)
        try:
            yield
        finally:
            connections.close_all()


def stored_session(**attributes: Any) -> SessionStore:
    """Return a session that is in the store, as a visit through our middleware leaves it."""
    session = SessionStore()
    session.update(attributes)
    session[TIMES_KEY] = Times(time.time(), time.time()).as_record()
    session.create()
    return session


def best(variants: dict[str, Variant], rounds: int) -> dict[str, float]:
    """Return the least of the medians of some runs, in nanoseconds."""
    runs = [medians(variants, rounds=rounds) for _ in range(RUNS)]
    return {name: min(run[name] for run in runs) for name in variants}


def show_attributes(rounds: int) -> None:
    """Compare the facade with the session itself."""
    print(f"{'1. An attribute of a loaded session':<38}{'raw':>12}{'facade':>12}{'ratio':>10}")
    session = stored_session(n=1, items=list(range(10)))
    with facade.use_request(SimpleNamespace(session=session)):  # type: ignore[arg-type]
        for title, name in (
            ("read an int", "n"),
            ("read a list of 10", "items"),
            ("read one that is not there", "nobody"),
        ):
            show_ratio(title, reads(session, name), rounds)
        for title, value in (
            ("set an int", 2),
            ("set a str", "two"),
            ("set a list of 3", [1, 2, 3]),
        ):
            show_ratio(title, sets(session, "n", value), rounds)
        # The facade tells at the call what JSON can't hold, which request.session does not.
        variants = sets(session, "n", [1, 2, 3]) | {"raw": json_round_trips([1, 2, 3])}
        show_ratio("set a list of 3; raw: JSON and back", variants, rounds)


def show_ratio(title: str, variants: dict[str, Variant], rounds: int) -> None:
    """Print what the raw way takes, what ours does, and the ratio."""
    measured = best(variants, rounds)
    raw, ours = measured["raw"], measured["facade"]
    print(f"   {title:<35}{raw:9.0f} ns{ours:9.0f} ns{ours / raw:10.2f}")


def reads(session: SessionStore, name: str) -> dict[str, Variant]:
    """Return both ways to read an attribute."""
    request = SimpleNamespace(session=session)

    def raw(times: int) -> None:
        for _ in range(times):
            request.session.get(name)

    def through_facade(times: int) -> None:
        for _ in range(times):
            facade.get_attribute(name)

    return {"raw": raw, "facade": through_facade}


def sets(session: SessionStore, name: str, value: object) -> dict[str, Variant]:
    """Return both ways to set an attribute."""
    request = SimpleNamespace(session=session)

    def raw(times: int) -> None:
        for _ in range(times):
            request.session[name] = value

    def through_facade(times: int) -> None:
        for _ in range(times):
            facade.set_attribute(name, value)

    return {"raw": raw, "facade": through_facade}


def json_round_trips(value: object) -> Variant:
    """Return what a value costs to be written as JSON and read again."""

    def run(times: int) -> None:
        for _ in range(times):
            json.loads(json.dumps(value))

    return run


@dataclass(frozen=True)
class Page:
    """A page as both kinds of view; it asks its request for the session, not the facade."""

    title: str
    view: Handler
    aview: Handler
    has_cookie: bool
    uses_session: bool = True

    def request(self) -> HttpRequest:
        """Return what a visitor of the page sends."""
        request = HttpRequest()
        if self.has_cookie:
            request.COOKIES[settings.SESSION_COOKIE_NAME] = stored_session(n=1).session_key
        return request


def plain(request: HttpRequest) -> HttpResponse:
    """Use no session."""
    return HttpResponse()


async def aplain(request: HttpRequest) -> HttpResponse:
    """Use no session."""
    return HttpResponse()


def reading(request: HttpRequest) -> HttpResponse:
    """Read an attribute."""
    request.session.get("n")
    return HttpResponse()


async def areading(request: HttpRequest) -> HttpResponse:
    """Read an attribute."""
    await request.session.aget("n")
    return HttpResponse()


def writing(request: HttpRequest) -> HttpResponse:
    """Set an attribute."""
    request.session["n"] = 1
    return HttpResponse()


async def awriting(request: HttpRequest) -> HttpResponse:
    """Set an attribute."""
    await request.session.aset("n", 1)
    return HttpResponse()


PAGES = (
    Page("no session, no cookie", plain, aplain, has_cookie=False, uses_session=False),
    Page("no session, a cookie", plain, aplain, has_cookie=True, uses_session=False),
    Page("reads", reading, areading, has_cookie=True),
    Page("writes", writing, awriting, has_cookie=True),
)


def show_requests(rounds: int) -> None:
    """Compare a request with and without our middleware."""
    print(f"\n{'2. A request through the middleware':<38}{'without':>12}{'with':>12}{'added':>13}")
    loop = asyncio.new_event_loop()
    try:
        for page in PAGES:
            show_added(f"{page.title}, sync", sync_stacks(page), rounds)
        for page in PAGES:
            show_added(f"{page.title}, async", async_stacks(page, loop), rounds)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def show_added(title: str, stacks: dict[str, Variant], rounds: int) -> None:
    """Print what a request takes without ours, with it, and the difference."""
    measured = best(stacks, rounds)
    without, ours = measured["without"] / 1000, measured["with"] / 1000
    print(f"   {title:<35}{without:9.2f} us{ours:9.2f} us{ours - without:10.2f} us")


def sync_stacks(page: Page) -> dict[str, Variant]:
    """Return the page behind Django's middleware, without and with ours."""

    def visits(handler: Handler) -> Variant:
        request = page.request()

        def run(times: int) -> None:
            for _ in range(times):
                handler(request)

        return run

    return {
        "without": visits(SessionMiddleware(page.view)),
        "with": visits(SessionMiddleware(DirigibleSessionMiddleware(page.view))),
    }


def async_stacks(page: Page, loop: asyncio.AbstractEventLoop) -> dict[str, Variant]:
    """Return the page behind Django's middleware, without and with ours.

    Django's middleware hops to a thread and back twice a request, which would drown our few
    microseconds. So a page that uses no session only stands behind what sets ``request.session``.
    """
    outer = SessionMiddleware if page.uses_session else giving_session

    def visits(handler: Handler) -> Variant:
        request = page.request()

        async def several(times: int) -> None:
            for _ in range(times):
                await handler(request)

        return lambda times: loop.run_until_complete(several(times))

    return {
        "without": visits(outer(page.aview)),
        "with": visits(outer(DirigibleSessionMiddleware(page.aview))),
    }


def giving_session(get_response: Handler) -> Handler:
    """Do what ``SessionMiddleware`` does on the way in."""

    async def handler(request: HttpRequest) -> HttpResponse:
        request.session = SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        return await get_response(request)

    return handler


def show_last_accesses() -> None:
    """Count what it takes to know when a visitor last came, of one who comes every second."""
    title = f"3. {VISITS} visits, one a second, reading"
    print(f"\n{title:<38}{'writes':>12}{'reads':>12}{'a visit':>13}")
    stock, ours = SessionMiddleware(reading), SessionMiddleware(DirigibleSessionMiddleware(reading))
    for title, handler, save_every_request in (
        ("Django, which keeps none", stock, False),
        ("SESSION_SAVE_EVERY_REQUEST", stock, True),
        ("dirigible_session", ours, False),
    ):
        with override_settings(SESSION_SAVE_EVERY_REQUEST=save_every_request):
            verbs, microseconds = visit_every_second(handler)
        writes = sum(verbs[verb] for verb in WRITES)
        print(f"   {title:<35}{writes:>12}{verbs['SELECT']:>12}{microseconds:10.2f} us")


def visit_every_second(handler: Handler) -> tuple[Counter[str], float]:
    """Return the queries of all visits by their verb, and the microseconds that a visit took."""
    verbs: Counter[str] = Counter()

    def count(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        verbs[sql.split(maxsplit=1)[0]] += 1
        return execute(sql, *rest)

    page = Page("", reading, areading, has_cookie=True)
    request, began = page.request(), time.time()
    with connection.execute_wrapper(count), mock.patch("time.time") as clock:
        begin = time.perf_counter()
        for second in range(VISITS):
            clock.return_value = began + second
            handler(request)
        spent = time.perf_counter() - begin
    return verbs, spent / VISITS * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facade", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} by default")
    rounds = parser.parse_args().rounds
    with empty_store():
        print(f"Django {django.get_version()}; least median of {RUNS} runs, {rounds} turns each\n")
        show_attributes(rounds)
        show_requests(rounds)
        show_last_accesses()


if __name__ == "__main__":
    main()
