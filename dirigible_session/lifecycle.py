"""Arithmetic on the times of a session: its creation, last access, interval and login.

Times are seconds since the epoch, and the clock is passed in. An engine with columns for the times
declares ``keeps_times = True`` and has them in its ``times``. On all other engines they are in the
session's data, under one reserved key: see ``current.engines``.

A positive interval is stored as Django's ``_session_expiry``, so that every store and every tool
of Django applies it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeGuard

from django.utils.timezone import get_default_timezone, make_aware

TIMES_KEY = "_dirigible"
ID_KEY = "_dirigible_id"
BROWSER_CLOSE_KEY = "_dirigible_browser_close"
EXPIRY_KEY = "_session_expiry"

#: The expiry of a session that never times out: browsers keep a cookie for 400 days at most.
COOKIE_LIFETIME = 400 * 24 * 60 * 60

#: The last moment to accept. The rest is a margin, for sums that must not overflow a ``datetime``.
LAST_DATE = datetime(9998, 12, 31, tzinfo=timezone.utc).timestamp()

#: A negative interval is stored in 64 bits.
SMALLEST_INTERVAL = -(2**63)

#: The stored last access may lag by at most one twentieth of the interval.
LAG = 20


@dataclass(frozen=True)
class Times:
    """Seconds since the epoch, and the interval if it was set to "never times out"."""

    created: float
    accessed: float
    #: The interval of ``set_max_inactive_interval``, if it is zero or less. It applies as long as
    #: ``_session_expiry`` is ``COOKIE_LIFETIME``: a later ``set_expiry`` overrides it.
    interval: int | None = None
    #: When the session's user last logged in; None: unknown, or without a user.
    authenticated: float | None = None

    def as_record(self) -> dict[str, float | int]:
        """Return the times as a dict, for the session's data."""
        record: dict[str, float | int] = {"created": self.created, "accessed": self.accessed}
        if self.interval is not None:
            record["interval"] = self.interval
        if self.authenticated is not None:
            record["authenticated"] = self.authenticated
        return record

    @classmethod
    def from_record(cls, record: object) -> Times | None:
        """Return the times in the session's data; None if there are none, or they are damaged."""
        if not isinstance(record, dict):
            return None
        created, accessed = record.get("created"), record.get("accessed")
        if not is_seconds(created) or not is_seconds(accessed):
            return None
        interval, authenticated = record.get("interval"), record.get("authenticated")
        return cls(
            created,
            accessed,
            interval if isinstance(interval, int) else None,
            authenticated if is_seconds(authenticated) else None,
        )


def never_times_out(data: Mapping[str, Any], times: Times) -> bool:
    """Return whether the session's interval says that it never times out."""
    return times.interval is not None and data.get(EXPIRY_KEY) == COOKIE_LIFETIME


def stays_for_browser(data: Mapping[str, Any]) -> bool:
    """Return whether the cookie still ends with the browser, although the session has an expiry.

    An expiry of the facade does not change the kind of the cookie, but one of Django's
    ``set_expiry`` does. The key has the expiry that it belongs to.
    """
    return BROWSER_CLOSE_KEY in data and data[BROWSER_CLOSE_KEY] == data.get(EXPIRY_KEY)


def check_expiry(data: Mapping[str, Any]) -> None:
    """Raise ValueError if the data has an expiry that is not one of Django's.

    All functions here treat such an expiry as not set.
    """
    expiry = data.get(EXPIRY_KEY)
    if expiry is not None and fixed_end(data) is None and not _is_number(expiry):
        raise ValueError(f"{EXPIRY_KEY} is neither a number of seconds nor a date")


def fixed_end(data: Mapping[str, Any]) -> float | None:
    """Return when a session with a fixed date of expiry ends; None without such a date."""
    expiry = data.get(EXPIRY_KEY)
    try:
        if isinstance(expiry, str):
            expiry = datetime.fromisoformat(expiry)
        return timestamp(expiry) if isinstance(expiry, datetime) else None
    except (ValueError, OverflowError):
        return None


