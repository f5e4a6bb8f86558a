"""Which session is current: one ``ContextVar``, set and restored by token.

A context variable follows a request through its view, the tasks it awaits, ``sync_to_async`` and
``asyncio.to_thread``. A task that outlives its request still holds a copy of the context; the
``closed`` flag tells it that the request is over.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Protocol

from django.conf import settings

from .exceptions import MIDDLEWARE, MiddlewareMissing, NoCurrentRequest

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest


class HasSession(Protocol):
    """What can be current: a request, or anything else with a ``session``."""

    session: SessionBase


class Current:
    """One stay of a request (or an opened session) in a context; it begins when it is made."""

    __slots__ = ("_token", "arrived", "closed", "holder", "request")

    def __init__(self, holder: HasSession, request: HttpRequest | None, arrived: float) -> None:
        self.holder = holder
        self.request = request
        #: Seconds since the epoch.
        self.arrived = arrived
        self.closed = False
        self._token: Token[Current | None] = _current.set(self)

    def leave(self) -> None:
        """Restore what was current before, and tell the tasks that still remember this one."""
        self.closed = True
        _current.reset(self._token)


_current: ContextVar[Current | None] = ContextVar("dirigible_session_current", default=None)


def is_current() -> bool:
    """Return whether a session is in reach here."""
    current = _current.get()
    return current is not None and not current.closed


def require(function: str) -> Current:
    """Return what is current here; ``function`` is who asks, for the error."""
    current = _current.get()
    if current is None or current.closed:
        raise (
            NoCurrentRequest(function)
            if MIDDLEWARE in settings.MIDDLEWARE
            else MiddlewareMissing(function)
        )
    return current
