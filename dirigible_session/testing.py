"""What the tests of a project that uses the facade need.

To test code that uses the facade, without a client::

    with session_request({"cart": ["tea"]}) as request:
        assert total() == 3

To prepare or look at the session of Django's test client::

    with stored_session(self.client):
        session.set_attribute("cart", ["tea"])

To test what happens when a visitor stays away, without waiting::

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
    """Make a GET request with a new session current inside the ``with`` block, and give it.

    The session has ``attributes``; ``request.user`` is ``user``, or nobody. It is stored only if
    the code calls ``get_id`` or the like, or the test ``request.session.save()``.
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
    """Make the stored session of a test client current inside the ``with`` block, and give it.

    The client gets a session if it has none, as Django's ``client.session`` does. What changed is
    saved at the end. It is no visit: the last access stays. Works on every engine, signed_cookies
    too: the test client is the browser that holds the session. SessionNotFound if the client's
    session is over.
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
    """Let the stored session of a test client be older by that much.

    ``units`` are those of ``timedelta``: ``let_time_pass(client, minutes=31)``. Its creation, its
    last access and an expiry at a fixed date move into the past, and the next request finds the
    session over if it is by then. What no request has used yet, ``client.force_login`` for one, was
    made and used that long ago then. The login of its user moves too. Works on every engine, as
    :func:`stored_session` does. The clocks of stores and browsers stand still: a session that never
    times out lives on in a stock store, although its cookie is kept for 400 days at most.
    """
    ago = timedelta(seconds=seconds, **units)
    _forget_deleted_cookie(client)
    session = client.session
    # As of the epoch, when no session was over.
    visit = begin(session, SimpleNamespace(arrived=0.0, request=None, closed=False, visits=()))
    data = visit.data
    # What Django's login or client.session stored has no times before a request used it.
    times = visit.read_times(data) or Times(time.time(), time.time())
    past = ago.total_seconds()
    authenticated = None if times.authenticated is None else times.authenticated - past
    times = Times(
        times.created - past, times.accessed - past, times.interval, authenticated=authenticated
    )
    visit.write_times(data, times)
    if isinstance(data.get(lifecycle.TIMES_KEY), dict):
        # The store's own clock stands still, so the next request has to go by the times.
        data[lifecycle.TIMES_KEY].pop("age")
    expiry = data.get(lifecycle.EXPIRY_KEY)
    if isinstance(expiry, str):
        data[lifecycle.EXPIRY_KEY] = (datetime.fromisoformat(expiry) - ago).isoformat()
    # A store may refuse to take a session back into the past, but not one that it does not know.
    if isinstance(visit, CookieVisit):
        visit.engine.save(session)
    else:
        session.delete()
        visit.engine.save(session, must_create=True)
    _hand_cookie(client, session)


async def alet_time_pass(client: AnyClient, seconds: float = 0, **units: float) -> None:
    """Let the stored session of a test client be older by that much.

    Async twin of :func:`let_time_pass`.
    """
    await sync_to_async(let_time_pass)(client, seconds, **units)


def _forget_deleted_cookie(client: AnyClient) -> None:
    # Django's test client keeps a cookie that it was told to delete, and takes its "" for a key.
    cookie = client.cookies.get(settings.SESSION_COOKIE_NAME)
    if cookie is not None and not cookie.value:
        del client.cookies[settings.SESSION_COOKIE_NAME]


def _hand_cookie(client: AnyClient, session: SessionBase) -> None:
    if session.session_key is None:
        client.cookies.pop(settings.SESSION_COOKIE_NAME, None)
    else:
        client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
