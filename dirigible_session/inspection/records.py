"""Records of stored sessions, fit to be shown, and counts of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from dirigible_session import handles, lifecycle
from dirigible_session.conf import PREFIX, conf
from dirigible_session.lifecycle import Times
from dirigible_session.stored import RecordState, StoredSession, attributes_of, user_id_of

from .errors import WrongSetting
from .histogram import Histogram, Tally
from .redaction import Redactor

#: The keys of a record in json, the columns of csv, in this order.
COLUMNS = (
    "handle",
    "state",
    "user_id",
    "username",
    "created",
    "last_accessed",
    "expires",
    "max_inactive_interval",
    "size",
    "attributes",
)
REVEALED_COLUMNS = (*COLUMNS, "session_key")


@dataclass(slots=True)
class SessionRecord:
    """One stored session, fit to be shown: its key hidden and its secrets as stars.

    ``session_key`` is None, and values whose names look secret are stars, unless the reader was
    told to reveal them. Datetimes are aware and in UTC, None if unknown; an ``expires`` of None
    also says that the session never times out.
    """

    #: The whole digest of the session's key; the handle is its beginning.
    digest: str
    handle: str
    state: RecordState
    user_id: str | None
    username: str | None
    created: datetime | None
    last_accessed: datetime | None
    expires: datetime | None
    #: Seconds; zero or less: never times out.
    max_inactive_interval: int | None
    #: Bytes as stored.
    size: int
    #: Without Django's own names, which begin with an underscore.
    attributes: dict[str, Any]
    session_key: str | None = None
    #: Why the session is unreadable.
    error: str = ""
    #: When its user last logged in, as far as that is known.
    authenticated: datetime | None = None
    #: Whether it is the session of the current request: only ``users.sessions_of`` tells.
    is_current: bool = False


BAD_EXPIRY = "expiry is neither a number nor a date"

#: A placeholder for unknown times if only the interval is needed.
_NO_TIMES = Times(0, 0)


class Reporter:
    """Finds the state of stored sessions at one moment, and makes records of them."""

    def __init__(self, *, cookie_age: int, now: float, reveal: bool = False) -> None:
        """Read the settings; WrongSetting, UnknownFilter if they make no sense."""
        self.now = now
        self._reveal = reveal
        _check_seconds("SESSION_COOKIE_AGE", cookie_age)
        self._cookie_age = cookie_age
        self._absolute_timeout = conf.absolute_timeout
        if self._absolute_timeout is not None:
            _check_seconds(f"{PREFIX}ABSOLUTE_TIMEOUT", self._absolute_timeout)
        self._redacted = Redactor().redacted

    def judge(self, stored: StoredSession) -> StoredSession:
        """Fill in the state, the end and the interval of a session, and return it."""
        stored.state, stored.end = "unreadable", stored.expires
        data, times = stored.data, stored.times
        if data is None:
            return stored
        try:
            end = self._end(data, stored)
            stored.interval = lifecycle.max_inactive_interval(
                data, times or _NO_TIMES, cookie_age=self._cookie_age, now=self.now
            )
        except (ValueError, TypeError, OverflowError):
            stored.error = BAD_EXPIRY
            return stored
        stored.end = end
        stored.state = "active" if end is None or end > self.now else "expired"
        return stored

    def _end(self, data: Mapping[str, Any], stored: StoredSession) -> float | None:
        is_reckoned = stored.times is not None
        if is_reckoned or not isinstance(data.get(lifecycle.EXPIRY_KEY), int):
            lifecycle.check_expiry(data)
        if stored.times is None:
            return stored.expires
        end = lifecycle.end_of(
            data,
            stored.times,
            cookie_age=self._cookie_age,
            absolute_timeout=self._absolute_timeout,
        )
        if end is None:
            # Some stores need an expiry even for a session that never times out.
            return stored.expires if (stored.expires or self.now + 1) <= self.now else None
        return end if stored.expires is None else min(end, stored.expires)

    def record(self, stored: StoredSession, username: str | None) -> SessionRecord:
        """Return a record of a session that was judged; secrets and key only if revealing."""
        data = (stored.data or {}) if stored.state != "unreadable" else {}
        attributes = attributes_of(data)
        created = last_accessed = authenticated = None
        times = stored.times
        if times is not None:
            created, last_accessed = utc(times.created), utc(times.accessed)
            authenticated = utc(times.authenticated)
        # By position, as the fields of SessionRecord are listed: by name takes twice as long.
        return SessionRecord(
            stored.digest,
            stored.digest[: handles.HANDLE_LENGTH],
            stored.state or "unreadable",
            user_id_of(data),
            username,
            created,
            last_accessed,
            utc(stored.end),
            stored.interval,
            stored.size,
            attributes if self._reveal else self._redacted(attributes),
            stored.session_key if self._reveal else None,
            stored.error,
            authenticated,
        )


def _check_seconds(setting: str, value: object) -> None:
    # A wrong setting must not make sessions unreadable, which may get them ended.
    if not lifecycle.is_seconds(value):
        kind = type(value).__name__
        raise WrongSetting(
            f"{setting} is not a number of seconds that a date can hold: its type is {kind}."
        )


def utc(timestamp: float | None) -> datetime | None:
    """Return a moment as an aware datetime in UTC; None if unknown, or beyond dates."""
    if timestamp is None:
        return None
    try:
        return datetime.fromtimestamp(timestamp, timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True)
class Summary:
    """Counts of sessions."""

    active: int
    expired: int
    unreadable: int
    #: Readable sessions with a user who is logged in, and those without.
    authenticated: int
    anonymous: int
    #: The number of different users in authenticated sessions.
    users: int
    #: Bytes as stored: of all sessions, and of the largest one.
    bytes: int
    largest: int
    #: When the oldest was created, in UTC; None if unknown.
    oldest: datetime | None
    #: How many sessions have an attribute of a name, the most frequent first.
    attributes: dict[str, int]
    #: When they were created and last accessed.
    created: Histogram = field(default_factory=Histogram)
    last_accessed: Histogram = field(default_factory=Histogram)
    #: How many stored sessions were read, and whether these were all.
    read: int = 0
    is_complete: bool = True


def summarized(sessions: Iterable[StoredSession], now: float) -> Summary:
    """Count sessions that were judged as of ``now``.

    Memory grows with the number of different users and names of attributes.
    """
    states: Counter[str] = Counter()
    names: Counter[str] = Counter()
    users: set[str] = set()
    authenticated = total = largest = 0
    oldest = float("inf")
    created, last_accessed = Tally(now), Tally(now)
    for stored in sessions:
        states[stored.state or "unreadable"] += 1
        total += stored.size
        largest = max(largest, stored.size)
        if stored.state == "unreadable" or stored.data is None:
            continue
        user_id = user_id_of(stored.data)
        if user_id is not None:
            authenticated += 1
            users.add(user_id)
        names.update(attributes_of(stored.data).keys())
        times = stored.times
        created.add(None if times is None else times.created)
        last_accessed.add(None if times is None else times.accessed)
        if times is not None:
            oldest = min(oldest, times.created)
    return Summary(
        active=states["active"],
        expired=states["expired"],
        unreadable=states["unreadable"],
        authenticated=authenticated,
        anonymous=states["active"] + states["expired"] - authenticated,
        users=len(users),
        bytes=total,
        largest=largest,
        oldest=utc(oldest),
        attributes=dict(sorted(names.items(), key=lambda named: (-named[1], named[0]))),
        created=created.histogram(),
        last_accessed=last_accessed.histogram(),
    )
