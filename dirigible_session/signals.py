"""Signals for audit, clean-up and metrics.

The sender is the session's store class. Each carries ``session`` and ``request`` (None where
there is none). A receiver that raises is logged and stops nothing. After the Servlet interfaces
``HttpSessionListener``, ``HttpSessionIdListener`` and ``HttpSessionAttributeListener``.
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

#: Once, at the end of the request in which a new session was stored, whoever created it. It may be
#: stored so late that no request is current any more, and what a receiver changes is not kept.
session_created = Signal()


class Reason(str, Enum):
    """Why a stored session ended: the ``reason`` of :data:`session_invalidated`."""

    #: The facade's ``invalidate()``.
    INVALIDATED = "invalidated"
    #: ``request.session.flush()``: Django's logout, a login as somebody else, a password that was
    #: changed elsewhere.
    FLUSHED = "flushed"
    #: A request came with the id of a session whose client had stayed away too long.
    IDLE = "idle"
    #: A request came with the id of a session that was past the absolute timeout.
    TIMEOUT = "timeout"
    #: Its user logged in once more, and has more sessions than allowed.
    LIMIT = "limit"
    #: Its user was deleted or deactivated.
    USER = "user"
    #: A command, the admin, ``Inspector``, ``end_session`` or ``end_sessions``.
    OPERATOR = "operator"


#: Once for every stored session that ends, its attributes still readable; with ``handle`` (12
#: digits), ``user_id`` (of who was logged in, as text; else None) and ``reason`` (a
#: :class:`Reason`). Where sync code ends it in an event loop, async receivers are told after that.
session_invalidated = Signal()

#: The facade changed the session's id; with ``old_handle`` and ``new_handle``.
session_id_changed = Signal()

#: The facade added an attribute; with ``name`` and ``value``.
attribute_added = Signal()

#: The facade replaced an attribute, or a value that it gave out was changed in place (sent at the
#: end of the request); with ``name``, ``value`` and ``old_value``.
attribute_replaced = Signal()

#: The facade removed an attribute; with ``name`` and ``old_value``.
attribute_removed = Signal()

#: Not public: a session was stored with the login of its user; with ``session`` and ``request``.
login_stored = Signal()

logger = logging.getLogger("dirigible_session")

Notice = tuple[Signal, dict[str, Any]]
Receivers = Sequence[Callable[..., Any]]

#: What runs in the background is kept here, since an event loop keeps no task alive.
_tasks: set[asyncio.Task[None]] = set()


class Outbox:
    """Signals of one session, noted where they arise and sent where there is time to wait.

    A change is noted by code that is the same for sync and async callers. Each caller then sends
    what was noted in its own way.
    """

    __slots__ = ("_addressed", "_notices", "_waiting")

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
        self._notices: list[Notice] = []
        #: Notices that only their async receivers have yet to be told.
        self._waiting: list[Notice] = []

    def note(self, signal: Signal, **named: Any) -> None:
        """Remember to send ``signal``, if anybody listens to it."""
        if signal.receivers:
            self._notices.append((signal, self._addressed | named))

    def send(self, *, is_last: bool = False) -> None:
        """Send what was noted; a receiver that raises is logged.

        In an event loop no coroutine can be waited for here, so the async receivers are told at
        the next :meth:`asend`, or in the background where this is the last chance.
        """
        notices, self._notices = self._notices, []
        for notice in notices:
            receivers, async_receivers = _receivers_of(*notice)
            _call(receivers, *notice)
            if async_receivers:
                self._waiting.append(notice)
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
        """Send what was noted; a receiver that raises is logged."""
        waiting, self._waiting = self._waiting, []
        for notice in waiting:
            await _acall(_receivers_of(*notice)[1], *notice)
        notices, self._notices = self._notices, []
        for notice in notices:
            receivers, async_receivers = _receivers_of(*notice)
            if receivers:
                await sync_to_async(_call)(receivers, *notice)
            await _acall(async_receivers, *notice)


def _receivers_of(signal: Signal, named: dict[str, Any]) -> tuple[Receivers, Receivers]:
    # Signal.send_robust() would do, but it logs a receiver that raised by its __qualname__, and
    # fails on one that has none, such as a functools.partial.
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
