"""Visits: what the tests' people do on the site, written once for sync and async.

A visit is a function of ``session``, whose methods are the facade's functions, to be awaited. The
site runs it in a sync view through the sync functions, or in an async view through their twins.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar

from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import AsyncClient, Client

from dirigible_session import facade

Visit = Callable[..., Awaitable[Any]]


class Functions:
    """The facade as a visit sees it: each function under its sync name, each awaitable."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*args: Any, **named: Any) -> Any:
            if self.is_async and name != "is_valid":
                return await getattr(facade, "a" + name)(*args, **named)
            return getattr(facade, name)(*args, **named)

        return call


def run(awaitable: Awaitable[Any]) -> Any:
    """Run what never waits, without an event loop."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("a sync visit waited")


class Call:
    """One visit on its way through the site."""

    calls: ClassVar[dict[int, Call]] = {}
    numbers = itertools.count(1)

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.number = next(self.numbers)
        self.request: HttpRequest
        self.result: Any = None

    async def __call__(self, request: HttpRequest, *, is_async: bool) -> HttpResponseBase:
        self.request = request
        functions = Functions(is_async=is_async)
        takes_request = self.visit.__code__.co_argcount > 1  # type: ignore[attr-defined]
        self.result = await self.visit(functions, *([request] if takes_request else []))
        return self.result if isinstance(self.result, HttpResponseBase) else HttpResponse("done")


def sync_view(request: HttpRequest, number: int) -> HttpResponseBase:
    return run(Call.calls[number](request, is_async=False))


async def async_view(request: HttpRequest, number: int) -> HttpResponseBase:
    return await Call.calls[number](request, is_async=True)


class Visitor:
    """Somebody with a browser, whose requests all go to sync views, or all to async ones."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.client: Any = AsyncClient() if is_async else Client()
        self.response: Any = None
        self.request: Any = None

    def visit(self, visit: Visit) -> Any:
        """Send a request in which ``visit`` happens, and return what it returned."""
        call = Call(visit)
        Call.calls[call.number] = call
        try:
            self.response = self._get(f"/{'async' if self.is_async else 'sync'}/{call.number}/")
        finally:
            del Call.calls[call.number]
            self.request = getattr(call, "request", None)
        return call.result

    def _get(self, path: str) -> Any:
        # Under async_to_sync, the code that needs a thread of its own gets this one, and with it
        # the test's database connection.
        response = async_to_sync(self.client.get)(path) if self.is_async else self.client.get(path)
        for name, morsel in response.cookies.items():
            if morsel["max-age"] == 0:
                # Django's test client keeps what a browser forgets.
                self.client.cookies.pop(name, None)
        return response

    def find_site_restarted(self) -> None:
        """Have the site build its middleware anew, as after a change of ``MIDDLEWARE``."""
        self.client.handler._middleware_chain = None

    @property
    def cookie(self) -> Any:
        """The session cookie that the last response set, None if it set none."""
        return self.response.cookies.get(settings.SESSION_COOKIE_NAME)

    @property
    def session_key(self) -> str | None:
        """The session key that the browser holds."""
        morsel = self.client.cookies.get(settings.SESSION_COOKIE_NAME)
        return morsel.value if morsel else None

    @session_key.setter
    def session_key(self, key: str) -> None:
        self.client.cookies[settings.SESSION_COOKIE_NAME] = key

    def log_in(self, user: Any) -> None:
        """Log ``user`` in as a view does."""

        async def login(session: Any, request: HttpRequest) -> None:
            from django.contrib import auth

            if self.is_async:
                await auth.alogin(request, user)
            else:
                auth.login(request, user)

        self.visit(login)
