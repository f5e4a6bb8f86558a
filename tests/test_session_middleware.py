"""The middleware that stands in the place of Django's, and is async by itself."""

from __future__ import annotations

import asyncio
from importlib import import_module

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.conf import settings as django_settings
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import override_settings

from dirigible_session import facade
from dirigible_session.middleware import DirigibleSessionMiddleware, SessionMiddleware

from .visiting import Call

pytestmark = pytest.mark.django_db

OURS = "dirigible_session.middleware.SessionMiddleware"


@pytest.fixture(autouse=True)
def _middleware(settings):
    settings.MIDDLEWARE = [OURS, *settings.MIDDLEWARE[2:]]


@pytest.fixture(params=["db", "cached_db", "cache", "file", "signed_cookies"])
def _engine(request, use_engine):
    use_engine(request.param)


async def _store(session):
    await session.set_attribute("name", [1])


async def _read(session):
    return await session.get_attribute("name")


def test_it_is_derived_from_djangos():
    assert issubclass(SessionMiddleware, DjangosMiddleware)


@pytest.mark.usefixtures("_engine")
class TestOnEachEngine:
    def test_stores_reads_touches_and_ends(self, visitor, clock):
        visitor.visit(_store)
        assert visitor.cookie["max-age"] == 14 * 86400
        assert visitor.response["Vary"] == "Cookie"
        assert visitor.visit(_read) == [1]
        assert visitor.cookie is None
        clock.tick(days=8)
        assert visitor.visit(_read) == [1]
        assert visitor.cookie is not None
        visitor.visit(lambda session: session.invalidate())
        assert visitor.cookie["max-age"] == 0

    def test_keeps_what_was_changed_in_place(self, visitor):
        visitor.visit(_store)

        async def append(session):
            (await session.get_attribute("name")).append(2)

        visitor.visit(append)
        assert visitor.visit(_read) == [1, 2]

    def test_a_5xx_saves_nothing(self, visitor):
        async def fail(session):
            await session.set_attribute("name", 1)
            return HttpResponse(status=500)

        visitor.visit(fail)
        assert visitor.cookie is None

    def test_saves_every_request_where_the_settings_say_so(self, visitor, settings):
        settings.SESSION_SAVE_EVERY_REQUEST = True
        visitor.visit(_store)
        visitor.visit(_read)
        assert visitor.cookie is not None

    def test_a_page_that_uses_no_session_says_nothing_of_cookies(self, visitor, clock):
        visitor.visit(_store)
        clock.tick(days=1)

        async def nothing(session):
            return session.is_valid

        visitor.visit(nothing)
        assert visitor.cookie is None
        assert not visitor.response.has_header("Vary")


def test_a_session_that_was_ended_meanwhile_is_not_brought_back(server_engine, visitor):
    visitor.visit(_store)
    store = import_module(django_settings.SESSION_ENGINE).SessionStore(visitor.session_key)

    async def write_too_late(session):
        await session.set_attribute("name", 2)
        await store.aflush() if visitor.is_async else store.flush()

    visitor.visit(write_too_late)
    assert visitor.response.status_code == 400
    assert not store.exists(visitor.session_key)


def test_a_subclass_may_leave_the_session_out(visitor, settings):
    settings.MIDDLEWARE = ["tests.test_session_middleware.Without"]
    assert visitor.visit(lambda session: session.is_valid()) is False
    assert visitor.response.status_code == 200


class Without(SessionMiddleware):
    def process_request(self, request):
        """Give no request a session."""


@pytest.mark.parametrize("middleware", [SessionMiddleware, DirigibleSessionMiddleware])
def test_the_app_must_be_installed(middleware):
    installed = [app for app in django_settings.INSTALLED_APPS if app != "dirigible_session"]
    with (
        override_settings(INSTALLED_APPS=installed),
        pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS"),
    ):
        middleware(lambda request: HttpResponse())


class TestUnderAsgi:
    """A request costs no hop to a thread but those that its store needs."""

    @staticmethod
    def _hops(visit, cookies=""):
        call = Call(visit)
        Call.calls[call.number] = call
        hops = []

        async def run():
            loop = asyncio.get_running_loop()
            application = get_asgi_application()
            # The chain is built, and settings are read, with the first request.
            for is_counted in (False, True):
                submit = loop.run_in_executor
                if is_counted:

                    def counted(executor, function, *args, submit=submit):
                        hops.append(function)
                        return submit(executor, function, *args)

                    loop.run_in_executor = counted
                app = ApplicationCommunicator(
                    application,
                    {
                        "type": "http",
                        "asgi": {"version": "3.0"},
                        "http_version": "1.1",
                        "method": "GET",
                        "path": f"/async/{call.number}/",
                        "query_string": b"",
                        "headers": [
                            (b"host", b"testserver"),
                            (b"cookie", cookies.encode()),
                        ],
                    },
                )
                await app.send_input({"type": "http.request", "body": b""})
                start = await app.receive_output(10)
                await app.receive_output(10)
                await app.wait()
            return start["status"]

        # In a loop of its own: async_to_sync would lend it this thread for what is submitted.
        assert asyncio.run(run()) == 200
        return len(hops), call.result

    @staticmethod
    async def _nothing(session):
        return facade.is_valid()

    def test_a_page_without_session_makes_none(self, settings):
        settings.MIDDLEWARE = []
        without, _ = self._hops(self._nothing)
        settings.MIDDLEWARE = [OURS]
        assert self._hops(self._nothing, "sessionid=" + 32 * "x") == (without, True)

    def test_a_page_that_reads_from_redis_makes_none(self, redis_server, settings):
        settings.MIDDLEWARE = []
        without, _ = self._hops(self._nothing)
        settings.MIDDLEWARE = [OURS]
        store = import_module(settings.SESSION_ENGINE).SessionStore()
        store["name"] = 1
        store.save()
        made, value = self._hops(_read, f"sessionid={store.session_key}")
        assert (made, value) == (without, 1)


def test_async_to_sync_is_not_needed_either(use_engine, visitor):
    use_engine("cache")
    middleware = SessionMiddleware(_async_view)

    async def run():
        from django.test import RequestFactory

        return await middleware(RequestFactory().get("/"))

    assert async_to_sync(run)().status_code == 200


async def _async_view(request):
    request.session["name"] = 1
    return HttpResponse()
