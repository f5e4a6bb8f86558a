"""use_request and open_session: a session in reach outside the middleware."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory

from dirigible_session import facade, signals
from dirigible_session.exceptions import AttributeNotSerializable, NoCurrentRequest, SessionNotFound
from dirigible_session.facade import aopen_session, open_session, use_request

from ..visiting import Visitor


async def _store(session):
    await session.set_attribute("name", 1)


@pytest.fixture
def make_request(store_class):
    def make(key=None):
        request = RequestFactory().get("/")
        request.session = store_class(key)
        return request

    return make


@pytest.mark.usefixtures("engine")
class TestUseRequest:
    def test_it_makes_the_request_current_and_restores_what_was(self, make_request):
        first, second = make_request(), make_request()
        with use_request(first) as request:
            assert request is first
            facade.set_attribute("name", "first")
            with use_request(second):
                assert facade.get_attribute("name") is None
                facade.set_attribute("name", "second")
            assert facade.get_attribute("name") == "first"
            with pytest.raises(LookupError), use_request(second):
                raise LookupError
            assert facade.get_attribute("name") == "first"
        assert facade.is_valid() is False

    def test_of_two_tasks_with_one_request_the_last_one_out_settles_it(self, make_request):
        request = make_request()
        request.session["list"] = [1]
        request.session.save()
        request = make_request(request.session.session_key)

        async def main():
            first_in, second_in, first_out = (asyncio.Event() for _ in range(3))

            async def first():
                with use_request(request):
                    first_in.set()
                    await second_in.wait()
                first_out.set()

            async def second():
                await first_in.wait()
                with use_request(request):
                    second_in.set()
                    await first_out.wait()
                    (await facade.aget_attribute("list")).append(2)

            await asyncio.gather(first(), second())

        async_to_sync(main)()
        assert request.session.modified
        assert request.session["list"] == [1, 2]

    def test_it_works_in_a_request(self, make_request, visitor):
        request = make_request()

        async def visit(session):
            await session.set_attribute("name", "visitor")
            with use_request(request):
                await session.set_attribute("name", "other")
            return await session.get_attribute("name")

        assert visitor.visit(visit) == "visitor"

    def test_it_works_in_async_code(self, make_request):
        async def run():
            with use_request(make_request()):
                await facade.aset_attribute("name", 1)
                task = asyncio.create_task(facade.aget_attribute("name"))
                return await task

        assert async_to_sync(run)() == 1

    def test_a_task_that_outlives_it_has_no_session(self, make_request):
        async def run():
            async def outlive():
                await asyncio.sleep(0)
                return facade.is_valid()

            with use_request(make_request()):
                task = asyncio.create_task(outlive())
            return await task

        assert async_to_sync(run)() is False

    def test_it_saves_nothing(self, make_request, store_class, tmp_path):
        request = make_request()
        with use_request(request):
            facade.set_attribute("name", 1)
        assert request.session.modified
        assert request.session.session_key is None
        assert list(tmp_path.iterdir()) == []

    def test_what_it_changed_can_be_saved(self, make_request, store_class):
        request = make_request()
        with use_request(request):
            facade.set_attribute("cart", [1])
        request.session.save()
        again = make_request(request.session.session_key)
        with use_request(again):
            facade.get_attribute("cart").append(2)
            assert not again.session.modified
        assert again.session.modified
        again.session.save()
        with use_request(make_request(again.session.session_key)):
            assert facade.get_attribute("cart") == [1, 2]
            assert facade.is_new() is False

    def test_the_same_request_can_be_used_again(self, make_request, receive):
        request = make_request()
        with use_request(request):
            facade.set_attribute("cart", [])
        request.session.modified = False
        received = receive(signals.attribute_replaced)
        with use_request(request):
            facade.get_attribute("cart").append(1)
        assert request.session.modified
        assert [named["value"] for _, named in received] == [[1]]

    def test_used_within_itself_it_settles_once_at_the_end(self, make_request, receive):
        request = make_request()
        received = receive(signals.attribute_replaced)
        with use_request(request):
            facade.set_attribute("cart", [])
            with use_request(request):
                facade.get_attribute("cart").append(1)
            assert received == []
        assert len(received) == 1

    def test_what_cannot_be_stored_is_an_error_at_its_end(self, make_request):
        with (
            pytest.raises(AttributeNotSerializable, match="cart"),
            use_request(make_request()),
        ):
            facade.set_attribute("cart", []).append(object())
        assert facade.is_valid() is False

    @pytest.mark.parametrize("raises", [False, True])
    def test_a_session_that_was_stored_in_it_is_announced(self, make_request, receive, raises):
        received = receive(signals.session_created)
        request = make_request()

        def visit():
            with use_request(request):
                facade.set_attribute("name", 1)
                request.session.save()
                assert received == []
                if raises:
                    raise LookupError

        if raises:
            with pytest.raises(LookupError):
                visit()
        else:
            visit()
        assert [named["request"] for _, named in received] == [request]

    def test_it_can_be_left_in_another_context(self, make_request):
        request = make_request()
        scope = use_request(request)
        begun_in = contextvars.copy_context()
        begun_in.run(scope.__enter__)
        begun_in.run(facade.set_attribute, "cart", []).append(1)
        scope.__exit__(None, None, None)
        assert begun_in.run(facade.is_valid) is False
        assert request.session["cart"] == [1]

    @pytest.mark.parametrize("session", [None, {}])
    def test_a_request_without_session_is_an_error_that_says_why(self, session):
        request = RequestFactory().get("/")
        if session is not None:
            request.session = session
        with (
            pytest.raises(ImproperlyConfigured, match=r"without a session.*SessionMiddleware"),
            use_request(request),
        ):
            raise AssertionError
        assert facade.is_valid() is False

    def test_djangos_middleware_can_be_around_it(self, make_request, store_class):
        middleware = SessionMiddleware(lambda request: HttpResponse())
        request = RequestFactory().get("/")
        middleware.process_request(request)
        with use_request(request):
            facade.set_attribute("name", 1)
        response = middleware.process_response(request, HttpResponse())
        assert response.cookies["sessionid"].value == request.session.session_key


@pytest.fixture(params=["sync", "async"])
def opened(request):
    """Run a visit in an opened session, sync or async."""
    from ..visiting import Functions, run

    def visit_in(session_id, visit):
        if request.param == "sync":
            with open_session(session_id):
                return run(visit(Functions(is_async=False)))

        async def avisit():
            async with aopen_session(session_id):
                return await visit(Functions(is_async=True))

        return async_to_sync(avisit)()

    visit_in.is_async = request.param == "async"
    return visit_in


@pytest.fixture
def visitor_of_open():
    return Visitor(is_async=False)


@pytest.mark.usefixtures("server_engine")
class TestOpenSession:
    @pytest.fixture(autouse=True)
    def _stored(self, server_engine, visitor_of_open, clock):
        self.visitor = visitor_of_open
        self.session_id = self.visitor.visit(lambda session: session.get_id())
        self.visitor.visit(lambda session: session.set_attribute("cart", [1]))

    def _cart(self):
        return self.visitor.visit(lambda session: session.get_attribute("cart"))

    def test_the_facade_works_on_the_stored_session(self, opened):
        async def visit(session):
            return (
                await session.is_valid(),
                await session.get_id() == self.session_id,
                await session.get_attribute("cart"),
                await session.is_new(),
            )

        assert opened(self.session_id, visit) == (True, True, [1], False)
        assert facade.is_valid() is False

    def test_what_changed_is_saved_at_the_end(self, opened):
        async def visit(session):
            await session.set_attribute("name", 1)
            (await session.get_attribute("cart")).append(2)

        opened(self.session_id, visit)
        assert self._cart() == [1, 2]
        assert self.visitor.visit(lambda session: session.get_attribute("name")) == 1

    def test_what_a_receiver_changed_at_the_end_is_saved_too(self, opened):
        def count(name, **kwargs):
            if name == "cart":
                facade.set_attribute("changes", 1)

        async def visit(session):
            (await session.get_attribute("cart")).append(2)

        signals.attribute_replaced.connect(count)
        try:
            opened(self.session_id, visit)
        finally:
            signals.attribute_replaced.disconnect(count)
        assert self._cart() == [1, 2]
        assert self.visitor.visit(lambda session: session.get_attribute("changes")) == 1

    def test_a_session_that_was_created_in_it_is_told_even_on_an_exception(self, opened, receive):
        received = receive(signals.session_created)

        async def visit(session):
            await session.invalidate()
            await session.get_id()
            raise LookupError

        with pytest.raises(LookupError):
            opened(self.session_id, visit)
        assert len(received) == 1

    def test_nothing_is_left_current_whatever_a_receiver_raises(self, opened):
        class Abort(BaseException):
            pass

        def abort(**kwargs):
            raise Abort

        async def visit(session):
            (await session.get_attribute("cart")).append(2)

        signals.attribute_replaced.connect(abort)
        try:
            with pytest.raises(Abort):
                opened(self.session_id, visit)
        finally:
            signals.attribute_replaced.disconnect(abort)
        assert facade.is_valid() is False

    def test_not_on_an_exception(self, opened):
        async def visit(session):
            (await session.get_attribute("cart")).append(2)
            await session.set_attribute("cart", [3])
            raise LookupError

        with pytest.raises(LookupError):
            opened(self.session_id, visit)
        assert self._cart() == [1]
        assert facade.is_valid() is False

    def test_what_cannot_be_stored_is_an_error_and_leaves_the_session(self, opened):
        async def visit(session):
            await session.set_attribute("name", 1)
            (await session.get_attribute("cart")).append(object())

        with pytest.raises(AttributeNotSerializable, match="cart"):
            opened(self.session_id, visit)
        assert self._cart() == [1]
        assert self.visitor.visit(lambda session: session.get_attribute("name")) is None

    def test_it_is_no_visit_of_the_client(self, opened, clock):
        last = clock.datetime()
        clock.tick(300)

        async def visit(session):
            await session.set_attribute("name", 1)
            return await session.get_last_accessed_time()

        assert opened(self.session_id, visit) == last
        clock.tick(300)
        assert self.visitor.visit(lambda session: session.get_last_accessed_time()) == last

    def test_it_does_not_keep_the_session_alive(self, opened, clock):
        self.visitor.visit(lambda session: session.set_max_inactive_interval(900))
        clock.tick(800)
        opened(self.session_id, lambda session: session.set_attribute("name", 1))
        clock.tick(200)
        with pytest.raises(SessionNotFound):
            opened(self.session_id, lambda session: session.get_id())
        assert self._cart() is None

    def test_reading_writes_nothing(self, opened, store_class, monkeypatch, clock):
        def save(*args):
            raise AssertionError("saved")

        clock.tick(days=1)
        monkeypatch.setattr(store_class, "save", save)
        monkeypatch.setattr(store_class, "asave", save)
        opened(self.session_id, lambda session: session.get_attribute("cart"))

    @pytest.mark.parametrize(
        "session_id",
        [
            "",
            "short",
            "nosuchsession0000000000000000000",
            "a\0b" * 12,
            "ü" * 32,
            "\ud83e" * 32,
            "../../../../etc/passwd",
            "x" * 5000,
            "with space with space with space",
        ],
    )
    def test_an_id_that_names_no_live_session_is_not_found(self, opened, session_id):
        with pytest.raises(SessionNotFound) as caught:
            opened(session_id, lambda session: session.get_id())
        assert isinstance(caught.value, LookupError)
        assert session_id == "" or session_id not in str(caught.value)

    @pytest.mark.parametrize("session_id", [5, b"bytes"])
    def test_an_id_is_a_str(self, opened, session_id):
        with pytest.raises(TypeError, match="session id must be a str"):
            opened(session_id, lambda session: session.get_id())

    def test_a_session_that_is_over_is_not_found(self, opened, clock):
        clock.tick(days=15)
        with pytest.raises(SessionNotFound):
            opened(self.session_id, lambda session: session.get_id())

    def test_a_session_that_was_ended_meanwhile_is_not_brought_back(self, opened, store_class):
        async def visit(session):
            await session.set_attribute("name", 1)
            rival = store_class(self.session_id)
            await rival.aflush() if opened.is_async else rival.flush()

        with pytest.raises(SessionNotFound, match="ended elsewhere"):
            opened(self.session_id, visit)
        assert not store_class().exists(self.session_id)

    def test_an_error_of_another_session_is_not_taken_for_this_one(self, opened):
        async def visit(session):
            raise UpdateError

        with pytest.raises(UpdateError):
            opened(self.session_id, visit)

    def test_it_can_be_ended(self, opened, store_class, receive):
        received = receive(signals.session_invalidated)
        opened(self.session_id, lambda session: session.invalidate())
        assert not store_class().exists(self.session_id)
        assert [named["request"] for _, named in received] == [None]
        assert self._cart() is None

    def test_its_id_can_be_changed(self, opened, store_class):
        new_id = opened(self.session_id, lambda session: session.change_session_id())
        assert not store_class().exists(self.session_id)
        self.visitor.session_key = new_id
        assert self._cart() == [1]

    def test_it_works_inside_a_request(self, opened):
        other = Visitor(is_async=opened.is_async)

        async def visit(session):
            await session.set_attribute("cart", "other")
            if opened.is_async:
                async with aopen_session(self.session_id):
                    await session.set_attribute("cart", [7])
            else:
                with open_session(self.session_id):
                    await session.set_attribute("cart", [7])
            return await session.get_attribute("cart")

        assert other.visit(visit) == "other"
        assert self._cart() == [7]

    def test_a_session_from_before_the_app_was_created_at_its_first_request(
        self, opened, store_class, clock
    ):
        store = store_class()
        store["cart"] = []
        store.save()
        opened(store.session_key, lambda session: session.set_attribute("name", 1))
        clock.tick(days=1)
        self.visitor.session_key = store.session_key
        created = self.visitor.visit(lambda session: session.get_creation_time())
        assert created == clock.datetime()

    def test_it_can_be_left_in_another_context(self):
        scope = open_session(self.session_id)
        begun_in = contextvars.copy_context()
        begun_in.run(scope.__enter__)
        begun_in.run(facade.set_attribute, "cart", [2])
        scope.__exit__(None, None, None)
        assert begun_in.run(facade.is_valid) is False
        assert self._cart() == [2]

    def test_an_async_one_too(self):
        async def run():
            async with aopen_session(self.session_id):
                facade.get_attribute("cart").append(2)
                yield

        async def leave_elsewhere():
            visit = run()
            await asyncio.create_task(anext(visit))
            await asyncio.create_task(anext(visit, None))

        async_to_sync(leave_elsewhere)()
        assert self._cart() == [1, 2]

    def test_nothing_is_current_after_it(self, opened):
        opened(self.session_id, _store)
        with pytest.raises(NoCurrentRequest):
            facade.get_attribute("cart")


def test_a_cookie_of_another_engine_is_no_session(use_engine):
    store = use_engine("signed_cookies")("a" * 32)
    assert store.get("name") is None
    request = RequestFactory().get("/")
    request.session = store
    with use_request(request):
        assert facade.is_new()


def test_signed_cookies_are_in_browsers_and_cannot_be_opened(use_engine, opened):
    use_engine("signed_cookies")
    visitor = Visitor(is_async=False)
    visitor.visit(_store)
    session_id = visitor.visit(lambda session: session.get_id())
    for key in (session_id, visitor.session_key):
        with pytest.raises(SessionNotFound, match="browsers"):
            opened(key, lambda session: session.get_id())
