"""The arithmetic of creation, last access and interval."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from dirigible_session import lifecycle
from dirigible_session.lifecycle import COOKIE_LIFETIME, EXPIRY_KEY, LAST_DATE, Times

DAY = 86400
COOKIE_AGE = 14 * DAY
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc).timestamp()
IN_AN_HOUR = (datetime(2026, 6, 1, tzinfo=timezone.utc) + timedelta(hours=1)).isoformat()


def _times(accessed=NOW, created=NOW - DAY, interval=None):
    return Times(created, accessed, interval)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"created": 1.5, "accessed": 2}, Times(1.5, 2)),
        ({"created": 1, "accessed": 2, "interval": -1}, Times(1, 2, -1)),
        ({"created": 1, "accessed": 2, "interval": "x"}, Times(1, 2)),
        ({"created": 1, "accessed": 2, "later": "more"}, Times(1, 2)),
        ({"created": 1}, None),
        ({"created": "1", "accessed": 2}, None),
        ({"created": 1, "accessed": None}, None),
        ({}, None),
        (None, None),
        ([1, 2], None),
    ],
)
def test_what_a_record_says(record, expected):
    assert Times.from_record(record) == expected


@pytest.mark.parametrize("times", [Times(1.0, 2.0), Times(1.0, 2.0, 0), Times(1.0, 2.0, -5)])
def test_a_record_gives_the_times_back(times):
    assert Times.from_record(times.as_record()) == times


INTERVALS = [
    # _session_expiry, the interval of the times, the interval, the end from the last access
    (None, None, COOKIE_AGE, COOKIE_AGE),
    (900, None, 900, 900),
    (0, None, COOKIE_AGE, COOKIE_AGE),
    (COOKIE_LIFETIME, 0, 0, None),
    (COOKIE_LIFETIME, -7, -7, None),
    (COOKIE_LIFETIME, None, COOKIE_LIFETIME, COOKIE_LIFETIME),
    # set_expiry() after set_max_inactive_interval(-7)
    (900, -7, 900, 900),
    (None, -7, COOKIE_AGE, COOKIE_AGE),
    (IN_AN_HOUR, -7, 3600, 3600),
    (IN_AN_HOUR, None, 3600, 3600),
    (datetime.fromisoformat(IN_AN_HOUR), None, 3600, 3600),
    (90.9, None, 90, 90.9),
    (0.9, None, 1, 0.9),
    (-5, None, -5, -5),
]


@pytest.mark.parametrize(("expiry", "told", "interval", "end"), INTERVALS)
def test_the_interval_and_the_end_that_follows(expiry, told, interval, end):
    data = {} if expiry is None else {EXPIRY_KEY: expiry}
    times = _times(interval=told)
    seen = lifecycle.max_inactive_interval(data, times, cookie_age=COOKIE_AGE, now=NOW)
    assert seen == interval
    assert type(seen) is int
    ends = lifecycle.idle_end(data, times, cookie_age=COOKIE_AGE)
    assert ends == (None if end is None else pytest.approx(NOW + end))


@pytest.mark.parametrize(
    ("left", "interval"), [(3599.5, 3600), (1, 1), (0.9, 1), (0.001, 1), (0, 1), (-5, 1)]
)
def test_a_fixed_date_that_is_near_is_not_never(left, interval):
    now = NOW + 3600 - left
    data = {EXPIRY_KEY: IN_AN_HOUR}
    assert interval == lifecycle.max_inactive_interval(
        data, _times(), cookie_age=COOKIE_AGE, now=now
    )


def test_a_fixed_date_does_not_move_with_the_accesses():
    data = {EXPIRY_KEY: IN_AN_HOUR}
    for accessed in (NOW - 900, NOW):
        end = lifecycle.idle_end(data, _times(accessed), cookie_age=COOKIE_AGE)
        assert end == NOW + 3600


@pytest.mark.parametrize(
    ("zone", "hours"), [("UTC", 0), ("Asia/Tokyo", -9), ("America/New_York", 4)]
)
def test_a_naive_date_is_in_time_zone(settings, zone, hours):
    settings.USE_TZ = False
    settings.TIME_ZONE = zone
    end = lifecycle.fixed_end({EXPIRY_KEY: datetime(2026, 6, 1).isoformat()})
    assert end == NOW + hours * 3600


@pytest.fixture
def process_in_tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of the process is the system's")
@pytest.mark.usefixtures("process_in_tokyo")
def test_a_naive_date_is_the_process_own_as_when_django_wrote_it():
    end = lifecycle.fixed_end({EXPIRY_KEY: datetime(2026, 6, 1).isoformat()})
    assert end == NOW - 9 * 3600


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("date", [datetime.min, datetime.max], ids=["first", "last"])
def test_a_naive_date_may_be_any(settings, zone, date):
    settings.TIME_ZONE = zone
    end = lifecycle.fixed_end({EXPIRY_KEY: date.isoformat()})
    assert end == pytest.approx(date.replace(tzinfo=timezone.utc).timestamp(), abs=DAY)


@pytest.mark.parametrize(
    ("told", "absolute_timeout", "end"),
    [
        (None, None, NOW + COOKIE_AGE),
        (None, 2 * DAY, NOW + DAY),
        (None, 1000 * DAY, NOW + COOKIE_AGE),
        (-1, None, None),
        (-1, 2 * DAY, NOW + DAY),
    ],
)
def test_the_nearer_limit_ends_the_session(told, absolute_timeout, end):
    data = {EXPIRY_KEY: COOKIE_LIFETIME} if told else {}
    times = _times(interval=told)
    assert end == lifecycle.end_of(
        data, times, cookie_age=COOKIE_AGE, absolute_timeout=absolute_timeout
    )


@pytest.mark.parametrize(
    ("interval", "throttle", "seconds", "due"),
    [
        (COOKIE_AGE, 60, 60, False),
        (COOKIE_AGE, 60, 60.1, True),
        (1200, 60, 60, False),
        (1180, 60, 60, True),
        (100, 60, 5, False),
        (100, 60, 5.1, True),
        (100, 1, 1.1, True),
        (0, 60, 60, False),
        (-1, 60, 61, True),
        (1, 60, 0.06, True),
        (COOKIE_AGE, 0, 0, False),
        (COOKIE_AGE, 0, 0.001, True),
        (COOKIE_AGE, 60, -5, False),
    ],
)
def test_when_a_touch_is_due(interval, throttle, seconds, due):
    times = _times(NOW - seconds)
    assert lifecycle.touch_due(times, interval=interval, throttle=throttle, now=NOW) == due


@pytest.mark.parametrize(
    ("interval", "checked"),
    [
        (1, 1),
        (30.0, 30),
        (0, 0),
        (-0.0, 0),
        (-1, -1),
        (-(2**63), -(2**63)),
        (-(10**40), -(2**63)),
        (-1e300, -(2**63)),
        (int(LAST_DATE - NOW), int(LAST_DATE - NOW)),
    ],
)
def test_what_can_be_an_interval(interval, checked):
    seen = lifecycle.checked_interval(interval, now=NOW)
    assert seen == checked
    assert type(seen) is int


@pytest.mark.parametrize("interval", [True, "1", None, 1.5, float("nan"), float("inf"), [1], 1j])
def test_what_is_no_interval(interval):
    with pytest.raises(TypeError, match="int of seconds"):
        lifecycle.checked_interval(interval, now=NOW)


@pytest.mark.parametrize(
    "interval", [int(LAST_DATE - NOW) + 1, 10**40, pytest.param(10**5000, id="huge"), 1e300]
)
def test_what_is_too_large_for_an_interval(interval):
    with pytest.raises(ValueError, match="last possible date"):
        lifecycle.checked_interval(interval, now=NOW)


@pytest.mark.parametrize(
    ("interval", "expiry"), [(1, 1), (0, COOKIE_LIFETIME), (-5, COOKIE_LIFETIME)]
)
def test_the_expiry_that_is_stored_for_an_interval(interval, expiry):
    assert lifecycle.stored_expiry(interval) == expiry
