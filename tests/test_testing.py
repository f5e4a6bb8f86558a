"""The module for the tests of projects that use the facade."""

from __future__ import annotations

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser

from dirigible_session import facade
from dirigible_session.exceptions import NoCurrentRequest, SessionNotFound
from dirigible_session.testing import (
    astored_session,
    let_time_pass,
    session_request,
    stored_session,
)

from .visiting import Visitor

pytestmark = pytest.mark.usefixtures("engine")


class TestSessionRequest:
    def test_code_that_uses_the_facade_can_be_called(self):
        with session_request({"cart": ["tea"]}, path="/cart/") as request:
            assert facade.get_attribute("cart") == ["tea"]
            assert facade.is_new()
            assert request.path == "/cart/"
            assert request.session["cart"] == ["tea"]
        with pytest.raises(NoCurrentRequest):
            facade.get_attribute("cart")

    def test_its_user_is_nobody_or_the_given_one(self, user):
        with session_request() as request:
            assert isinstance(request.user, AnonymousUser)
        with session_request(user=user) as request:
            assert request.user == async_to_sync(request.auser)() == user

    def test_who_logs_in_is_its_user(self, user):
        with session_request() as request:
            async_to_sync(auth.alogin)(request, user)
            assert request.user == async_to_sync(request.auser)() == user

    def test_it_works_in_async_tests(self):
        async def test():
            with session_request({"cart": ["tea"]}):
                return await facade.aget_attribute("cart")

        assert async_to_sync(test)() == ["tea"]

    def test_it_needs_no_users(self, settings):
        settings.INSTALLED_APPS = ["django.contrib.sessions", "dirigible_session"]
        with session_request() as request:
            assert request.user is None

    def test_a_bad_name_is_an_error(self):
        with pytest.raises(ValueError, match="_cart"), session_request({"_cart": 1}):
            raise AssertionError


class TestStoredSession:
    def test_the_session_can_be_prepared_before_the_first_request(self, visitor):
        with stored_session(visitor.client):
            facade.set_attribute("cart", ["tea"])
        assert visitor.visit(lambda session: session.get_attribute("cart")) == ["tea"]

    def test_what_a_view_left_can_be_seen_and_changed(self, visitor):
        visitor.visit(lambda session: session.set_attribute("cart", ["tea"]))
        with stored_session(visitor.client) as session:
            assert session["cart"] == ["tea"]
            facade.get_attribute("cart").append("milk")
        assert visitor.visit(lambda session: session.get_attribute("cart")) == ["tea", "milk"]

    def test_it_can_be_ended_and_get_another_id(self, visitor):
        with stored_session(visitor.client):
            facade.set_attribute("cart", ["tea"])
            facade.change_session_id()
        assert visitor.visit(lambda session: session.get_attribute("cart")) == ["tea"]
        with stored_session(visitor.client):
            facade.invalidate()
        assert visitor.session_key is None

    @pytest.mark.parametrize("is_async", [False, True])
    def test_after_a_logout_there_is_another(self, visitor, is_async):
        visitor.visit(lambda session: session.set_attribute("cart", ["tea"]))
        # What Django's test client makes of a cookie that a response deletes.
        visitor.session_key = ""

        async def prepare():
            async with astored_session(visitor.client):
                await facade.aset_attribute("cart", ["milk"])

        if is_async:
            async_to_sync(prepare)()
        else:
            with stored_session(visitor.client):
                facade.set_attribute("cart", ["milk"])
        assert visitor.visit(lambda session: session.get_attribute("cart")) == ["milk"]

    def test_a_session_that_is_over_is_not_found(self, visitor):
        visitor.visit(lambda session: session.set_attribute("cart", ["tea"]))
        let_time_pass(visitor.client, days=15)
        with pytest.raises(SessionNotFound), stored_session(visitor.client):
            raise AssertionError

    def test_it_has_an_async_twin(self, visitor):
        async def prepare():
            async with astored_session(visitor.client) as session:
                await facade.aset_attribute("cart", ["tea"])
                return await session.aget("cart")

        assert async_to_sync(prepare)() == ["tea"]
        assert visitor.visit(lambda session: session.get_attribute("cart")) == ["tea"]


class TestLetTimePass:
    def test_a_visitor_who_stays_away_finds_the_session_over(self, visitor):
        visitor.visit(lambda session: session.set_attribute("cart", ["tea"]))
        visitor.visit(lambda session: session.set_max_inactive_interval(1800))
        let_time_pass(visitor.client, minutes=29)
        assert visitor.visit(lambda session: session.get_attribute("cart")) == ["tea"]
        let_time_pass(visitor.client, minutes=31)
        assert visitor.visit(lambda session: session.get_attribute("cart")) is None

    def test_the_times_are_in_the_past(self, visitor):
        visitor.visit(lambda session: session.set_attribute("cart", ["tea"]))

        async def times(session):
            return await session.get_creation_time(), await session.get_last_accessed_time()

        created, accessed = visitor.visit(times)
        let_time_pass(visitor.client, timedelta(hours=1).total_seconds())
        earlier = timedelta(hours=1)
        assert visitor.visit(times) == (created - earlier, accessed - earlier)

    def test_the_absolute_timeout_counts(self, visitor, settings):
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 3600
        visitor.visit(lambda session: session.set_attribute("cart", ["tea"]))
        let_time_pass(visitor.client, hours=1)
        assert visitor.visit(lambda session: session.get_attribute("cart")) is None

    def test_a_fixed_date_comes_nearer(self, visitor):
        async def visit(session, request):
            await session.set_attribute("cart", ["tea"])
            request.session.set_expiry(timedelta(hours=2))

        visitor.visit(visit)
        let_time_pass(visitor.client, hours=1)
        left = visitor.visit(lambda session: session.get_max_inactive_interval())
        assert 3590 <= left <= 3600
        let_time_pass(visitor.client, hours=1)
        assert visitor.visit(lambda session: session.get_attribute("cart")) is None

    def test_a_session_that_the_app_never_saw_is_as_old(self, visitor, clock):
        assert visitor.client.session.session_key
        let_time_pass(visitor.client, hours=1)
        assert visitor.visit(lambda session: session.is_new()) is False
        created = visitor.visit(lambda session: session.get_creation_time())
        assert created == clock.datetime() - timedelta(hours=1)

    def test_a_session_that_no_request_used_yet_ends_too(self, visitor, user):
        visitor.client.force_login(user)
        let_time_pass(visitor.client, days=15)

        assert visitor.visit(lambda session: session.is_new()) is True
        assert visitor.session_key is None

    def test_a_session_that_no_request_used_yet_can_be_let_idle(self, visitor, user):
        visitor.client.force_login(user)
        let_time_pass(visitor.client, days=13)
        assert visitor.visit(lambda session: session.is_new()) is False


def test_a_session_that_a_page_read_first_is_over_in_time_too(client, engine):
    with stored_session(client):
        facade.set_attribute("name", 1)
    visitor = Visitor(is_async=False)
    visitor.client = client
    assert visitor.visit(lambda session: session.get_attribute("name")) == 1
    with stored_session(client):
        facade.set_max_inactive_interval(1800)
    let_time_pass(client, minutes=31)
    assert visitor.visit(lambda session: session.get_attribute("name")) is None
