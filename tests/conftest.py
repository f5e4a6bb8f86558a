"""Fixtures: an engine, a visitor, a clock."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends import file
from django.core.cache import caches
from django.utils import timezone as django_timezone

from .stores import (  # noqa: F401
    api,
    db_engine,
    queries,
    redis_anywhere,
    redis_cluster,
    redis_cluster_url,
    redis_server,
    redis_server_url,
)
from .visiting import Visitor

STOCK_ENGINES = ("db", "cached_db", "cache", "file", "signed_cookies")
ENGINES_ON_SERVER = STOCK_ENGINES[:-1]

# pytest-xdist tells its workers the width of its own terminal, which would narrow the tables.
os.environ.pop("COLUMNS", None)

#: The quick suite leaves out what needs a server, threads or processes, and what tries a behaviour
#: on yet another engine: two stock engines differ most, one with a table, one with the cookie. The
#: cookie is tried with sync views only.
QUICK_ENGINES = ("db", "signed_cookies")
OTHER_ENGINES = frozenset(STOCK_ENGINES) - frozenset(QUICK_ENGINES)
NOT_QUICK = frozenset(
    {"redis", "test_testproject", "test_reasons", "test_properties", "test_scale"}
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, and what is in the quick suite."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        names = [value for value in params if isinstance(value, str)]
        # Some ask for the server's fixture by the name of the engine.
        has_server = any(name.lower().endswith("redis") for name in names)
        if has_server or any(name.startswith("redis_") for name in fixtures):
            item.add_marker("server")
        elif item.get_closest_marker("server") is None and _is_quick(item, names):
            item.add_marker("quick")


def _is_quick(item: pytest.Item, names: Sequence[str]) -> bool:
    database = item.get_closest_marker("django_db")
    return not (
        item.get_closest_marker("slow")
        or (database and database.kwargs.get("transaction"))
        or "on_cache" in getattr(item, "fixturenames", ())
        or any(name.rpartition(".")[2] in OTHER_ENGINES for name in names)
        or {"signed_cookies", "async"} <= set(names)
        or NOT_QUICK & {item.path.stem, item.path.parent.name}
    )


class Clock:
    """What time it is, for Django and for us; it goes on when told."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def datetime(self) -> datetime:
        """Return the time as the facade gives times."""
        return datetime.fromtimestamp(self.now, timezone.utc)

    def django_now(self) -> datetime:
        from django.conf import settings

        now = self.datetime()
        if settings.USE_TZ:
            return now
        return django_timezone.make_naive(now, django_timezone.get_default_timezone())

    def tick(self, seconds: float = 0, **units: float) -> None:
        self.now += timedelta(seconds=seconds, **units).total_seconds()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still unless the test moves it on."""
    clock = Clock(float(int(time.time())))
    save = file.SessionStore.save

    def save_at_this_time(store: Any, must_create: bool = False) -> None:
        save(store, must_create)
        os.utime(store._key_to_file(), (clock.now, clock.now))

    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(django_timezone, "now", clock.django_now)
    monkeypatch.setattr(file.SessionStore, "save", save_at_this_time)
    return clock


@pytest.fixture
def use_engine(settings: Any, tmp_path: Any, db: None) -> Iterator[Any]:
    """Give a function that sets ``SESSION_ENGINE``; the stores begin empty."""

    def use(name: str) -> Any:
        settings.SESSION_ENGINE = (
            name if "." in name else f"django.contrib.sessions.backends.{name}"
        )
        return import_module(settings.SESSION_ENGINE).SessionStore

    settings.SESSION_FILE_PATH = str(tmp_path)
    _forget()
    yield use
    _forget()


def _forget() -> None:
    caches["default"].clear()
    # The file engine remembers its folder on its class.
    vars(file.SessionStore).get("_storage_path") and delattr(file.SessionStore, "_storage_path")


@pytest.fixture(params=STOCK_ENGINES)
def engine(request: pytest.FixtureRequest, use_engine: Any) -> str:
    """Each stock engine in turn."""
    use_engine(request.param)
    return request.param


@pytest.fixture(params=ENGINES_ON_SERVER)
def server_engine(request: pytest.FixtureRequest, use_engine: Any) -> str:
    """Each stock engine that keeps sessions on the server in turn."""
    use_engine(request.param)
    return request.param


@pytest.fixture
def store_class(settings: Any) -> Any:
    """The session store of the engine in use."""
    return import_module(settings.SESSION_ENGINE).SessionStore


@pytest.fixture(params=["sync", "async"])
def visitor(request: pytest.FixtureRequest) -> Visitor:
    """A visitor to sync views, then one to async views."""
    return Visitor(is_async=request.param == "async")


@pytest.fixture
def another_visitor(visitor: Visitor) -> Visitor:
    """Somebody else, who comes the same way."""
    return Visitor(is_async=visitor.is_async)


@pytest.fixture
def user(db: None) -> Any:
    return get_user_model().objects.create_user("ada", password="engine")


@pytest.fixture
def receive() -> Iterator[Any]:
    """Give a function that records what signals send: ``received = receive(signal, ...)``."""
    connected = []

    def connect(*signals: Any) -> list[tuple[Any, dict[str, Any]]]:
        received: list[tuple[Any, dict[str, Any]]] = []

        def receiver(signal: Any, **named: Any) -> None:
            received.append((signal, named))

        for signal in signals:
            signal.connect(receiver, weak=False)
            connected.append((signal, receiver))
        return received

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)
