"""Fixtures: engines that can be listed, and people with several browsers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.core.cache import caches
from django.http import HttpRequest

from dirigible_session import users
from tests.visiting import Visitor

OWN = (
    pytest.param("dirigible_session.backends.db", id="own-db"),
    pytest.param("dirigible_session.backends.redis", id="own-redis", marks=pytest.mark.server),
)
CACHE = pytest.param("cache", id="cache", marks=pytest.mark.server)
LISTABLE = ("db", "cached_db", "file", CACHE, *OWN)


def _use(name: str, request: pytest.FixtureRequest) -> Iterator[str]:
    if name.endswith("redis"):
        request.getfixturevalue("redis_server")
    if name == "cache":
        cache = "django.core.cache.backends.redis.RedisCache"
        url = request.getfixturevalue("redis_server_url")
        settings = request.getfixturevalue("settings")
        settings.CACHES = {"default": {"BACKEND": cache, "LOCATION": url, "KEY_PREFIX": "users"}}
    request.getfixturevalue("use_engine")(name)
    yield name
    if name == "cache":
        for pool in caches["default"]._cache._pools.values():
            pool.disconnect()


@pytest.fixture(params=LISTABLE)
def listable(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each engine that can be listed in turn."""
    yield from _use(request.param, request)


@pytest.fixture(params=OWN)
def own(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each engine of the package in turn."""
    yield from _use(request.param, request)


class Site:
    """People log in on it, and call the functions of a user, all in sync views or all in async."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async

    def log_in(self, user: Any) -> Visitor:
        """Return a new browser in which the user is logged in."""
        visitor = Visitor(is_async=self.is_async)
        visitor.log_in(user)
        return visitor

    def call(self, function: str, *args: Any, **named: Any) -> Any:
        """Call a function of ``users`` outside any request."""
        if self.is_async:
            return async_to_sync(getattr(users, f"a{function}"))(*args, **named)
        return getattr(users, function)(*args, **named)

    def call_in(self, visitor: Visitor, function: str, *args: Any, **named: Any) -> Any:
        """Call a function of ``users`` in a request of a visitor's, for whoever is logged in."""

        async def visit(session: Any, request: HttpRequest) -> Any:
            if self.is_async:
                user = await request.auser()
                return await getattr(users, f"a{function}")(user, *args, **named)
            return getattr(users, function)(request.user, *args, **named)

        return visitor.visit(visit)


async def elsewhere(function: Callable[..., Any], *args: Any) -> Any:
    """Call a sync function from a visit, as another process does it in the middle of that."""
    call = partial(Context().run, function, *args)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    return await sync_to_async(call)()


@pytest.fixture(params=["sync", "async"])
def site(request: pytest.FixtureRequest) -> Site:
    return Site(is_async=request.param == "async")


@pytest.fixture
def ada(db: None) -> Any:
    return get_user_model().objects.create_user("ada", password="engine")


@pytest.fixture
def bob(db: None) -> Any:
    return get_user_model().objects.create_user("bob", password="bridge")


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Give a function that has a rival act once, after the sessions were listed."""

    def let(act: Callable[[], Any]) -> None:
        read = users._stored
        rivals = [act]

        def read_and_let(*args: Any, **named: Any) -> Any:
            stored = read(*args, **named)
            while rivals:
                rivals.pop()()
            return stored

        monkeypatch.setattr(users, "_stored", read_and_let)

    return let
