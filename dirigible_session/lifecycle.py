"""Creation, last access and interval of a session: where they are kept, and what follows.

An engine with columns for them says so with ``keeps_times = True`` and has them in its ``times``.
On any other engine they live in the session's data under one reserved key. Which of the two it is,
``current.engines`` knows; here is only arithmetic on seconds since the epoch, with the clock passed
in.

A positive interval needs no place of its own: it is Django's ``_session_expiry``, so that every
store and every tool of Django's obeys it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeGuard

from django.utils.timezone import get_default_timezone, is_naive, make_aware

TIMES_KEY = "_dirigible"
ID_KEY = "_dirigible_id"
BROWSER_CLOSE_KEY = "_dirigible_browser_close"
EXPIRY_KEY = "_session_expiry"

#: What stands for "never" where an expiry must be given: browsers keep a cookie 400 days at most.
COOKIE_LIFETIME = 400 * 24 * 60 * 60

#: The moments after this one are left to arithmetic that must not overflow a ``datetime``.
LAST_DATE = datetime(9998, 12, 31, tzinfo=timezone.utc).timestamp()

#: An interval that was given as zero or less is kept in 64 bits.
SMALLEST_INTERVAL = -(2**63)

#: The stored last access may lag by one twentieth of the interval at most.
LAG = 20


@dataclass(frozen=True)
class Times:
    """Seconds since the epoch, and the interval if it was set to "never times out"."""

    created: float
    accessed: float
    #: What ``set_max_inactive_interval`` was told, if that was zero or less. It is in force as
    #: long as ``_session_expiry`` says ``COOKIE_LIFETIME``: a later ``set_expiry`` overrides it.
    interval: int | None = None
    #: When the session's user last logged in; None: nobody did, or nobody can tell.
    authenticated: float | None = None

    def as_record(self) -> dict[str, float | int]:
        """Return what goes into the session's data."""
        record: dict[str, float | int] = {"created": self.created, "accessed": self.accessed}
        if self.interval is not None:
            record["interval"] = self.interval
        if self.authenticated is not None:
            record["authenticated"] = self.authenticated
        return record

    @classmethod
    def from_record(cls, record: object) -> Times | None:
        """Return what the session's data says, None where it says nothing of use."""
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
    """Return whether the session was told to live however long its client stays away."""
    return times.interval is not None and data.get(EXPIRY_KEY) == COOKIE_LIFETIME


def stays_for_browser(data: Mapping[str, Any]) -> bool:
    """Return whether the cookie is still one that goes with the browser.

    An expiry that the facade set says nothing about the cookie's kind, one set by Django's
    ``set_expiry`` does; the key remembers for which expiry it was written.
    """
    return BROWSER_CLOSE_KEY in data and data[BROWSER_CLOSE_KEY] == data.get(EXPIRY_KEY)


def check_expiry(data: Mapping[str, Any]) -> None:
    """Raise ValueError if the expiry in the data is one that Django can't have put there.

    For all functions here, such an expiry counts as not set.
    """
    expiry = data.get(EXPIRY_KEY)
    if expiry is not None and fixed_end(data) is None and not _is_number(expiry):
        raise ValueError(f"{EXPIRY_KEY} is neither a number of seconds nor a date")


def fixed_end(data: Mapping[str, Any]) -> float | None:
    """Return when a session with an expiry at a fixed date ends; None if it has none."""
    expiry = data.get(EXPIRY_KEY)
    try:
        if isinstance(expiry, str):
            expiry = datetime.fromisoformat(expiry)
        return timestamp(expiry) if isinstance(expiry, datetime) else None
    except (ValueError, OverflowError):
        return None


def _seconds(data: Mapping[str, Any], cookie_age: int) -> float:
    """Return the seconds that the session may idle, if it does not end at a fixed date."""
    expiry = data.get(EXPIRY_KEY)
    return expiry if expiry and _is_number(expiry) else cookie_age


def _is_number(expiry: object) -> TypeGuard[float]:
    # Not infinite, not NaN, and not an int that no float can hold.
    return isinstance(expiry, (int, float)) and abs(expiry) <= sys.float_info.max


def timestamp(moment: datetime) -> float:
    """Return a moment in seconds since the epoch; a naive one is Django's with USE_TZ = False."""
    return _naive_timestamp(moment) if is_naive(moment) else moment.timestamp()


def _naive_timestamp(naive: datetime) -> float:
    # Written with USE_TZ = False, when Django tells the time of the process. That is TIME_ZONE's
    # on Unix, where Django sets it, but not on Windows, nor under a clock that a test has frozen.
    try:
        return naive.timestamp()
    except (ValueError, OverflowError, OSError):
        # The platform does not know such a date; it is centuries away in any zone.
        return make_aware(naive, get_default_timezone()).timestamp()


def max_inactive_interval(
    data: Mapping[str, Any], times: Times, *, cookie_age: int, now: float
) -> int:
    """Return the interval in seconds as Servlet's ``getMaxInactiveInterval`` means it.

    Less than a second is one: zero would say that the session never times out.
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
    """Return when the session ends unless its client comes back; None: never."""
    if EXPIRY_KEY not in data:
        return times.accessed + cookie_age
    if never_times_out(data, times):
        return None
    end = fixed_end(data)
    return times.accessed + _seconds(data, cookie_age) if end is None else end


def absolute_end(times: Times, timeout: float | None) -> float | None:
    """Return when the session ends however busy it is; None: never."""
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
    """Return whether it is a number of seconds that arithmetic on dates can bear."""
    # A number of a derived type is none: bool is derived from int.
    return type(value) in (float, int) and -LAST_DATE <= value <= LAST_DATE  # type: ignore[operator]


def checked_interval(interval: object, *, now: float) -> int:
    """Return the interval as an int; TypeError or ValueError if it can't be one."""
    if isinstance(interval, float) and interval.is_integer():
        interval = int(interval)
    if isinstance(interval, bool) or not isinstance(interval, int):
        raise TypeError(
            f"dirigible_session: an interval is an int of seconds, not {interval!r} "
            f"({type(interval).__name__})."
        )
    if interval > LAST_DATE - now:
        raise ValueError(
            "dirigible_session: an interval of so many seconds reaches beyond the last date. "
            "Zero or less means that the session never times out."
        )
    return max(interval, SMALLEST_INTERVAL)


def stored_expiry(interval: int) -> int:
    """Return what ``_session_expiry`` says for an interval."""
    return interval if interval > 0 else COOKIE_LIFETIME
