"""Passive requests, the time left, and when the user logged in."""

from __future__ import annotations

import pytest
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.test import Client

from dirigible_session import facade
from dirigible_session.testing import let_time_pass, session_request

pytestmark = pytest.mark.django_db

OWN_ENGINE = "dirigible_session.backends.db"
MIDDLEWARE = {
    "in its place": ["dirigible_session.middleware.SessionMiddleware"],
    "after it": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "dirigible_session.middleware.DirigibleSessionMiddleware",
    ],
}


@pytest.fixture(params=["db", "cached_db", "cache", "file", "signed_cookies", OWN_ENGINE])
def any_engine(request, use_engine):
    use_engine(request.param)
    return request.param


async def _store(session):
    await session.set_attribute("name", 1)
    await session.set_max_inactive_interval(1000)


def _passive(visit):
    """Return a visit whose view is marked as passive."""

    async def passive_visit(session):
        if session.is_async:

            @facade.passive
            async def aview(request):
                return await visit(session)

            return await aview(None)

        # The functions of a sync visit never wait.
        from ..visiting import run

        @facade.passive
        def view(request):
            return run(visit(session))

        return view(None)

    return passive_visit


async def _read(session):
    return await session.get_attribute("name")


async def _write(session):
    await session.set_attribute("name", 2)


async def _fail(session):
    await session.set_attribute("name", 3)
    return HttpResponse(status=500)


class TestAPassiveRequest:
    def test_is_no_access_of_the_client(self, any_engine, visitor, clock):
        visitor.visit(_store)
        for _ in range(9):
            clock.tick(100)
            assert visitor.visit(_passive(_read)) == 1
            assert visitor.cookie is None
        clock.tick(100)
        assert visitor.visit(_read) is None

    def test_stores_what_it_changes_and_leaves_the_end_where_it_was(
        self, any_engine, visitor, clock
    ):
        visitor.visit(_store)
        accessed = clock.datetime()
        clock.tick(600)
        visitor.visit(_passive(_write))
        # A cookie that carries the session has to be sent to be changed.
        assert (visitor.cookie is not None) == (any_engine == "signed_cookies")
        clock.tick(300)
        assert visitor.visit(_passive(_read)) == 2
        assert visitor.visit(_passive(lambda s: s.get_last_accessed_time())) == accessed
        clock.tick(100)
        assert visitor.visit(_passive(_read)) is None

    @pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE.keys())
    @pytest.mark.parametrize(
        "setting", ["DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST", "SESSION_SAVE_EVERY_REQUEST"]
    )
    def test_whatever_else_is_set(self, any_engine, visitor, clock, settings, setting, middleware):
        settings.MIDDLEWARE = middleware
        visitor.visit(_store)
        setattr(settings, setting, True)
        visitor.find_site_restarted()
        clock.tick(600)
        assert visitor.visit(_passive(_read)) == 1
        assert (visitor.cookie, visitor.response["Vary"]) == (None, "Cookie")
        clock.tick(100)
        visitor.visit(_passive(lambda session: session.is_valid()))
        assert visitor.cookie is None
        assert not visitor.response.has_header("Vary")
        visitor.visit(_passive(_fail))
        assert visitor.cookie is None
        visitor.visit(_passive(_write))
        assert (visitor.cookie is not None) == (any_engine == "signed_cookies")
        clock.tick(299)
        assert visitor.visit(_passive(_read)) == 2
        clock.tick(1)
        assert visitor.visit(_passive(_read)) is None

    def test_by_the_name_of_a_view_in_the_settings(self, use_engine, visitor, clock, settings):
        use_engine("db")
        visitor.visit(_store)
        settings.DIRIGIBLE_SESSION_PASSIVE = [
            "tests.visiting.sync_view",
            "tests.visiting.async_view",
        ]
        clock.tick(600)
        assert visitor.visit(_read) == 1
        assert visitor.cookie is None
        clock.tick(400)
        assert visitor.visit(_read) is None

    def test_of_a_visitor_without_session_that_stores_begins_one(self, any_engine, visitor):
        visitor.visit(_passive(_write))
        assert visitor.cookie is not None
        assert visitor.visit(_read) == 2

    def test_a_view_that_is_called_outside_any_request_works(self):
        @facade.passive
        def view(request):
            return HttpResponse("done")

        assert view(HttpRequest()).content == b"done"


class TestTheTimeLeft:
    def test_is_the_interval_after_a_request(self, any_engine, visitor, clock):
        visitor.visit(_store)
        clock.tick(600)
        assert visitor.visit(_passive(lambda s: s.get_time_left())) == 400
        assert visitor.visit(lambda s: s.get_time_left()) == 1000

    @pytest.mark.parametrize("after", [0, 400, 600])
    @pytest.mark.parametrize("saves", [True, False])
    def test_is_true_of_a_cookie_that_is_not_sent_each_time(
        self, use_engine, visitor, clock, settings, after, saves
    ):
        use_engine("signed_cookies")
        settings.SESSION_SAVE_EVERY_REQUEST = saves
        visitor.visit(_store)
        clock.tick(after)
        left = visitor.visit(lambda s: s.get_time_left())
        assert left == (1000 if saves or after == 600 else 1000 - after)
        clock.tick(left - 1)
        assert visitor.visit(_passive(_read)) == 1
        clock.tick(1)
        assert visitor.visit(_read) is None

    def test_is_none_of_a_session_that_never_ends(self, any_engine, visitor):
        visitor.visit(lambda s: s.set_max_inactive_interval(-1))
        assert visitor.visit(lambda s: s.get_time_left()) is None

    def test_is_that_of_the_limit_that_comes_first(self, any_engine, visitor, clock, settings):
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 1200
        visitor.visit(_store)
        clock.tick(700)
        assert visitor.visit(lambda s: s.get_time_left()) == 500


