"""Which session is current, and making one current.

A context variable follows a request through its view, the tasks it awaits, ``sync_to_async`` and
``asyncio.to_thread``. A task that outlives its request still holds a copy of the context; the
``closed`` flag tells it that the request is over.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, Token
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from dirigible_session.exceptions import (
    MIDDLEWARE,
    SESSION_MIDDLEWARE,
    MiddlewareMissing,
    NoCurrentRequest,
    SessionNotFound,
)

from .visit import VISIT, CookieVisit, Visit, begin

if TYPE_CHECKING:
    from django.http import HttpRequest


class Current:
    """One stay of a request (or an opened session) in a context; it begins when it is made."""

    __slots__ = ("_token", "arrived", "closed", "holder", "loaded", "request")

    def __init__(self, holder: Any, request: HttpRequest | None, arrived: float) -> None:
        #: What has the session: a request, or what stands for one.
        self.holder = holder
        self.request = request
        #: Seconds since the epoch.
        self.arrived = arrived
        self.closed = False
        #: The session that was last found loaded.
        self.loaded: SessionBase | None = None
        self._token: Token[Current | None] = _current.set(self)

    @property
    def visit(self) -> Visit:
        """The visit; the view may have exchanged its session, so each call looks it up."""
        return begin(self.holder.session, self.arrived, self.request)

    def leave(self) -> None:
        """Restore what was current before, and tell the tasks that still remember this one."""
        self.closed = True
        try:
            _current.reset(self._token)
        except ValueError:
            # A generator may be closed in another context than the one it was begun in, as a
            # fixture of pytest's is, or an async generator that its loop finalizes. A token is of
            # no use there, nor needed: whoever still finds this one finds it closed.
            return


_current: ContextVar[Current | None] = ContextVar("dirigible_session_current", default=None)


def is_current() -> bool:
    """Return whether a session is in reach here."""
    current = _current.get()
    return current is not None and not current.closed


def require(function: str) -> Current:
    """Return what is current here; ``function`` is who asks, for the error."""
    current = _current.get()
    if current is None or current.closed:
        raise _error(function)
    return current


def _error(function: str) -> NoCurrentRequest:
    try:
        is_installed = any(map(_names_our_middleware, settings.MIDDLEWARE))
    except ImproperlyConfigured:
        # Without settings there are no requests: it is not MIDDLEWARE that is at fault.
        is_installed = True
    return NoCurrentRequest(function) if is_installed else MiddlewareMissing(function)


def _names_our_middleware(path: str) -> bool:
    """Return whether a line of ``MIDDLEWARE`` names our middleware, or a subclass of it."""
    if path == MIDDLEWARE:
        return True
    try:
        candidate = import_string(path)
    except Exception:
        # Django says so when it builds the middleware chain.
        return False
    # By name, since this module stands below the middleware.
    bases = getattr(candidate, "__mro__", ())
    return any(f"{base.__module__}.{base.__qualname__}" == MIDDLEWARE for base in bases)


@contextmanager
def use_request(request: HttpRequest) -> Iterator[HttpRequest]:
    """Make ``request`` current inside the ``with`` block, and restore what was before.

    For tests, and for code that has a request but runs outside the middleware. It saves nothing:
    what changed is in ``request.session``, marked as modified. ImproperlyConfigured if the request
    has no session.
    """
    found: Any = getattr(request, "session", None)
    if not isinstance(found, SessionBase):
        raise ImproperlyConfigured(
            "dirigible_session: use_request() was given a request without a session: its "
            f"request.session is {found!r}. Pass it through {SESSION_MIDDLEWARE!r} first, or set "
            "request.session to a store of your SESSION_ENGINE."
        )
    was_begun = VISIT in vars(found)
    visit = begin(found, time.time(), request)
    if visit.finished:
        # What made it current before has ended.
        visit.finished = False
        visit.scopes = 1
    elif visit.scopes or not was_begun:
        visit.scopes += 1
    is_counted = visit.scopes > 0
    current = Current(request, request, visit.arrived)
    try:
        yield request
        if visit.scopes == 1:
            visit.settle()
    finally:
        try:
            # The last one out, where several tasks have the request.
            visit.scopes -= is_counted
            if is_counted and not visit.scopes:
                visit.finish(None)
                visit.notify()
        finally:
            current.leave()


def _opened(session_id: str) -> Visit:
    if not isinstance(session_id, str):
        raise TypeError(
            f"dirigible_session: a session id is a str, not {session_id!r} "
            f"({type(session_id).__name__})."
        )
    # No engine makes such a key, and some stores fail on one.
    key = session_id if session_id.isascii() and session_id.isprintable() else None
    visit = begin(import_module(settings.SESSION_ENGINE).SessionStore(key), time.time())
    if isinstance(visit, CookieVisit):
        raise SessionNotFound(
            "dirigible_session: no session can be opened by its id on the signed_cookies engine: "
            "its sessions are in their visitors' browsers."
        )
    return visit


def _make_current(visit: Visit) -> Current:
    visit.counts = False
    if not visit.known:
        raise SessionNotFound("dirigible_session: this id names no live session.")
    return Current(SimpleNamespace(session=visit.session), None, visit.arrived)


def _has_changes(visit: Visit) -> bool:
    """Return whether there is something to save, what receivers changed just now included."""
    visit.settle()
    return visit.session.modified and not visit.session.is_empty()


@contextmanager
def _still_there() -> Iterator[None]:
    try:
        yield
    except UpdateError as error:
        raise SessionNotFound(
            "dirigible_session: the session was ended elsewhere while it was open here; "
            "its changes were not saved."
        ) from error


@contextmanager
def open_session(session_id: str) -> Iterator[SessionBase]:
    """Make the stored session with this id current inside the ``with`` block.

    For code outside any request: a task queue, a WebSocket consumer, a shell. What changed is
    saved at the end, not on an exception. It is no visit of the client: the last access stays.
    SessionNotFound if the id names no live session, or the session was ended before the end.
    Servlet 6.1: ``HttpSession.Accessor``.
    """
    with open_visit(_opened(session_id)) as session:
        yield session


@contextmanager
def open_visit(visit: Visit) -> Iterator[SessionBase]:
    """Make the session of a visit current, and save what changed."""
    visit.load_data()
    current = _make_current(visit)
    try:
        yield visit.session
        visit.settle()
        visit.notify()
        if _has_changes(visit):
            with _still_there():
                visit.session.save()
    finally:
        try:
            visit.finish(None)
            visit.notify()
        finally:
            current.leave()


@asynccontextmanager
async def aopen_session(session_id: str) -> AsyncIterator[SessionBase]:
    """Async twin of :func:`open_session`."""
    async with aopen_visit(_opened(session_id)) as session:
        yield session


@asynccontextmanager
async def aopen_visit(visit: Visit) -> AsyncIterator[SessionBase]:
    """Async twin of :func:`open_visit`."""
    await visit.aload_data()
    current = _make_current(visit)
    try:
        yield visit.session
        visit.settle()
        await visit.anotify()
        if _has_changes(visit):
            with _still_there():
                await visit.session.asave()
    finally:
        try:
            visit.finish(None)
            await visit.anotify()
        finally:
            current.leave()
