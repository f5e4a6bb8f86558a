"""Every end of a stored session is heard, once, with its reason."""

from __future__ import annotations

import pytest
from django.contrib import auth
from django.contrib.auth import get_user_model

from dirigible_session.handles import handle
from dirigible_session.signals import Reason, session_id_changed, session_invalidated

pytestmark = pytest.mark.django_db

OWN_ENGINE = "dirigible_session.backends.db"


@pytest.fixture(params=["db", "cached_db", "cache", "file", OWN_ENGINE])
def any_engine(request, use_engine):
    use_engine(request.param)
    return request.param


@pytest.fixture
def ends(receive):
    """What the receivers of ``session_invalidated`` were told."""
    return receive(session_invalidated)


def _told(ends):
    return [(named["handle"], named["user_id"], named["reason"]) for _, named in ends]


async def _store(session):
    await session.set_attribute("name", 1)


async def _read(session):
    return await session.get_attribute("name")


def test_invalidated(any_engine, visitor, ends):
    visitor.visit(_store)
    named = handle(visitor.session_key)
    visitor.visit(lambda session: session.invalidate())
    assert _told(ends) == [(named, None, Reason.INVALIDATED)]
    assert ends[0][1]["session"]["name"] == 1


def test_flushed_by_a_logout(any_engine, visitor, ends, user):
    visitor.log_in(user)
    visitor.visit(_store)
    named = handle(visitor.session_key)

    async def log_out(session, request):
        await auth.alogout(request) if visitor.is_async else auth.logout(request)

    visitor.visit(log_out)
    assert _told(ends) == [(named, str(user.pk), Reason.FLUSHED)]
    assert ends[0][1]["session"]["name"] == 1


def test_flushed_by_a_login_as_somebody_else(any_engine, visitor, ends, user):
    visitor.log_in(user)
    named = handle(visitor.session_key)
    other = get_user_model().objects.create_user("grace")
    visitor.log_in(other)
    assert _told(ends) == [(named, str(user.pk), Reason.FLUSHED)]


def test_flushed_by_a_password_that_was_changed_elsewhere(any_engine, visitor, ends, user):
    visitor.log_in(user)
    named = handle(visitor.session_key)
    user.set_password("changed")
    user.save()

    async def who(session, request):
        return str(await request.auser() if visitor.is_async else request.user)

    assert visitor.visit(who) == "AnonymousUser"
    assert _told(ends) == [(named, str(user.pk), Reason.FLUSHED)]


def test_a_flush_of_a_session_that_nobody_loaded(any_engine, visitor, ends):
    visitor.visit(_store)
    named = handle(visitor.session_key)

    async def flush(session, request):
        await request.session.aflush() if visitor.is_async else request.session.flush()

    visitor.visit(flush)
    assert _told(ends) == [(named, None, Reason.FLUSHED)]
    assert ends[0][1]["session"]["name"] == 1


def test_idle(any_engine, visitor, ends, clock, store_class):
    if any_engine in ("cache", "cached_db"):
        pytest.skip("a cache forgets by itself what is over")
    visitor.visit(_store)
    key = visitor.session_key
    visitor.visit(lambda session: session.set_max_inactive_interval(60))
    clock.tick(60)
    assert visitor.visit(_read) is None
    assert _told(ends) == [(handle(key), None, Reason.IDLE)]
    assert ends[0][1]["session"]["name"] == 1
    assert not store_class().exists(key)


def test_timeout(any_engine, visitor, ends, clock, settings, store_class):
    visitor.visit(_store)
    key = visitor.session_key
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 100
    clock.tick(100)
    assert visitor.visit(_read) is None
    assert _told(ends) == [(handle(key), None, Reason.TIMEOUT)]
    assert ends[0][1]["session"]["name"] == 1
    assert not store_class().exists(key)


def test_of_two_requests_that_find_it_over_one_tells(use_engine, visitor, ends, clock, settings):
    store_class = use_engine(OWN_ENGINE)
    visitor.visit(_store)
    key = visitor.session_key
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 100
    clock.tick(100)

    async def while_a_rival_deletes_it(session):
        value = await session.get_attribute("name")
        rival = store_class(key)
        await rival.adelete() if visitor.is_async else rival.delete()
        return value

    assert visitor.visit(while_a_rival_deletes_it) is None
    assert _told(ends) == []


def test_a_page_that_uses_no_session_finds_nothing_over(any_engine, visitor, ends, clock):
    visitor.visit(_store)
    clock.tick(days=15)

    async def nothing(session):
        return None

    visitor.visit(nothing)
    assert _told(ends) == []


def test_a_session_that_was_never_stored_ends_unheard(any_engine, visitor, ends):
    async def visit(session):
        await session.set_attribute("name", 1)
        await session.invalidate()

    visitor.visit(visit)
    assert _told(ends) == []


def test_a_change_of_id_at_login_is_told(any_engine, visitor, receive, user):
    visitor.visit(_store)
    changes = receive(session_id_changed)
    old = handle(visitor.session_key)
    visitor.log_in(user)
    assert [(n["old_handle"], n["new_handle"]) for _, n in changes] == [
        (old, handle(visitor.session_key))
    ]


def test_a_change_of_id_revives_nothing(server_engine, visitor, store_class):
    visitor.visit(_store)
    key = visitor.session_key

    async def change_too_late(session):
        await session.get_attribute("name")
        rival = store_class(key)
        await rival.aflush() if visitor.is_async else rival.flush()
        return await session.change_session_id()

    new = visitor.visit(change_too_late)
    assert visitor.response.status_code == 400
    assert not store_class().exists(key)
    assert not store_class().exists(new)


def test_a_store_that_is_away_costs_only_pages_that_need_it(
    use_engine, visitor, settings, monkeypatch
):
    store_class = use_engine("cache")
    visitor.visit(_store)
    settings.DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST = True

    def away(*args):
        raise OSError("no store")

    async def aaway(*args):
        away()

    monkeypatch.setattr(store_class, "load", away)
    monkeypatch.setattr(store_class, "aload", aaway)

    async def nothing(session):
        return None

    visitor.visit(nothing)
    assert visitor.response.status_code == 200