class TestTheAuthenticationTime:
    def test_is_that_of_the_last_login(self, any_engine, visitor, clock, user):
        assert visitor.visit(lambda s: s.get_authentication_time()) is None
        for _ in range(2):
            visitor.log_in(user)
            logged_in = clock.datetime()
            clock.tick(100)
            assert visitor.visit(lambda s: s.get_authentication_time()) == logged_in

    def test_is_none_after_a_logout(self, use_engine, visitor, user):
        use_engine("db")
        visitor.log_in(user)

        async def log_out(session, request):
            await auth.alogout(request) if visitor.is_async else auth.logout(request)
            return await session.get_authentication_time()

        assert visitor.visit(log_out) is None

    def test_is_not_known_of_a_login_before_the_package_was_installed(
        self, server_engine, visitor, user, store_class
    ):
        session = store_class()
        session[auth.SESSION_KEY] = str(user.pk)
        session[auth.BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        visitor.session_key = session.session_key
        assert visitor.visit(lambda s: s.get_authentication_time()) is None

    def test_begins_the_absolute_timeout_anew(self, any_engine, visitor, clock, user, settings):
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 1000
        visitor.log_in(user)
        clock.tick(900)
        visitor.log_in(user)
        visitor.visit(lambda s: s.set_attribute("name", 1))
        clock.tick(900)
        assert visitor.visit(_read) == 1
        clock.tick(100)
        assert visitor.visit(_read) is None


class TestALongRequest:
    """It keeps its session, even if it takes longer than the interval."""

    @pytest.mark.parametrize("visit", [_read, _write])
    def test_that_came_in_time_keeps_its_session(self, any_engine, visitor, clock, visit):
        if any_engine in ("cache", "cached_db"):
            pytest.skip("the store has deleted it by itself")

        async def take_long(session):
            await session.get_attribute("name")
            clock.tick(1500)
            return await visit(session)

        visitor.visit(_store)
        clock.tick(900)
        visitor.visit(take_long)
        assert visitor.response.status_code == 200
        clock.tick(900)
        assert visitor.visit(_read) in (1, 2)

    def test_that_uses_its_session_late_finds_it(self, use_engine, visitor, clock):
        use_engine("db")

        async def wait_first(session):
            clock.tick(200)
            return await session.get_attribute("name")

        visitor.visit(_store)
        clock.tick(900)
        assert visitor.visit(wait_first) == 1


@pytest.mark.parametrize("name", ["db", "cached_db", "cache", "file"])
def test_a_session_that_a_process_without_the_package_renewed_is_not_over(
    use_engine, visitor, clock, name
):
    store_class = use_engine(name)
    visitor.visit(lambda session: session.set_attribute("name", 1))
    clock.tick(days=10)
    elsewhere = store_class(visitor.session_key)
    elsewhere["name"] = 2
    elsewhere.save()
    clock.tick(days=10)
    assert visitor.visit(_read) == 2


class TestTheTestClient:
    def test_a_receiver_of_a_login_may_use_the_facade(self, any_engine, user):
        def receiver(**named):
            facade.set_attribute("device", "phone")

        auth.signals.user_logged_in.connect(receiver)
        client = Client()
        try:
            client.force_login(user)
        finally:
            auth.signals.user_logged_in.disconnect(receiver)
        assert client.session["device"] == "phone"
        assert facade.is_valid() is False

    def test_a_page_that_only_reads_after_a_login_takes_no_statement_more(
        self, use_engine, user, visitor, django_assert_num_queries
    ):
        use_engine("db")
        client = Client()
        client.force_login(user)
        visitor.session_key = client.cookies["sessionid"].value
        with django_assert_num_queries(1):
            visitor.visit(_read)

    def test_time_passes_for_the_login_too(self, any_engine, user, visitor, clock):
        client = Client()
        client.force_login(user)
        logged_in = clock.datetime()
        let_time_pass(client, seconds=500)
        visitor.session_key = client.cookies["sessionid"].value
        found = visitor.visit(lambda s: s.get_authentication_time())
        assert (logged_in - found).total_seconds() == 500


def test_get_handle_names_the_session(any_engine, visitor):
    async def visit(session):
        return await session.get_handle(), await session.get_id()

    handle, session_id = visitor.visit(visit)
    from dirigible_session.handles import digest

    assert handle == digest(session_id)


def test_get_handle_outside_a_store():
    with session_request():
        assert len(facade.get_handle()) == 40
