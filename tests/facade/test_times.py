"""Creation time, last access, new: what a session knows of its client's visits."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from django.contrib import auth
from django.http import HttpResponse

pytestmark = pytest.mark.usefixtures("engine")


async def _times(session):
    return await session.get_creation_time(), await session.get_last_accessed_time()


async def _store(session):
    await session.set_attribute("name", 1)


def test_a_new_session_was_created_and_accessed_when_the_request_arrived(visitor, clock):
    arrived = clock.datetime()

    async def visit(session):
        clock.tick(5)
        await _store(session)
        return await _times(session)

    assert visitor.visit(visit) == (arrived, arrived)


def test_times_are_aware_and_in_utc(visitor):
    for time in visitor.visit(_times):
        assert time.tzinfo is timezone.utc


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_last_access_is_the_previous_request(engine, visitor, clock, settings, use_tz):
    settings.USE_TZ = use_tz
    if engine == "signed_cookies":
        # The cookie is not renewed before half of the interval has passed.
        visitor.visit(lambda session: session.set_max_inactive_interval(1100))
    settings.DIRIGIBLE_SESSION_TOUCH_INTERVAL = 0
    visits = []
    visitor.visit(_store)
    for _ in range(3):
        visits.append(clock.datetime())
        clock.tick(minutes=10)
        assert visitor.visit(_times) == (visits[0], visits[-1])


def test_reading_and_setting_do_not_change_the_last_access(visitor, clock):
    visitor.visit(_store)
    first = clock.datetime()
    clock.tick(minutes=10)

    async def visit(session):
        times = [await session.get_last_accessed_time()]
        await session.set_attribute("name", 2)
        times.append(await session.get_last_accessed_time())
        await session.set_max_inactive_interval(900)
        await session.change_session_id()
        await session.get_attribute("name")
        return [*times, await session.get_last_accessed_time()]

    assert visitor.visit(visit) == [first] * 3


def test_a_view_that_saves_by_itself_does_not_change_the_last_access(visitor, clock):
    visitor.visit(_store)
    first = clock.datetime()
    clock.tick(minutes=10)

    async def visit(session, request):
        await _store(session)
        if visitor.is_async:
            await request.session.asave()
        else:
            request.session.save()
        return await session.get_last_accessed_time()

    assert visitor.visit(visit) == first


def test_a_request_that_does_not_use_the_session_is_none_in_it(visitor, clock):
    visitor.visit(_store)
    first = clock.datetime()
    clock.tick(minutes=10)

    async def no_session(session):
        return None

    visitor.visit(no_session)
    clock.tick(minutes=10)
    assert visitor.visit(_times)[1] == first


def test_with_touch_every_request_each_request_with_the_cookie_is_one(
    engine, visitor, clock, settings
):
    settings.DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST = True
    visitor.visit(_store)
    if engine == "signed_cookies":
        visitor.visit(lambda session: session.set_max_inactive_interval(1100))
    clock.tick(minutes=10)
    second = clock.datetime()

    async def no_session(session):
        return None

    visitor.visit(no_session)
    clock.tick(minutes=10)
    assert visitor.visit(_times)[1] == second


def test_touch_every_request_makes_nothing_of_a_visitor_without_session(visitor, settings):
    settings.DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST = True

    async def no_session(session):
        return None

    visitor.visit(no_session)
    assert visitor.cookie is None
    assert not visitor.response.has_header("Vary")


def test_a_5xx_is_no_access(visitor, clock):
    visitor.visit(_store)
    first = clock.datetime()
    clock.tick(minutes=10)

    async def fail(session):
        await session.get_attribute("name")
        return HttpResponse(status=500)

    visitor.visit(fail)
    clock.tick(minutes=10)
    assert visitor.visit(_times)[1] == first


def test_the_creation_time_survives_a_change_of_id_and_a_login(visitor, clock, user):
    created = clock.datetime()
    visitor.visit(_store)
    clock.tick(minutes=1)
    visitor.visit(lambda session: session.change_session_id())
    clock.tick(minutes=1)
    visitor.log_in(user)
    clock.tick(minutes=1)
    assert visitor.visit(_times)[0] == created


def test_an_invalidated_session_is_followed_by_one_created_in_this_request(visitor, clock):
    visitor.visit(_store)
    clock.tick(minutes=10)

    async def visit(session):
        await session.invalidate()
        await _store(session)
        return await _times(session)

    assert visitor.visit(visit) == (clock.datetime(), clock.datetime())
    clock.tick(minutes=10)
    assert visitor.visit(_times)[0] == clock.datetime() - timedelta(minutes=10)


def test_a_session_from_before_the_app_was_created_when_it_was_first_used(
    visitor, clock, store_class
):
    store = store_class()
    store["name"] = "old"
    store.save()
    visitor.session_key = store.session_key
    clock.tick(days=1)
    first = clock.datetime()

    async def visit(session):
        return *await _times(session), await session.is_new(), await session.get_attribute("name")

    assert visitor.visit(visit) == (first, first, False, "old")
    clock.tick(days=1)
    assert visitor.visit(visit) == (first, first, False, "old")


def test_a_session_is_new_until_its_client_comes_back_with_it(visitor):
    async def visit(session):
        before = await session.is_new()
        await _store(session)
        await session.get_id()
        return before, await session.is_new()

    assert visitor.visit(visit) == (True, True)
    assert visitor.visit(visit) == (False, False)


@pytest.mark.parametrize(
    "key", ["nosuchsession0000000000000000000", "short", "../../../etc/passwd"]
)
def test_a_cookie_that_names_no_live_session_makes_no_client_known(visitor, key):
    visitor.session_key = key
    assert visitor.visit(lambda session: session.is_new()) is True
    assert visitor.session_key is None


def test_a_session_is_new_after_it_was_invalidated(visitor):
    visitor.visit(_store)

    async def visit(session):
        await session.invalidate()
        return await session.is_new()

    assert visitor.visit(visit) is True


def test_a_login_makes_no_session_new(visitor, user):
    visitor.visit(_store)

    async def visit(session, request):
        if visitor.is_async:
            await auth.alogin(request, user)
        else:
            auth.login(request, user)
        return await session.is_new()

    assert visitor.visit(visit) is False
    assert visitor.visit(lambda session: session.is_new()) is False
