"""Helpers for the tests of a project that uses the facade.

To test code that uses the facade, without a client::

    with session_request({"cart": ["tea"]}) as request:
        assert total() == 3

To prepare or look at the session of Django's test client::

    with stored_session(self.client):
        session.set_attribute("cart", ["tea"])

To test the time limits of a session, without waiting::

    let_time_pass(self.client, minutes=31)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.test import AsyncClient, Client, RequestFactory

from . import facade, lifecycle
from .current import context
from .current.engines import CookieVisit, begin
from .lifecycle import Times

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

__all__ = [
    "alet_time_pass",
    "astored_session",
    "let_time_pass",
    "session_request",
    "stored_session",
]

AnyClient = Client | AsyncClient


@contextmanager
def session_request(
    attributes: Mapping[str, Any] | None = None, *, user: Any = None, path: str = "/"
) -> Iterator[HttpRequest]:
    """Yield a GET request with a new session; it is current inside the ``with`` block.

    The session has these ``attributes``. ``request.user`` is ``user``, or an ``AnonymousUser``. The
    session is stored only if the code calls a function such as ``get_id``, or the test calls
    ``request.session.save()``.
    """
    request = RequestFactory().get(path)
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    if user is None and apps.is_installed("django.contrib.auth"):
        from django.contrib.auth.models import AnonymousUser

        user = AnonymousUser()

    async def auser() -> Any:
        return request.user

    request.user, request.auser = user, auser
    with facade.use_request(request):
        for name, value in (attributes or {}).items():
            facade.set_attribute(name, value)
        yield request


@contextmanager
def stored_session(client: AnyClient) -> Iterator[SessionBase]:
    """Yield the stored session of a test client; it is current inside the ``with`` block.

    The client gets a session if it has none, as with Django's ``client.session``. Changes are saved
    at the end of the block. The last access stays as it is. Works on every engine, signed_cookies
    included: the test client is the browser with the cookie. Raises SessionNotFound if the
    client's session has ended.
    """
    _forget_deleted_cookie(client)
    session = client.session
    with context.open_store(session):
        yield session
    _hand_cookie(client, session)


@asynccontextmanager
async def astored_session(client: AnyClient) -> AsyncIterator[SessionBase]:
    """Async twin of :func:`stored_session`."""
    _forget_deleted_cookie(client)
    session = await client.asession()
    async with context.aopen_store(session):
        yield session
    _hand_cookie(client, session)


def let_time_pass(client: AnyClient, seconds: float = 0, **units: float) -> None:
    """Move all times of the stored session of a test client into the past.

    ``units`` are the keyword arguments of ``timedelta``: ``let_time_pass(client, minutes=31)``. The
    times are the creation, the last access, the login of the user and an expiry at a fixed date.
    The next request then finds the session ended if a limit has passed. A session that no request
    has used yet, for example after ``client.force_login``, counts as created and used that long
    ago. Works on every engine, as :func:`stored_session` does. The clocks of stores and browsers do
    not move: a session that never times out stays in a stock store, although its cookie expires
    after 400 days.
    """
    ago = timedelta(seconds=seconds, **units)
    _forget_deleted_cookie(client)
    session = client.session
    # As if it arrived at the epoch, so that no limit has passed.
    visit = begin(session, SimpleNamespace(arrived=0.0, request=None, closed=False, visits=()))
    data = visit.data
    # A session stored by client.login() or client.session has no times before its first request.
    times = visit.read_times(data) or Times(time.time(), time.time())
    past = ago.total_seconds()
    authenticated = None if times.authenticated is None else times.authenticated - past
    times = Times(
        times.created - past, times.accessed - past, times.interval, authenticated=authenticated
    )
    visit.write_times(data, times)
    if isinstance(data.get(lifecycle.TIMES_KEY), dict):
        # Without it the next request applies the times, and not the expiry of the store.
        data[lifecycle.TIMES_KEY].pop("age")
    expiry = data.get(lifecycle.EXPIRY_KEY)
    if isinstance(expiry, str):
        data[lifecycle.EXPIRY_KEY] = (datetime.fromisoformat(expiry) - ago).isoformat()
    # A store may refuse to move a session into the past, so it is deleted and created again.
    if isinstance(visit, CookieVisit):
        visit.engine.save(session)
    else:
        session.delete()
        visit.engine.save(session, must_create=True)
    _hand_cookie(client, session)


async def alet_time_pass(client: AnyClient, seconds: float = 0, **units: float) -> None:
    """Async twin of :func:`let_time_pass`."""
    await sync_to_async(let_time_pass)(client, seconds, **units)


def _forget_deleted_cookie(client: AnyClient) -> None:
    # Django's test client keeps a deleted cookie, and uses its value "" as a session key.
    cookie = client.cookies.get(settings.SESSION_COOKIE_NAME)
    if cookie is not None and not cookie.value:
        del client.cookies[settings.SESSION_COOKIE_NAME]


def _hand_cookie(client: AnyClient, session: SessionBase) -> None:
    if session.session_key is None:
        client.cookies.pop(settings.SESSION_COOKIE_NAME, None)
    else:
        client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
