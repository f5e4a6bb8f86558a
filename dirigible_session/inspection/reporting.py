"""From a session as stored to a session as shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from dirigible_session import handles, lifecycle
from dirigible_session.attributes import is_name
from dirigible_session.backends.listing import StoredSession
from dirigible_session.conf import PREFIX, conf
from dirigible_session.lifecycle import Times

from .errors import WrongSetting
from .records import KeyedSession, RecordState, SessionRecord
from .redaction import Redactor
from .users import USER_KEY

BAD_EXPIRY = "expiry is neither a number nor a date"

#: Stands in for times that are unknown where only the interval is asked for.
_NO_TIMES = Times(0, 0)


class Judged(NamedTuple):
    """A stored session, and what its expiry makes of it."""

    stored: StoredSession
    state: RecordState
    #: When it ends, in seconds since the epoch; None: never, or unknown.
    end: float | None
    interval: int | None
    #: Why it is unreadable.
    reason: str


class Reporter:
    """Makes records, all as of one moment and by one rule of redaction."""

    def __init__(self, *, cookie_age: int, now: float, reveal: bool) -> None:
        """Find what binds all sessions; WrongSetting, UnknownFilter if that makes no sense."""
        self.now = now
        self._reveal = reveal
        _check_seconds("SESSION_COOKIE_AGE", cookie_age)
        self._cookie_age = cookie_age
        self._absolute_timeout = conf.absolute_timeout
        if self._absolute_timeout is not None:
            _check_seconds(f"{PREFIX}ABSOLUTE_TIMEOUT", self._absolute_timeout)
        self._redacted = Redactor().redacted

    def judged(self, stored: StoredSession) -> Judged:
        """Return what there is to say of a session's state."""
        if stored.data is None:
            return Judged(stored, "unreadable", stored.expires, None, stored.error)
        try:
            end = self._end(stored.data, stored)
            interval = self._interval(stored.data, stored.times)
        except (ValueError, TypeError, OverflowError):
            return Judged(stored, "unreadable", stored.expires, None, BAD_EXPIRY)
        is_active = end is None or end > self.now
        return Judged(stored, "active" if is_active else "expired", end, interval, "")

    def _end(self, data: Mapping[str, Any], stored: StoredSession) -> float | None:
        if stored.times is None:
            return stored.expires
        end = lifecycle.end_of(
            data,
            stored.times,
            cookie_age=self._cookie_age,
            absolute_timeout=self._absolute_timeout,
        )
        if end is None:
            # A store that knows one expiry only has one for a session that never times out too.
            return stored.expires if (stored.expires or self.now + 1) <= self.now else None
        return end if stored.expires is None else min(end, stored.expires)

    def record(self, judged: Judged, username: str | None) -> SessionRecord:
        """Return what is shown of a stored session; secrets and key only when revealing."""
        stored, state, end, interval, reason = judged
        data = stored.data if stored.data is not None and state != "unreadable" else {}
        attributes = attributes_of(data)
        times = stored.times
        return SessionRecord(
            digest=stored.digest,
            handle=stored.digest[: handles.HANDLE_LENGTH],
            state=state,
            user_id=user_id_of(data),
            username=username,
            created=None if times is None else utc(times.created),
            last_accessed=None if times is None else utc(times.accessed),
            expires=None if end is None else utc(end),
            max_inactive_interval=interval,
            size=stored.size,
            attributes=attributes if self._reveal else self._redacted(attributes),
            session_key=(
                stored.session_key if self._reveal and isinstance(stored, KeyedSession) else None
            ),
            error=reason,
        )

    def _interval(self, data: Mapping[str, Any], times: Times | None) -> int:
        return lifecycle.max_inactive_interval(
            data, times or _NO_TIMES, cookie_age=self._cookie_age, now=self.now
        )


def _check_seconds(setting: str, value: object) -> None:
    # No session is to be called unreadable, and be ended as such, because a setting is wrong.
    if not lifecycle.is_seconds(value):
        kind = type(value).__name__
        raise WrongSetting(f"{setting} is no number of seconds that dates can bear: {kind}.")


def attributes_of(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the attributes in a session's data: what has a name, and no name of Django's own.

    What a cache pickled may have keys that are no names.
    """
    return {name: value for name, value in data.items() if is_name(name)}


def user_id_of(data: Mapping[str, Any] | None) -> str | None:
    """Return the primary key of who is logged in, as the session holds it; None if nobody is."""
    user_id = None if data is None else data.get(USER_KEY)
    return None if user_id is None else str(user_id)


def utc(timestamp: float) -> datetime | None:
    """Return a moment as an aware datetime in UTC; None for one that is beyond dates."""
    try:
        return datetime.fromtimestamp(timestamp, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
