"""The current session's tracker, and making one current outside the middleware."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.exceptions import ImproperlyConfigured

from . import context
from .context import Current
from .exceptions import SESSION_MIDDLEWARE, SessionNotFound
from .lifecycle import is_carried_by_cookie
from .tracking import Tracker, is_tracked, track

if TYPE_CHECKING:
    from django.http import HttpRequest


def current_tracker(function: str) -> Tracker:
    """Return the tracker of the current session; ``function`` is who asks, for the error."""
    current = context.require(function)
    # The view may have exchanged its session, so each call looks it up.
    return track(current.holder.session, current.request, current.arrived)


@contextmanager
def use_request(request: HttpRequest) -> Iterator[HttpRequest]:
    """Make ``request`` current inside the ``with`` block, and restore what was before.

    For tests, and for code that has a request but runs outside the middleware. It saves nothing:
    what changed is in ``request.session``, marked as modified. ImproperlyConfigured if the request
    has no session.
    """
    session = getattr(request, "session", None)
    if not isinstance(session, SessionBase):
        raise ImproperlyConfigured(
            "dirigible_session: use_request() was given a request without a session: its "
            f"request.session is {session!r}. Pass it through {SESSION_MIDDLEWARE!r} first, or set "
            "request.session to a store of your SESSION_ENGINE."
        )
    was_tracked = is_tracked(session)
    tracker = track(session, request)
    if tracker.finished:
        # What made it current before has ended.
        tracker.finished = False
        tracker.scopes = 1
    elif tracker.scopes or not was_tracked:
        tracker.scopes += 1
    is_counted = tracker.scopes > 0
    current = Current(request, request, tracker.arrived)
    try:
        yield request
        if tracker.scopes == 1:
            tracker.settle()
    finally:
        try:
            # The last one out, where several tasks have the request.
            tracker.scopes -= is_counted
            if is_counted and not tracker.scopes:
                tracker.finish(None)
                tracker.notify()
        finally:
            current.leave()


def _store_of(session_id: str) -> SessionBase:
    if not isinstance(session_id, str):
        raise TypeError(
            f"dirigible_session: a session id is a str, not {session_id!r} "
            f"({type(session_id).__name__})."
        )
    # No engine makes such a key, and some stores fail on one.
    key = session_id if session_id.isascii() and session_id.isprintable() else None
    store: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore(key)
    if is_carried_by_cookie(store):
        raise SessionNotFound(
            "dirigible_session: no session can be opened by its id on the signed_cookies engine: "
            "its sessions are in their visitors' browsers."
        )
    return store


def _track(session: SessionBase) -> Tracker:
    tracker = Tracker(session, time.time())
    tracker.is_visit = False
    return tracker


def _make_current(tracker: Tracker) -> Current:
    if not tracker.known:
        raise SessionNotFound("dirigible_session: this id names no live session.")
    return Current(SimpleNamespace(session=tracker.session), None, tracker.arrived)


def _has_changes(tracker: Tracker) -> bool:
    """Return whether there is something to save, what receivers changed just now included."""
    tracker.settle()
    return tracker.session.modified and not tracker.session.is_empty()


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
    with open_store(_store_of(session_id)) as session:
        yield session


@contextmanager
def open_store(session: SessionBase) -> Iterator[SessionBase]:
    """Do for a store that was made with a session key what :func:`open_session` does for an id."""
    tracker = _track(session)
    tracker.load_data()
    current = _make_current(tracker)
    try:
        yield session
        tracker.settle()
        tracker.notify()
        if _has_changes(tracker):
            with _still_there():
                session.save()
    finally:
        try:
            tracker.finish(None)
            tracker.notify()
        finally:
            current.leave()


@asynccontextmanager
async def aopen_session(session_id: str) -> AsyncIterator[SessionBase]:
    """Async twin of :func:`open_session`."""
    async with aopen_store(_store_of(session_id)) as session:
        yield session


@asynccontextmanager
async def aopen_store(session: SessionBase) -> AsyncIterator[SessionBase]:
    """Async twin of :func:`open_store`."""
    tracker = _track(session)
    await tracker.aload_data()
    current = _make_current(tracker)
    try:
        yield session
        tracker.settle()
        await tracker.anotify()
        if _has_changes(tracker):
            with _still_there():
                await session.asave()
    finally:
        try:
            tracker.finish(None)
            await tracker.anotify()
        finally:
            current.leave()
