"""The times of one session while a request works on it: when, for how long, until what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import lifecycle
from .lifecycle import Times

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

Data = dict[str, Any]


class Timekeeping(ABC):
    """What a tracker knows of its session's times. All expect the session to be loaded."""

    session: SessionBase
    #: When the request arrived, in seconds since the epoch.
    arrived: float
    #: Whether this counts as an access by the session's client.
    is_visit = True
    _times: Times | None = None

    @property
    @abstractmethod
    def data(self) -> Data:
        """The session's data, loaded if need be."""

    @abstractmethod
    async def aload_data(self) -> None:
        """Load the session's data if need be."""

    @property
    def times(self) -> Times:
        """When the session was created and last accessed before this request."""
        return self._times or Times(self.arrived, self.arrived)

    @property
    def max_inactive_interval(self) -> int:
        """The seconds that the session may idle; zero or less: no limit."""
        return lifecycle.max_inactive_interval(
            self.data,
            self.times,
            cookie_age=self.session.get_session_cookie_age(),
            now=self.arrived,
        )

    def set_max_inactive_interval(self, interval: object) -> None:
        """Let the session idle for ``interval`` seconds; zero or less: for ever."""
        seconds = lifecycle.checked_interval(interval, now=self.arrived)
        session, data = self.session, self.data
        expiry = lifecycle.stored_expiry(seconds)
        if session.get_expire_at_browser_close():
            data[lifecycle.BROWSER_CLOSE_KEY] = expiry
        else:
            data.pop(lifecycle.BROWSER_CLOSE_KEY, None)
        type(session).set_expiry(session, expiry)
        self._watch_expiry()
        self._times = replace(self.times, interval=seconds if seconds <= 0 else None)

    # The doors.

    def _watch_expiry(self) -> None:
        doors = vars(self.session)
        doors["set_expiry"], doors["aset_expiry"] = self.set_expiry, self.aset_expiry
        doors["get_expire_at_browser_close"] = self.get_expire_at_browser_close
        doors["aget_expire_at_browser_close"] = self.aget_expire_at_browser_close

    def set_expiry(self, value: Any) -> None:
        """Set an expiry as Django means it: nothing is left of the interval that was set."""
        self.data.pop(lifecycle.BROWSER_CLOSE_KEY, None)
        if self.times.interval is not None:
            self._times = replace(self.times, interval=None)
        type(self.session).set_expiry(self.session, value)

    async def aset_expiry(self, value: Any) -> None:
        """Async twin of :meth:`set_expiry`."""
        await self.aload_data()
        self.set_expiry(value)

    def get_expire_at_browser_close(self) -> bool:
        """Return whether the cookie goes with the browser, as it did before an interval was set."""
        return lifecycle.stays_for_browser(self.data) or type(
            self.session
        ).get_expire_at_browser_close(self.session)

    async def aget_expire_at_browser_close(self) -> bool:
        """Async twin of :meth:`get_expire_at_browser_close`."""
        await self.aload_data()
        return self.get_expire_at_browser_close()

    def _times_to_store(self) -> Times:
        times = self.times
        accessed = max(times.accessed, self.arrived) if self.is_visit else times.accessed
        return replace(times, accessed=accessed)
