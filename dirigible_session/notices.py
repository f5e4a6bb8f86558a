"""What the receivers of the signals have yet to be told about one session."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.dispatch import Signal
    from django.http import HttpRequest

logger = logging.getLogger("dirigible_session")

Notice = tuple["Signal", dict[str, Any]]


class Notices:
    """Signals of one session, noted where they arise and sent where there is time to wait.

    A change is noted by code that is the same for sync and async callers. Each caller then sends
    what was noted in its own way.
    """

    __slots__ = ("_notices", "_request", "_session")

    def __init__(self, session: SessionBase, request: HttpRequest | None) -> None:
        self._session = session
        self._request = request
        self._notices: list[Notice] = []

    def note(self, signal: Signal, **named: Any) -> None:
        """Remember to send ``signal``, if anybody listens to it."""
        if signal.receivers:
            addressed = {
                "sender": type(self._session),
                "session": self._session,
                "request": self._request,
            }
            self._notices.append((signal, addressed | named))

    def send(self) -> None:
        """Send what was noted; a receiver that raises is logged.

        In an event loop no coroutine can be waited for here, so what an async receiver waits for
        stays noted until the next :meth:`asend`, at the latest at the end of the request.
        """
        notices, self._notices = self._notices, []
        for notice in notices:
            if _must_be_awaited(*notice):
                self._notices.append(notice)
            else:
                _send(*notice)

    async def asend(self) -> None:
        """Send what was noted; a receiver that raises is logged."""
        notices, self._notices = self._notices, []
        for notice in notices:
            await _asend(*notice)


def _must_be_awaited(signal: Signal, named: dict[str, Any]) -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    _, async_receivers = signal._live_receivers(named["sender"])
    return bool(async_receivers)


def _send(signal: Signal, named: dict[str, Any]) -> None:
    try:
        signal.send_robust(**named)
    except Exception:
        # send_robust logs a receiver that raised by its __qualname__, and not each has one.
        logger.exception("A receiver of a session signal failed.")


async def _asend(signal: Signal, named: dict[str, Any]) -> None:
    try:
        await signal.asend_robust(**named)
    except Exception:
        logger.exception("A receiver of a session signal failed.")
