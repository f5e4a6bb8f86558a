"""The max inactive interval: what is set, what counts, and when the session ends by it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from dirigible_session.lifecycle import COOKIE_LIFETIME

COOKIE_AGE = 14 * 24 * 60 * 60
pytestmark = pytest.mark.usefixtures("engine")


async def _store(session):
    await session.set_attribute("name", 1)


async def _is_alive(session):
    return await session.get_attribute("name") == 1


def _set(interval):
    async def visit(session):
        await session.set_attribute("name", 1)
        await session.set_max_inactive_interval(interval)
        return await session.get_max_inactive_interval()

    return visit


def test_it_is_the_cookie_age_unless_set(visitor, settings):
    assert visitor.visit(lambda session: session.get_max_inactive_interval()) == COOKIE_AGE
    settings.SESSION_COOKIE_AGE = 77
    assert visitor.visit(lambda session: session.get_max_inactive_interval()) == 77


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(1, 1), (900, 900), (30.0, 30), (0, 0), (-1, -1), (-99, -99), (10**9, 10**9)],
)
def test_what_is_set_is_returned_as_an_int(visitor, clock, interval, expected):
    assert visitor.visit(_set(interval)) == expected
    again = visitor.visit(lambda session: session.get_max_inactive_interval())
    assert again == expected
    assert type(again) is int


def test_any_interval_below_zero_is_never(visitor, clock):
    assert visitor.visit(_set(-(10**30))) < 0
    clock.tick(days=399)
    assert visitor.visit(_is_alive)


@pytest.mark.parametrize("interval", [True, False, "60", None, float("nan"), float("inf"), 30.5])
def test_an_interval_is_an_int(visitor, interval):
    async def visit(session):
        with pytest.raises(TypeError, match="int of seconds"):
            await session.set_max_inactive_interval(interval)
        return await session.get_max_inactive_interval()

    assert visitor.visit(visit) == COOKIE_AGE
    assert visitor.cookie is None


@pytest.mark.parametrize("interval", [10**12, 10**30, 1e300])
def test_an_interval_too_large_for_a_date_is_an_error(visitor, interval):
    async def visit(session):
        with pytest.raises(ValueError, match="last possible date"):
            await session.set_max_inactive_interval(interval)

    visitor.visit(visit)
    assert visitor.cookie is None


def test_the_session_ends_when_its_client_stays_away_that_long(visitor, clock):
    visitor.visit(_set(900))
    clock.tick(899)
    assert visitor.visit(_is_alive)
    clock.tick(900)
    old_key = visitor.session_key

    async def visit(session):
        return await session.is_new(), await session.get_attribute_names()

    assert visitor.visit(visit) == (True, [])
    assert visitor.session_key is None
    visitor.session_key = old_key
    visitor.visit(_store)
    assert visitor.session_key != old_key


def test_a_session_slides_as_long_as_its_client_comes(visitor, clock):
    visitor.visit(_set(900))
    for _ in range(5):
        clock.tick(800)
        assert visitor.visit(_is_alive)
        assert visitor.cookie["max-age"] == 900


def test_without_an_interval_too_a_session_slides_by_the_cookie_age(visitor, clock):
    visitor.visit(_store)
    for _ in range(4):
        clock.tick(days=13)
        assert visitor.visit(_is_alive)
    clock.tick(days=14)
    assert not visitor.visit(_is_alive)


def test_an_interval_longer_than_the_cookie_age_counts(visitor, clock):
    visitor.visit(_set(COOKIE_AGE * 3))
    clock.tick(COOKIE_AGE * 2)
    assert visitor.visit(_is_alive)
    clock.tick(COOKIE_AGE * 3)
    assert not visitor.visit(_is_alive)


@pytest.mark.parametrize("interval", [0, -1])
def test_never_is_four_hundred_days_for_the_cookie_renewed_at_each_visit(visitor, clock, interval):
    visitor.visit(_set(interval))
    assert visitor.cookie["max-age"] == COOKIE_LIFETIME == 400 * 86400
    for _ in range(3):
        clock.tick(days=399)
        assert visitor.visit(_is_alive)
        assert visitor.cookie["max-age"] == COOKIE_LIFETIME
    assert visitor.visit(lambda session: session.get_max_inactive_interval()) == interval


def test_an_interval_can_be_set_again(visitor, clock):
    visitor.visit(_set(-1))
    assert visitor.visit(_set(60)) == 60
    clock.tick(61)
    assert not visitor.visit(_is_alive)


def test_the_first_interval_can_create_the_session(visitor):
    visitor.visit(lambda session: session.set_max_inactive_interval(60))
    assert visitor.cookie["max-age"] == 60
    assert visitor.visit(lambda session: session.get_max_inactive_interval()) == 60


EXPIRIES = {
    "a number": (lambda: 300, 300),
    "0": (lambda: 0, COOKIE_AGE),
    "None": (lambda: None, COOKIE_AGE),
    "a date": (lambda: timezone.now() + timedelta(hours=2), 7200),
    "a timedelta": (lambda: timedelta(hours=3), 10800),
}


def _set_expiry(visitor, expiry, before=None):
    async def visit(session, request):
        await session.set_attribute("name", 1)
        if before is not None:
            await session.set_max_inactive_interval(before)
        if visitor.is_async:
            await request.session.aset_expiry(expiry())
        else:
            request.session.set_expiry(expiry())
        return await session.get_max_inactive_interval()

    return visitor.visit(visit)


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("before", [None, 60, -1])
@pytest.mark.parametrize(("expiry", "interval"), EXPIRIES.values(), ids=EXPIRIES.keys())
def test_djangos_own_expiry_counts_when_it_was_set_last(
    visitor, clock, settings, expiry, interval, before, use_tz
):
    settings.USE_TZ = use_tz
    assert _set_expiry(visitor, expiry, before) == interval
    assert visitor.visit(lambda session: session.get_max_inactive_interval()) == interval


@pytest.mark.parametrize(("expiry", "interval"), EXPIRIES.values(), ids=EXPIRIES.keys())
def test_an_interval_counts_when_it_was_set_after_djangos_expiry(visitor, clock, expiry, interval):
    _set_expiry(visitor, expiry)
    assert visitor.visit(_set(60)) == 60
    clock.tick(61)
    assert not visitor.visit(_is_alive)


@pytest.mark.parametrize("use_tz", [True, False])
def test_an_expiry_at_a_fixed_date_does_not_slide(visitor, clock, settings, use_tz):
    settings.USE_TZ = use_tz
    _set_expiry(visitor, lambda: timedelta(hours=2))
    clock.tick(hours=1)
    assert visitor.visit(_is_alive)
    assert visitor.visit(lambda session: session.get_max_inactive_interval()) == 3600
    clock.tick(minutes=59)
    assert visitor.visit(_is_alive)
    clock.tick(minutes=2)
    assert not visitor.visit(_is_alive)


def test_a_naive_expiry_is_in_time_zone_whatever_zone_is_active(visitor, clock, settings):
    settings.USE_TZ = False
    with timezone.override("Asia/Tokyo"):
        assert _set_expiry(visitor, lambda: timedelta(hours=2)) == 7200


def _kind(visitor):
    return "browser" if visitor.cookie["max-age"] == "" else visitor.cookie["max-age"]


def test_an_interval_says_nothing_about_the_cookies_kind(visitor, clock, settings):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
    visitor.visit(_set(900))
    assert _kind(visitor) == "browser"
    clock.tick(800)
    assert visitor.visit(_is_alive)
    assert _kind(visitor) == "browser"
    visitor.visit(_set(-1))
    assert _kind(visitor) == "browser"
    clock.tick(days=300)
    assert visitor.visit(_is_alive)
    assert _kind(visitor) == "browser"


def test_a_cookie_that_goes_with_the_browser_by_set_expiry_still_does(visitor, clock):
    _set_expiry(visitor, lambda: 0)
    assert _kind(visitor) == "browser"
    visitor.visit(_set(900))
    assert _kind(visitor) == "browser"
    visitor.visit(_set(300))
    assert _kind(visitor) == "browser"


def test_djangos_expiry_says_what_kind_the_cookie_is(visitor, clock, settings):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
    visitor.visit(_set(900))
    _set_expiry(visitor, lambda: 300)
    assert _kind(visitor) == 300
    visitor.visit(_set(900))
    assert _kind(visitor) == 900


def test_the_cookies_kind_stays_when_django_saves_each_request(visitor, clock, settings):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
    settings.SESSION_SAVE_EVERY_REQUEST = True
    visitor.visit(_set(900))

    async def no_session(session):
        return None

    visitor.visit(no_session)
    assert _kind(visitor) == "browser"


def test_the_kind_of_the_cookie_is_the_same_in_async_code(visitor, settings):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True

    async def visit(session, request):
        await session.set_max_inactive_interval(900)
        if visitor.is_async:
            return await request.session.aget_expire_at_browser_close()
        return request.session.get_expire_at_browser_close()

    assert visitor.visit(visit) is True
    assert visitor.visit(visit) is True


@pytest.mark.parametrize("way", ["ask", "modify"])
def test_the_kind_of_the_cookie_is_the_same_before_anything_is_loaded(
    visitor, clock, settings, way
):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
    visitor.visit(_set(900))

    async def visit(session, request):
        if way == "modify":
            request.session.modified = True
            return True
        if visitor.is_async:
            return await request.session.aget_expire_at_browser_close()
        return request.session.get_expire_at_browser_close()

    assert visitor.visit(visit) is True
    assert visitor.cookie is None or _kind(visitor) == "browser"
    assert (visitor.cookie is not None) == (way == "modify")


@pytest.mark.parametrize("age", [59, 61])
def test_djangos_expiry_ends_a_session_that_no_request_has_used(visitor, clock, age):
    session = visitor.client.session
    session["name"] = 1
    session.set_expiry(60)
    session.save()
    visitor.session_key = session.session_key
    clock.tick(age)
    assert visitor.visit(_is_alive) == (age < 60)


async def _call_set_expiry(request, value, *, is_async):
    if is_async:
        await request.session.aset_expiry(value)
    else:
        request.session.set_expiry(value)


@pytest.mark.parametrize("looks", [True, False], ids=["after a look", "first of all"])
def test_djangos_set_expiry_says_that_never_is_over_whatever_the_number(visitor, clock, looks):
    visitor.visit(_set(-1))

    async def visit(session, request):
        if looks:
            assert await session.get_max_inactive_interval() == -1
        await _call_set_expiry(request, COOKIE_LIFETIME, is_async=visitor.is_async)
        return await session.get_max_inactive_interval()

    assert visitor.visit(visit) == COOKIE_LIFETIME
    again = visitor.visit(lambda session: session.get_max_inactive_interval())
    assert again == COOKIE_LIFETIME


def test_djangos_set_expiry_says_what_kind_the_cookie_is(visitor, clock, settings):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
    visitor.visit(_set(900))
    assert visitor.cookie["max-age"] == ""

    async def visit(session, request):
        await _call_set_expiry(request, 900, is_async=visitor.is_async)

    visitor.visit(visit)
    assert visitor.cookie["max-age"] == 900
