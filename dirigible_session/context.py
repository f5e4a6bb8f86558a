"""Which session is current: one ``ContextVar``, set and restored by token.

A context variable follows a request through its view, the tasks it awaits, ``sync_to_async`` and
``asyncio.to_thread``. A task that outlives its request still holds a copy of the context; the
``closed`` flag tells it that the request is over.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Protocol

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .exceptions import MIDDLEWARE, MiddlewareMissing, NoCurrentRequest

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest


class HasSession(Protocol):
    """What can be current: a request, or anything else with a ``session``."""

    session: SessionBase


class Current:
    """One stay of a request (or an opened session) in a context; it begins when it is made."""

    __slots__ = ("_token", "arrived", "closed", "holder", "loaded", "request")

    def __init__(self, holder: HasSession, request: HttpRequest | None, arrived: float) -> None:
        self.holder = holder
        self.request = request
        #: Seconds since the epoch.
        self.arrived = arrived
        self.closed = False
        #: The session that was last found loaded, to the knowledge of its tracker.
        self.loaded: SessionBase | None = None
        self._token: Token[Current | None] = _current.set(self)

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
