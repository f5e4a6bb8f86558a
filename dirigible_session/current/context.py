"""The current session, and how to make one current.

A context variable follows a request through its view, the tasks it awaits, ``sync_to_async`` and
``asyncio.to_thread``. A task that outlives its request still holds a copy of the context, so the
``closed`` flag marks the end of the request.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar, Token
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from dirigible_session.exceptions import (
    MIDDLEWARE,
    OWN_SESSION_MIDDLEWARE,
    SESSION_MIDDLEWARE,
    MiddlewareMissing,
    NoCurrentRequest,
    SessionNotFound,
)
from dirigible_session.handles import DIGEST_LENGTH

from .engines import STAY, CookieVisit, begin, kind_of, unwrapped
from .visit import Visit

if TYPE_CHECKING:
    from django.http import HttpRequest


class Current:
    """The current request or opened session. ``arrived`` is when this object was created."""

    __slots__ = ("arrived", "closed", "holder", "loaded", "visits")

    def __init__(self, holder: Any) -> None:
        #: The object whose ``session`` is current: a request, or a stand-in for it.
        self.holder = holder
        self.closed = False
        #: The session as the facade last found it loaded; None before that, and after the end.
        self.loaded: Any = None
        #: Seconds since the epoch.
        self.arrived = time.time()
        #: The visits of the sessions that were used in it.
        self.visits: tuple[Visit, ...] = ()

    @property
    def request(self) -> HttpRequest | None:
        """The request; None for an opened session."""
        return None if isinstance(self.holder, SimpleNamespace) else self.holder

    def close(self) -> None:
        """Mark it as ended, so that tasks that still refer to it find no current session."""
        self.closed = True
        self.loaded = None
        self.visits = ()

    @property
    def visit(self) -> Visit:
        """The visit. Each call looks it up, since a view may replace ``request.session``."""
        return begin(self.holder.session, self)


current: ContextVar[Current | None] = ContextVar("dirigible_session_current", default=None)


def enter(holder: Any) -> tuple[Current, Token[Current | None]]:
    """Make the session of ``holder`` current, until :func:`leave`."""
    stay = Current(holder)
    return stay, current.set(stay)


def leave(stay: Current, token: Token[Current | None]) -> None:
    """End ``stay``, and restore the session that was current before it."""
    stay.close()
    try:
        current.reset(token)
    except ValueError:
        # A generator may be closed in another context than it was started in, as a pytest fixture
        # is, or an async generator that its loop finalizes. The token is not valid there, and not
        # needed: a closed stay is not current.
        return


def is_current() -> bool:
    """Return whether there is a current session here."""
    stay = current.get()
    return stay is not None and not stay.closed


def require(function: str) -> Current:
    """Return the current stay. Without one, raise NoCurrentRequest, which names ``function``."""
    stay = current.get()
    if stay is not None and not stay.closed:
        return stay
    try:
        is_installed = any(map(_is_our_middleware, settings.MIDDLEWARE))
    except ImproperlyConfigured:
        # Without settings there are no requests at all: MIDDLEWARE is not at fault.
        is_installed = True
    raise NoCurrentRequest(function) if is_installed else MiddlewareMissing(function)


def mark_passive() -> None:
    """Mark the current request, if there is one, as passive: not an access of its client."""
    stay = current.get()
    if stay is not None and not stay.closed:
        stay.visit.is_marked_passive = True


def _is_our_middleware(path: str) -> bool:
    """Return whether an entry of ``MIDDLEWARE`` is our middleware, or a subclass of it."""
    ours = (MIDDLEWARE, OWN_SESSION_MIDDLEWARE)
    if path in ours:
        return True
    try:
        candidate = import_string(path)
    except Exception:
        # Django reports it when it builds the middleware chain.
        return False
    # Compared by name, since this module can't import the middleware.
    bases = getattr(candidate, "__mro__", ())
    return any(f"{base.__module__}.{base.__qualname__}" in ours for base in bases)


def note_login(request: Any, **kwargs: Any) -> None:
    """Record the time of a login. Receives ``user_logged_in``.

    Django's test client logs in with a request of its own that passes no middleware. It is made
    current here until its session is saved, for the receivers of the project.
    """
    session: Any = unwrapped(getattr(request, "session", None))
    if not isinstance(session, SessionBase):
        return
    if STAY in vars(session):
        begin(session, vars(session)[STAY]).logged_in()
    elif request.method is None and not is_current():
        stay, token = enter(request)
        visit = begin(session, stay)
        visit.logged_in()
        visit.once_saved = partial(leave, stay, token)


@contextmanager
def use_request(request: HttpRequest) -> Iterator[HttpRequest]:
    """Make ``request`` current inside the ``with`` block, and restore the former one after it.

    For tests, and for code that has a request but runs outside the middleware. The end of the
    block saves nothing: changed attributes stay in ``request.session``, which is then marked as
    modified. Raises ImproperlyConfigured if the request has no session.
    """
    found: Any = unwrapped(getattr(request, "session", None))
    if not isinstance(found, SessionBase):
        raise ImproperlyConfigured(
            "dirigible_session: use_request() was given a request without a session: its "
            f"request.session is {found!r}. Pass it through {SESSION_MIDDLEWARE!r} first, or set "
            "request.session to a store of your SESSION_ENGINE."
        )
    was_begun = STAY in vars(found)
    stay, token = enter(request)
    try:
        visit = begin(found, stay)
        if visit.closed:
            # Its request has ended, or an earlier use_request().
            visit.closed = False
            visit.scopes = 1
        elif visit.scopes or not was_begun:
            visit.scopes += 1
        stay.arrived = visit.arrived
        is_counted = visit.scopes > 0
        try:
            yield request
            if visit.scopes == 1:
                visit.keep_changes_in_place()
        finally:
            # Several tasks may use the request at once: the last to leave finishes the visit.
            visit.scopes -= is_counted
            if is_counted and not visit.scopes:
                visit.finish(None)
                visit.notify()
    finally:
        leave(stay, token)


@contextmanager
def open_session(
    session_id: str | None = None, *, handle: str | None = None, counts_as_visit: bool = False
) -> Iterator[SessionBase]:
    """Make a stored session current inside the ``with`` block, by its id or its full handle.

    For code outside any request: a task queue, a WebSocket consumer, a shell. Changes are saved at
    the end of the block, but not after an exception. The last access stays as it is, unless
    ``counts_as_visit`` is True. Raises SessionNotFound if there is no such live session, or if it
    was ended elsewhere before its changes were saved. ``handle`` (40 hex digits) works on the
    engines of this package, and raises ImproperlyConfigured on others. Servlet 6.1:
    ``HttpSession.Accessor``.
    """
    session = _store_of(session_id, handle)
    if handle is not None:
        with _not_found():
            session = session.by_digest(handle)
    with open_store(session, counts_as_visit=counts_as_visit):
        yield session


@contextmanager
def open_store(session: Any, *, counts_as_visit: bool = False) -> Iterator[None]:
    """Open a session, as :func:`open_session` does, given as a store with its key."""
    stay, token = enter(SimpleNamespace(session=session))
    visit = begin(session, stay)
    visit.counts = counts_as_visit
    try:
        visit.load_data()
        _check_live(visit)
        yield
        visit.keep_changes_in_place()
        visit.notify()
        if _has_changes(visit):
            with _not_found():
                visit.session.save()
        elif visit.is_touch_due:
            with suppress(UpdateError):
                visit.touch()
    finally:
        try:
            visit.finish(None)
            visit.notify()
        finally:
            leave(stay, token)


@asynccontextmanager
async def aopen_session(
    session_id: str | None = None, *, handle: str | None = None, counts_as_visit: bool = False
) -> AsyncIterator[SessionBase]:
    """Make a stored session current inside the ``async with`` block, by its id or full handle.

    Changes are saved at the end of the block, but not after an exception. Async twin of
    :func:`open_session`.
    """
    session = _store_of(session_id, handle)
    if handle is not None:
        with _not_found():
            session = await session.aby_digest(handle)
    async with aopen_store(session, counts_as_visit=counts_as_visit):
        yield session


@asynccontextmanager
async def aopen_store(session: Any, *, counts_as_visit: bool = False) -> AsyncIterator[None]:
    """Async twin of :func:`open_store`."""
    stay, token = enter(SimpleNamespace(session=session))
    visit = begin(session, stay)
    visit.counts = counts_as_visit
    try:
        await visit.aload_data()
        _check_live(visit)
        yield
        visit.keep_changes_in_place()
        await visit.anotify()
        if _has_changes(visit):
            with _not_found():
                await visit.session.asave()
        elif visit.is_touch_due:
            with suppress(UpdateError):
                await visit.atouch()
    finally:
        try:
            visit.finish(None)
            await visit.anotify()
        finally:
            leave(stay, token)


def _store_of(session_id: str | None, handle: str | None) -> Any:
    """Return a store for the session. Raises SessionNotFound and TypeError for invalid names."""
    store_class = import_module(settings.SESSION_ENGINE).SessionStore
    if handle is None:
        if session_id is None:
            raise SessionNotFound("dirigible_session: None is not the id of a session.")
        _check_text("a session id", session_id)
        # No engine makes keys of other characters, and some stores fail on them.
        is_possible = session_id.isascii() and session_id.isprintable()
        store = store_class(session_id if is_possible else None)
        if issubclass(kind_of(store_class), CookieVisit):
            raise SessionNotFound(
                "dirigible_session: the signed_cookies engine can't open a session by its id: its "
                "sessions are in the browsers of their visitors."
            )
        return store
    if session_id is not None:
        raise TypeError("dirigible_session: pass a session id or a handle, not both.")
    _check_text("a handle", handle)
    if not getattr(store_class, "can_list", False):
        raise ImproperlyConfigured(
            "dirigible_session: only the engines of this package can open a session by its "
            f"handle. SESSION_ENGINE is {settings.SESSION_ENGINE!r}."
        )
    if len(handle) != DIGEST_LENGTH:
        raise SessionNotFound(
            f"dirigible_session: pass the full handle of {DIGEST_LENGTH} hex digits, as "
            "get_handle() returns it."
        )
    return store_class()


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(
            f"dirigible_session: {what} must be a str, not {value!r} ({type(value).__name__})."
        )


def _check_live(visit: Visit) -> None:
    if not visit.client_knows_it:
        raise SessionNotFound("dirigible_session: no live session has this id or handle.")


def _has_changes(visit: Visit) -> bool:
    """Return whether there are changes to save, including those that receivers just made."""
    visit.keep_changes_in_place()
    return visit.session.modified and (visit.has_id or not visit.session.is_empty())


@contextmanager
def _not_found() -> Iterator[None]:
    try:
        yield
    except UpdateError as error:
        raise SessionNotFound(
            "dirigible_session: the session was ended elsewhere while it was open here, so its "
            "changes were not saved."
        ) from error
    except SessionNotFound:
        raise
    except LookupError as error:
        raise SessionNotFound("dirigible_session: no live session has this handle.") from error
