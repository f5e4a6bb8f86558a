"""The middleware: what it costs, where it stands, what a view may do to it."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from dirigible_session import facade, signals
from dirigible_session.middleware import DirigibleSessionMiddleware

from .visiting import Call


async def _store(session):
    await session.set_attribute("name", 1)


@pytest.mark.parametrize("has_session", [False, True])
def test_a_page_that_uses_no_session_gets_no_cookie_and_does_not_vary(
    engine, visitor, has_session, monkeypatch, store_class
):
    if has_session:
        visitor.visit(_store)

    async def no_session(session):
        return HttpResponse("page")

    for name in ("load", "aload", "save", "asave", "create", "acreate", "delete", "adelete"):
        monkeypatch.setattr(store_class, name, None)
    visitor.visit(no_session)
    assert visitor.cookie is None
    assert not visitor.response.has_header("Vary")


def test_under_asgi_it_makes_no_thread_hop_of_its_own(use_engine, monkeypatch):
    use_engine("signed_cookies")

    async def view(request):
        await facade.aset_attribute("name", 1)
        return HttpResponse()

    middleware = DirigibleSessionMiddleware(view)
    assert iscoroutinefunction(middleware)
    request = AsyncRequestFactory().get("/")
    from django.contrib.sessions.backends.signed_cookies import SessionStore

    request.session = SessionStore()
    monkeypatch.setattr("asgiref.sync.SyncToAsync.__call__", None)
    assert asyncio.run(middleware(request)).status_code == 200


def test_a_request_that_passes_twice_keeps_changes_in_place(use_engine, store_class):
    use_engine("db")
    request = RequestFactory().get("/")
    request.session = store_class()
    request.session["cart"] = []
    request.session.create()

    def view(request):
        facade.get_attribute("cart").append("tea")
        return HttpResponse()

    middleware = DirigibleSessionMiddleware(view)
    for count in (1, 2):
        request.session.modified = False
        middleware(request)
        assert request.session.modified
        assert request.session["cart"] == ["tea"] * count


def test_a_session_that_use_request_began_sends_its_signals(use_engine, store_class):
    use_engine("db")
    request = RequestFactory().get("/")
    request.session = store_class()
    replaced = []

    def receive(value, **kwargs):
        replaced.append(value)

    def view(request):
        request.session = store_class()
        request.session["cart"] = cart = []
        with facade.use_request(request):
            facade.get_attribute("cart")
        cart.append("tea")
        return HttpResponse()

    signals.attribute_replaced.connect(receive)
    try:
        DirigibleSessionMiddleware(view)(request)
    finally:
        signals.attribute_replaced.disconnect(receive)
    assert replaced == [["tea"]]


def test_under_wsgi_it_is_no_coroutine():
    middleware = DirigibleSessionMiddleware(lambda request: HttpResponse())
    assert not iscoroutinefunction(middleware)


@pytest.mark.parametrize("without", [True, False], ids=["missing", "behind"])
def test_without_a_session_it_says_what_to_write_where(engine, visitor, settings, without):
    first, ours, *rest = settings.MIDDLEWARE
    settings.MIDDLEWARE = [ours] if without else [ours, first, *rest]
    with pytest.raises(ImproperlyConfigured, match=r"In MIDDLEWARE, write .*directly after"):
        visitor.visit(_store)


def test_what_is_no_session_is_named():
    request = RequestFactory().get("/")
    request.session = {"a": 1}
    middleware = DirigibleSessionMiddleware(lambda request: HttpResponse())
    with pytest.raises(ImproperlyConfigured, match=r"request.session is \{'a': 1\}"):
        middleware(request)


def test_a_view_that_deletes_its_session_is_answered(engine, visitor):
    visitor.visit(_store)

    async def visit(session, request):
        del request.session

    visitor.visit(visit)
    assert visitor.response.status_code == 200


def test_a_view_that_leaves_use_request_open_leaks_nothing(engine, visitor, store_class):
    async def visit(session, request):
        other = RequestFactory().get("/")
        other.session = store_class()
        facade.use_request(other).__enter__()

    visitor.visit(visit)
    assert facade.is_valid() is False


class TestASessionThatTheViewExchanges:
    @pytest.fixture(autouse=True)
    def _engine(self, engine):
        pass

    def test_is_the_current_one_and_is_stored(self, visitor, store_class, clock, receive):
        visitor.visit(_store)
        clock.tick(1000)
        arrived = clock.datetime()
        received = receive(signals.attribute_added, signals.session_created)

        async def visit(session, request):
            await session.get_attribute("name")
            request.session = store_class()
            clock.tick(10)
            await session.set_attribute("other", 2)
            return await session.get_creation_time(), await session.is_new()

        assert visitor.visit(visit) == (arrived, True)
        assert [named["request"] for _, named in received] == [visitor.request] * 2
        assert visitor.visit(lambda session: session.get_attribute_names()) == ["other"]

    def test_is_stored_when_only_django_saw_it(self, visitor, store_class, clock):
        arrived = clock.datetime()

        async def visit(session, request):
            request.session = store_class()
            request.session["name"] = 1
            clock.tick(10)

        visitor.visit(visit)
        assert visitor.visit(lambda session: session.get_creation_time()) == arrived

    def test_the_receivers_of_the_first_one_are_told(self, visitor, store_class):
        told = []

        async def receiver(signal, name, **named):
            told.append(name)

        async def visit(session, request):
            await session.get_attribute("name")
            facade.set_attribute("name", 1)
            request.session = store_class()

        signals.attribute_added.connect(receiver)
        try:
            visitor.visit(visit)
        finally:
            signals.attribute_added.disconnect(receiver)
        assert told == ["name"]

    def test_is_held_to_its_limits(self, visitor, store_class, clock):
        visitor.visit(_store)
        key = visitor.session_key
        clock.tick(days=15)

        async def visit(session, request):
            request.session = store_class(key)
            return await session.is_new()

        assert visitor.visit(visit) is True


def test_django_saving_each_request_makes_no_session_of_a_dead_cookie(
    engine, visitor, settings, store_class
):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    visitor.session_key = "nosuchsession0000000000000000000"

    async def no_session(session):
        return None

    visitor.visit(no_session)
    assert visitor.session_key is None


def test_django_saving_each_request_records_each(engine, visitor, settings, clock):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    visitor.visit(_store)
    clock.tick(10)
    second = clock.datetime()

    async def no_session(session):
        return None

    visitor.visit(no_session)
    clock.tick(10)
    assert visitor.visit(lambda session: session.get_last_accessed_time()) == second


@pytest.mark.parametrize(
    "setting", ["DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST", "SESSION_SAVE_EVERY_REQUEST"]
)
def test_a_response_with_a_cookie_varies_on_it_for_any_django(
    engine, visitor, settings, clock, setting
):
    setattr(settings, setting, True)
    visitor.visit(_store)
    visitor.visit(lambda session: session.set_max_inactive_interval(100))
    clock.tick(61)

    async def no_session(session):
        return None

    visitor.visit(no_session)
    assert visitor.cookie is not None
    assert visitor.response["Vary"] == "Cookie"
    # Django 5.2.0 asks this, and nothing else.
    assert visitor.request.session.accessed is True


def test_a_touch_that_is_not_due_leaves_the_page_to_every_cache(engine, visitor, settings, clock):
    settings.DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST = True
    visitor.visit(_store)

    async def no_session(session):
        return None

    visitor.visit(no_session)
    assert visitor.cookie is None
    assert not visitor.response.has_header("Vary")
    assert visitor.request.session.accessed is False


def test_it_serves_real_http(use_engine, live_server):
    use_engine("db")
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    async def visit(session):
        count = await session.set_attribute("count", await session.get_attribute("count", 0) + 1)
        return HttpResponse(f"{count} {await session.is_new()}")

    call = Call(visit)
    Call.calls[call.number] = call
    for path, body in (("sync", b"1 True"), ("sync", b"2 False"), ("async", b"3 False")):
        with browser.open(f"{live_server.url}/{path}/{call.number}/") as response:
            assert response.read() == body


def test_a_sync_view_under_asgi_and_an_async_one_under_wsgi_reach_the_session(engine, visitor):
    async def visit(session):
        return await session.set_attribute("name", 1)

    call = Call(visit)
    Call.calls[call.number] = call
    path = f"/{'sync' if visitor.is_async else 'async'}/{call.number}/"
    visitor._get(path)
    assert call.result == 1
    assert visitor.visit(lambda session: session.get_attribute("name")) == 1


def test_errors_of_the_end_leave_nothing_current():
    class Session:
        pass

    def view(request):
        request.session = object()
        return HttpResponse()

    request = RequestFactory().get("/")
    from django.contrib.sessions.backends.signed_cookies import SessionStore

    request.session = SessionStore()
    with pytest.raises(TypeError):
        DirigibleSessionMiddleware(view)(request)
    assert facade.is_valid() is False
    assert async_to_sync(_validity)() is False


async def _validity():
    return facade.is_valid()
