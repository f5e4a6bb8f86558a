"""Ending a session: what is gone, and what is there after it."""

from __future__ import annotations

import pytest
from django.contrib import auth
from django.contrib.sessions.models import Session
from django.http import HttpResponse


async def _store(session):
    await session.set_attribute("name", 1)


async def _login(request, user):
    auth.login(request, user)


async def _look(session):
    return await session.get_attribute("name"), await session.is_new()


def test_the_stored_session_is_gone_at_once(server_engine, visitor, another_visitor):
    visitor.visit(_store)
    another_visitor.session_key = old_key = visitor.session_key
    assert another_visitor.visit(_look) == (1, False)
    visitor.visit(lambda session: session.invalidate())
    assert visitor.session_key is None
    assert visitor.visit(_look) == (None, True)
    another_visitor.session_key = old_key
    assert another_visitor.visit(_look) == (None, True)


def test_it_is_gone_before_the_request_ends(server_engine, visitor, store_class):
    visitor.visit(_store)
    key = visitor.session_key

    async def visit(session):
        await session.invalidate()
        store = store_class()
        return await store.aexists(key) if visitor.is_async else store.exists(key)

    assert not visitor.visit(visit)


def test_the_cookie_is_deleted(engine, visitor):
    visitor.visit(_store)
    visitor.visit(lambda session: session.invalidate())
    assert visitor.cookie["max-age"] == 0
    assert visitor.session_key is None


def test_the_facade_goes_on_with_a_fresh_session(engine, visitor):
    visitor.visit(_store)
    old_key = visitor.session_key

    async def visit(session):
        await session.set_max_inactive_interval(60)
        await session.invalidate()
        seen = (
            await session.get_attribute_names(),
            await session.is_new(),
            await session.is_valid(),
            await session.get_max_inactive_interval(),
        )
        await session.set_attribute("other", 2)
        return seen

    assert visitor.visit(visit) == ([], True, True, 14 * 86400)
    assert visitor.session_key not in (None, old_key)
    assert visitor.visit(lambda session: session.get_attribute_names()) == ["other"]


def test_a_value_from_before_is_not_kept_when_it_is_changed_after(engine, visitor):
    visitor.visit(lambda session: session.set_attribute("cart", []))

    async def visit(session):
        cart = await session.get_attribute("cart")
        await session.invalidate()
        cart.append(1)

    visitor.visit(visit)
    assert visitor.cookie["max-age"] == 0


def test_ending_what_is_not_there_makes_nothing(engine, visitor):
    visitor.visit(lambda session: session.invalidate())
    assert visitor.cookie is None
    assert not Session.objects.exists()


def test_the_user_is_nobody(engine, visitor, user):
    visitor.log_in(user)

    async def visit(session, request):
        before = (await request.auser() if visitor.is_async else request.user).is_authenticated
        await session.invalidate()
        return before, request.user.is_authenticated, (await request.auser()).is_authenticated

    assert visitor.visit(visit) == (True, False, False)

    async def who(session, request):
        return (await request.auser() if visitor.is_async else request.user).is_authenticated

    assert visitor.visit(who) is False


def test_a_request_that_knows_no_user_gets_none(engine, visitor, settings):
    settings.MIDDLEWARE = settings.MIDDLEWARE[:2]

    async def visit(session, request):
        await session.invalidate()
        return hasattr(request, "user")

    assert visitor.visit(visit) is False


def test_who_writes_after_it_was_ended_elsewhere_does_not_bring_it_back(
    server_engine, visitor, store_class
):
    visitor.visit(_store)
    key = visitor.session_key

    async def visit(session):
        await session.set_attribute("name", 2)
        rival = store_class(key)
        await rival.aflush() if visitor.is_async else rival.flush()

    visitor.client.raise_request_exception = False
    visitor.visit(visit)
    assert visitor.response.status_code == 400
    assert not store_class().exists(key)


def test_a_flush_of_djangos_makes_the_session_new_too(engine, visitor):
    visitor.visit(_store)

    async def visit(session, request):
        await session.get_attribute("name")
        await request.session.aflush() if visitor.is_async else request.session.flush()
        return await _look(session)

    assert visitor.visit(visit) == (None, True)


@pytest.mark.parametrize("looks", [True, False])
def test_a_session_that_was_never_stored_can_be_ended(engine, visitor, looks):
    async def visit(session):
        await session.set_attribute("name", 1)
        await session.invalidate()
        return await session.get_attribute_names() if looks else []

    assert visitor.visit(visit) == []
    assert visitor.cookie is None


@pytest.mark.parametrize("after", ["nothing", "sets", "stores", "logs in"])
@pytest.mark.parametrize("fails", ["a 500", "an exception"])
def test_the_cookie_is_deleted_whatever_happens_after(engine, visitor, user, after, fails):
    visitor.client.raise_request_exception = False
    visitor.visit(_store)
    key = visitor.session_key

    async def visit(session, request):
        await session.invalidate()
        if after == "sets":
            await session.set_attribute("notice", "bye")
        elif after == "stores":
            await session.get_id()
        elif after == "logs in":
            await (auth.alogin if visitor.is_async else _login)(request, user)
        if fails == "an exception":
            raise ZeroDivisionError
        return HttpResponse(status=500)

    visitor.visit(visit)
    assert visitor.response.status_code == 500
    assert visitor.cookie["max-age"] == 0
    assert visitor.session_key is None
    if engine != "signed_cookies":
        visitor.session_key = key
        assert visitor.visit(_look) == (None, True)


def test_who_logs_in_after_it_is_the_requests_user(engine, visitor, user):
    visitor.visit(_store)

    async def visit(session, request):
        await session.invalidate()
        if visitor.is_async:
            await auth.alogin(request, user)
            return await request.auser()
        auth.login(request, user)
        return request.user

    assert visitor.visit(visit) == user


def test_a_projects_own_user_is_left_alone(use_engine, settings, visitor):
    use_engine("cache")
    settings.INSTALLED_APPS = ["dirigible_session"]
    visitor.visit(_store)

    async def visit(session, request):
        request.user = "somebody"
        await session.invalidate()
        return request.user

    assert visitor.visit(visit) == "somebody"
