"""Which session is current, and making one current.

A context variable follows a request through its view, the tasks it awaits, ``sync_to_async`` and
``asyncio.to_thread``. A task that outlives its request still holds a copy of the context; the
``closed`` flag tells it that the request is over.
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
    """One stay of a request, or of an opened session, in a context; it begins when it is made."""

    closed = False
    #: The session that was last found loaded; None before, and once this is closed.
    loaded: Any = None

    def __init__(self, holder: Any) -> None:
        #: What has the session: a request, or what stands for one.
        self.holder = holder
        #: Seconds since the epoch.
        self.arrived = time.time()

    @property
    def request(self) -> HttpRequest | None:
        """The request; None for an opened session."""
        return None if isinstance(self.holder, SimpleNamespace) else self.holder

    def close(self) -> None:
        """Tell the tasks that still remember this one that it is over."""
        self.closed = True
        self.loaded = None

    @property
    def visit(self) -> Visit:
        """The visit; the view may have exchanged its session, so each call looks it up."""
        return begin(self.holder.session, self)


current: ContextVar[Current | None] = ContextVar("dirigible_session_current", default=None)


def enter(holder: Any) -> tuple[Current, Token[Current | None]]:
    """Make what has a session current; :func:`leave` ends that."""
    stay = Current(holder)
    return stay, current.set(stay)


def leave(stay: Current, token: Token[Current | None]) -> None:
    """Restore what was current before, and tell the tasks that still remember this one."""
    stay.close()
    try:
        current.reset(token)
    except ValueError:
        # A generator may be closed in another context than the one it was begun in, as a fixture of
        # pytest's is, or an async generator that its loop finalizes. A token is of no use there,
        # nor needed: whoever still finds this one finds it closed.
        return


def is_current() -> bool:
    """Return whether a session is in reach here."""
    stay = current.get()
    return stay is not None and not stay.closed


def require(function: str) -> Current:
    """Return what is current here; ``function`` is who asks, for the error."""
    stay = current.get()
    if stay is None or stay.closed:
        raise _error(function)
    return stay


def mark_passive() -> None:
    """Let the current request, if there is one, not count as an access of its client."""
    stay = current.get()
    if stay is not None and not stay.closed:
        stay.visit.is_marked_passive = True


def _error(function: str) -> NoCurrentRequest:
    try:
        is_installed = any(map(_names_our_middleware, settings.MIDDLEWARE))
    except ImproperlyConfigured:
        # Without settings there are no requests: it is not MIDDLEWARE that is at fault.
        is_installed = True
    return NoCurrentRequest(function) if is_installed else MiddlewareMissing(function)


def _names_our_middleware(path: str) -> bool:
    """Return whether a line of ``MIDDLEWARE`` names our middleware, or a subclass of it."""
    ours = (MIDDLEWARE, OWN_SESSION_MIDDLEWARE)
    if path in ours:
        return True
    try:
        candidate = import_string(path)
    except Exception:
        # Django says so when it builds the middleware chain.
        return False
    # By name, since this module stands below the middleware.
    bases = getattr(candidate, "__mro__", ())
    return any(f"{base.__module__}.{base.__qualname__}" in ours for base in bases)


def note_login(request: Any, **kwargs: Any) -> None:
    """Receive ``user_logged_in``: the session's user was authenticated now.

    Django's test client logs in with a request that it makes up. No middleware sees that one, so it
    is current from here until its session is saved, for the receivers of the project.
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
    """Make ``request`` current inside the ``with`` block, and restore what was before.

    For tests, and for code that has a request but runs outside the middleware. It saves nothing:
    what changed is in ``request.session``, marked as modified. ImproperlyConfigured if the request
    has no session.
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
        if visit.finished:
            # What made it current before has ended.
            visit.finished = False
            visit.scopes = 1
        elif visit.scopes or not was_begun:
            visit.scopes += 1
        stay.arrived = visit.arrived
        with _last_one_out(visit):
            yield request
    finally:
        leave(stay, token)


@contextmanager
def _last_one_out(visit: Visit) -> Iterator[None]:
    """Finish the visit at the end, where several tasks have the request only in the last."""
    is_counted = visit.scopes > 0
    try:
        yield
        if visit.scopes == 1:
            visit.keep_changes_in_place()
    finally:
        visit.scopes -= is_counted
        if is_counted and not visit.scopes:
            visit.finish(None)
            visit.notify()


@contextmanager
def open_session(
    session_id: str | None = None, *, handle: str | None = None, counts_as_visit: bool = False
) -> Iterator[SessionBase]:
    """Make a stored session current inside the ``with`` block, by its id or its full handle.

    For code outside any request: a task queue, a WebSocket consumer, a shell. What changed is
    saved at the end, not on an exception. The last access stays as it is, unless
    ``counts_as_visit`` is True. SessionNotFound if there is no such live session, or it was ended
    before the end. By ``handle`` (40 hex digits) only on the engines of this package,
    ImproperlyConfigured on others. Servlet 6.1: ``HttpSession.Accessor``.
    """
    session = _store_of(session_id, handle)
    if handle is not None:
        with _not_found():
            session = session.by_digest(handle)
    with open_store(session, counts_as_visit=counts_as_visit):
        yield session


@contextmanager
def open_store(session: Any, *, counts_as_visit: bool = False) -> Iterator[None]:
    """Do for a store that has a session key what :func:`open_session` does for an id."""
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

    What changed is saved at the end, not on an exception; the last access stays as it is, unless
    ``counts_as_visit`` is True. Async twin of :func:`open_session`.
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
    """Return the store of a session; SessionNotFound, TypeError if there can be none."""
    store_class = import_module(settings.SESSION_ENGINE).SessionStore
    if handle is None:
        if session_id is None:
            raise SessionNotFound("dirigible_session: None is not the id of a session.")
        _check_text("a session id", session_id)
        # No engine makes such a key, and some stores fail on one.
        is_possible = session_id.isascii() and session_id.isprintable()
        store = store_class(session_id if is_possible else None)
        if issubclass(kind_of(store_class), CookieVisit):
            raise SessionNotFound(
                "dirigible_session: no session can be opened by its id on the signed_cookies "
                "engine: its sessions are in their visitors' browsers."
            )
        return store
    if session_id is not None:
        raise TypeError("dirigible_session: give a session id or a handle, not both.")
    _check_text("a handle", handle)
    if not getattr(store_class, "can_list", False):
        raise ImproperlyConfigured(
            "dirigible_session: a session can be opened by its handle only on the engines of this "
            f"package, whose stores are keyed by it. SESSION_ENGINE is {settings.SESSION_ENGINE!r}."
        )
    if len(handle) != DIGEST_LENGTH:
        raise SessionNotFound(
            f"dirigible_session: a session is opened by its full handle of {DIGEST_LENGTH} hex "
            "digits, as get_handle() returns it."
        )
    return store_class()


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(
            f"dirigible_session: {what} is a str, not {value!r} ({type(value).__name__})."
        )


def _check_live(visit: Visit) -> None:
    if not visit.client_knows_it:
        raise SessionNotFound("dirigible_session: no live session has this id or handle.")


def _has_changes(visit: Visit) -> bool:
    """Return whether there is something to save, what receivers changed just now included."""
    visit.keep_changes_in_place()
    return visit.session.modified and (visit.has_id or not visit.session.is_empty())


@contextmanager
def _not_found() -> Iterator[None]:
    try:
        yield
    except UpdateError as error:
        raise SessionNotFound(
            "dirigible_session: the session was ended elsewhere while it was open here; "
            "its changes were not saved."
        ) from error
    except SessionNotFound:
        raise
    except LookupError as error:
        raise SessionNotFound("dirigible_session: no live session has this handle.") from error