def _seconds(data: Mapping[str, Any], cookie_age: int) -> float:
    """Return the seconds that a session without a fixed end may be idle."""
    expiry = data.get(EXPIRY_KEY)
    return expiry if expiry and _is_number(expiry) else cookie_age


def _is_number(expiry: object) -> TypeGuard[float]:
    # Neither infinite, NaN, nor an int too large for a float.
    return isinstance(expiry, (int, float)) and abs(expiry) <= sys.float_info.max


def timestamp(moment: datetime) -> float:
    """Return a moment in seconds since the epoch; a naive one is Django's with USE_TZ = False."""
    # Django uses the local time of the process then. That is TIME_ZONE's on Unix, where Django sets
    # it, but not on Windows, nor under a clock that a test has frozen.
    try:
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):
        # A naive date centuries away, which the platform does not support. Any zone will do.
        return make_aware(moment, get_default_timezone()).timestamp()


def max_inactive_interval(
    data: Mapping[str, Any], times: Times, *, cookie_age: int, now: float
) -> int:
    """Return the interval in seconds, with the meaning of Servlet's ``getMaxInactiveInterval``.

    Less than one second is rounded up: zero would mean that the session never times out.
    """
    if EXPIRY_KEY not in data:
        return int(cookie_age)
    if times.interval is not None and never_times_out(data, times):
        return times.interval
    end = fixed_end(data)
    if end is not None:
        return max(1, math.ceil(end - now))
    return int(_seconds(data, cookie_age)) or 1


def idle_end(data: Mapping[str, Any], times: Times, *, cookie_age: int) -> float | None:
    """Return when the session ends if its client does not come back; None: never."""
    if EXPIRY_KEY not in data:
        return times.accessed + cookie_age
    if never_times_out(data, times):
        return None
    end = fixed_end(data)
    return times.accessed + _seconds(data, cookie_age) if end is None else end


def absolute_end(times: Times, timeout: float | None) -> float | None:
    """Return when the session ends even if it is in use; None: never."""
    if timeout is None:
        return None
    return (times.created if times.authenticated is None else times.authenticated) + timeout


def end_of(
    data: Mapping[str, Any], times: Times, *, cookie_age: int, absolute_timeout: float | None
) -> float | None:
    """Return when the session ends by either limit; None: never."""
    end = idle_end(data, times, cookie_age=cookie_age)
    absolute = absolute_end(times, absolute_timeout)
    if end is None or absolute is None:
        return absolute if end is None else end
    return min(end, absolute)


def touch_due(times: Times, *, interval: int, throttle: float, now: float) -> bool:
    """Return whether the stored last access is old enough to be renewed.

    ``interval`` is what :func:`max_inactive_interval` says, ``throttle`` the setting.
    """
    lag = now - times.accessed
    return lag > throttle or 0 < interval < lag * LAG


def is_seconds(value: object) -> TypeGuard[float]:
    """Return whether ``value`` is a number of seconds in the range of dates."""
    # Not isinstance(), since bool is derived from int.
    return type(value) in (float, int) and -LAST_DATE <= value <= LAST_DATE  # type: ignore[operator]


def checked_interval(interval: object, *, now: float) -> int:
    """Return the interval as an int. Raises TypeError or ValueError if it is invalid."""
    if isinstance(interval, float) and interval.is_integer():
        interval = int(interval)
    if isinstance(interval, bool) or not isinstance(interval, int):
        raise TypeError(
            f"dirigible_session: an interval must be an int of seconds, not {interval!r} "
            f"({type(interval).__name__})."
        )
    if interval > LAST_DATE - now:
        raise ValueError(
            "dirigible_session: the interval is too large: it ends after the last possible date. "
            "Zero or less means that the session never times out."
        )
    return max(interval, SMALLEST_INTERVAL)


def stored_expiry(interval: int) -> int:
    """Return the value of ``_session_expiry`` for an interval."""
    return interval if interval > 0 else COOKIE_LIFETIME
