"""Signals for audit, clean-up and metrics.

The sender is the session's store class. Each signal has ``session`` and ``request`` (None outside
a request). An exception in a receiver is logged, and stops nothing. The signals correspond to the
Servlet interfaces ``HttpSessionListener``, ``HttpSessionIdListener`` and
``HttpSessionAttributeListener``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync, sync_to_async
from django.dispatch import Signal

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

#: Sent once, at the end of the request in which a new session was stored, by the facade or not. The
#: session may be stored so late that the request is not current any more, and changes that a
#: receiver makes are lost.
session_created = Signal()


class Reason(str, Enum):
    """Why a stored session ended: the ``reason`` of :data:`session_invalidated`."""

    #: The facade's ``invalidate()``.
    INVALIDATED = "invalidated"
    #: ``request.session.flush()``: Django's logout, a login as another user, a password that was
    #: changed elsewhere.
    FLUSHED = "flushed"
    #: A request came with the id of a session that had been idle for too long.
    IDLE = "idle"
    #: A request came with the id of a session that was past the absolute timeout.
    TIMEOUT = "timeout"
    #: Its user logged in again, and had more sessions than allowed.
    LIMIT = "limit"
    #: Its user was deleted or deactivated.
    USER = "user"
    #: A command, the admin, ``Inspector``, ``end_session`` or ``end_sessions``.
    OPERATOR = "operator"


#: Sent once for every stored session that ends, with its attributes still readable; with ``handle``
#: (12 digits), ``user_id`` (of the user who was logged in, as text; otherwise None) and ``reason``
#: (a :class:`Reason`). If sync code ends it in an event loop, async receivers are called later.
session_invalidated = Signal()

#: Sent when the session's id has changed, by the facade or a login; with ``old_handle`` and
#: ``new_handle``.
session_id_changed = Signal()

#: Sent when the facade has added an attribute; with ``name`` and ``value``.
attribute_added = Signal()

#: Sent when the facade has replaced an attribute and, at the end of the request, for a value that
#: was changed in place; with ``name``, ``value`` and ``old_value``.
attribute_replaced = Signal()

#: Sent when the facade has removed an attribute; with ``name`` and ``old_value``.
attribute_removed = Signal()

#: Not public: sent when a session was saved after a login; with ``session`` and ``request``.
login_stored = Signal()

logger = logging.getLogger("dirigible_session")

PendingSignal = tuple[Signal, dict[str, Any]]
Receivers = Sequence[Callable[..., Any]]

#: References to background tasks, since an event loop has weak references only.
_tasks: set[asyncio.Task[None]] = set()


class Outbox:
    """The pending signals of one session.

    A change is noted by code that sync and async callers share. Each caller then sends the pending
    signals in its own way.
    """

    __slots__ = ("_addressed", "_pending", "_waiting")

    def __init__(
        self,
        session: SessionBase,
        request: HttpRequest | None,
        sender: type[SessionBase] | None = None,
    ) -> None:
        self._addressed = {
            "sender": sender or type(session),
            "session": session,
            "request": request,
        }
        self._pending: list[PendingSignal] = []
        #: The signals that only the sync receivers have got yet.
        self._waiting: list[PendingSignal] = []

    def note(self, signal: Signal, **named: Any) -> None:
        """Remember to send ``signal``, if it has receivers."""
        if signal.receivers:
            self._pending.append((signal, self._addressed | named))

    def send(self, *, is_last: bool = False) -> None:
        """Send the pending signals; log exceptions of receivers.

        A sync function can't await coroutines in an event loop, so async receivers are called by
        the next :meth:`asend`, or by a background task if ``is_last``.
        """
        noted, self._pending = self._pending, []
        for pending in noted:
            receivers, async_receivers = _receivers_of(*pending)
            _call(receivers, *pending)
            if async_receivers:
                self._waiting.append(pending)
        if not self._waiting:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            async_to_sync(self.asend)()
        else:
            if is_last:
                task = loop.create_task(self.asend())
                _tasks.add(task)
                task.add_done_callback(_tasks.discard)

    async def asend(self) -> None:
        """Send the pending signals; log exceptions of receivers."""
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            await _acall(_receivers_of(*pending)[1], *pending)
        noted, self._pending = self._pending, []
        for pending in noted:
            receivers, async_receivers = _receivers_of(*pending)
            if receivers:
                await sync_to_async(_call)(receivers, *pending)
            await _acall(async_receivers, *pending)


def _receivers_of(signal: Signal, named: dict[str, Any]) -> tuple[Receivers, Receivers]:
    # Signal.send_robust() logs a failing receiver by its __qualname__, and so fails on a receiver
    # without one, such as a functools.partial.
    return signal._live_receivers(named["sender"])


def _call(receivers: Receivers, signal: Signal, named: dict[str, Any]) -> None:
    for receiver in receivers:
        with _failure_logged(receiver):
            receiver(signal=signal, **named)


async def _acall(receivers: Receivers, signal: Signal, named: dict[str, Any]) -> None:
    for receiver in receivers:
        with _failure_logged(receiver):
            await receiver(signal=signal, **named)


@contextmanager
def _failure_logged(receiver: object) -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.exception("A receiver of a session signal failed: %r", receiver)
