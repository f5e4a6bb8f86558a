"""Where a session is in reach, and whose it is."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import LazySettings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient

from dirigible_session import facade
from dirigible_session.current import context
from dirigible_session.exceptions import (
    MIDDLEWARE,
    SESSION_MIDDLEWARE,
    MiddlewareMissing,
    NoCurrentRequest,
)
from dirigible_session.middleware import DirigibleSessionMiddleware

from ..visiting import Call, Visitor

CALLS = {
    "get_attribute": ["name"],
    "get_attribute_names": [],
    "set_attribute": ["name", 1],
    "remove_attribute": ["name"],
    "get_id": [],
    "get_creation_time": [],
    "get_last_accessed_time": [],
    "get_max_inactive_interval": [],
    "set_max_inactive_interval": [60],
    "is_new": [],
    "invalidate": [],
    "change_session_id": [],
}


class OurOwn(DirigibleSessionMiddleware):
    """A subclass in a project."""


def function_middleware(get_response):
    return get_response


def __getattr__(name):
    if name == "breaks_at_import":
        raise LookupError(name)
    raise AttributeError(name)


@pytest.fixture
def on_cache(use_engine):
    """An engine that any thread can use, other than a database in memory."""
    use_engine("cache")


class TestOutsideARequest:
    def test_it_is_not_valid(self):
        assert facade.is_valid() is False

    @pytest.mark.parametrize("name", CALLS)
    def test_each_function_names_itself_and_says_what_to_do(self, name):
        with pytest.raises(NoCurrentRequest, match=rf"{name}\(\) needs .*use_request"):
            getattr(facade, name)(*CALLS[name])
        with pytest.raises(NoCurrentRequest, match=rf"a{name}\(\) needs .*open_session"):
            async_to_sync(getattr(facade, "a" + name))(*CALLS[name])

    @pytest.mark.parametrize("name", CALLS)
    def test_without_the_middleware_it_says_where_to_write_it(self, name, settings):
        settings.MIDDLEWARE = []
        with pytest.raises(
            MiddlewareMissing, match=rf"{name}\(\) needs .*write 'dirigible"
        ) as caught:
            getattr(facade, name)(*CALLS[name])
        assert isinstance(caught.value, NoCurrentRequest)
        assert isinstance(caught.value, RuntimeError)
        assert isinstance(caught.value, ImproperlyConfigured)

    @pytest.mark.parametrize("path", ["tests.current.test_context.OurOwn", MIDDLEWARE])
    @pytest.mark.parametrize(
        "before", ["no.such.middleware", "tests.current.test_context.breaks_at_import"]
    )
    def test_a_middleware_of_the_projects_own_is_ours_if_it_is_a_subclass(
        self, settings, path, before
    ):
        settings.MIDDLEWARE = [before, SESSION_MIDDLEWARE, path]
        with pytest.raises(NoCurrentRequest) as caught:
            facade.get_id()
        assert type(caught.value) is NoCurrentRequest

    @pytest.mark.parametrize("path", ["tests.current.test_context.function_middleware", "no.such"])
    def test_any_other_is_not(self, settings, path):
        settings.MIDDLEWARE = [SESSION_MIDDLEWARE, path]
        with pytest.raises(MiddlewareMissing):
            facade.get_id()

    def test_without_settings_it_is_not_the_middleware_that_is_missed(self, monkeypatch):
        monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
        monkeypatch.setattr(context, "settings", LazySettings())
        with pytest.raises(NoCurrentRequest, match=r"get_id\(\) needs") as caught:
            facade.get_id()
        assert type(caught.value) is NoCurrentRequest

    def test_it_is_an_error_that_comes_before_those_of_the_arguments(self):
        with pytest.raises(NoCurrentRequest):
            facade.set_attribute(5, object())


async def _validity(session):
    return await session.is_valid()


def test_it_is_valid_in_a_request_and_not_after_it(engine, visitor):
    assert visitor.visit(_validity) is True
    assert facade.is_valid() is False


def test_it_never_loads_the_session(engine, visitor, monkeypatch, store_class):
    visitor.visit(lambda session: session.set_attribute("name", 1))

    def load(store):
        raise AssertionError("loaded")

    monkeypatch.setattr(store_class, "load", load)
    monkeypatch.setattr(store_class, "aload", load)
    assert visitor.visit(_validity) is True


def test_a_view_that_raises_leaves_nothing_current(engine, visitor):
    async def fail(session):
        raise LookupError

    with pytest.raises(LookupError):
        visitor.visit(fail)
    assert facade.is_valid() is False


def test_threads_of_the_server_keep_their_visitors_apart(on_cache):
    barrier = threading.Barrier(8)

    def serve(number):
        visitor = Visitor(is_async=False)

        async def write(session):
            await session.set_attribute("number", number)
            barrier.wait(10)
            return await session.get_attribute("number")

        async def read(session):
            barrier.wait(10)
            return await session.get_attribute("number"), await session.get_id()

        return visitor.visit(write), *visitor.visit(read)

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(serve, range(8)))
    assert [(number, again) for number, again, _ in seen] == [(n, n) for n in range(8)]
    assert len({session_id for *_, session_id in seen}) == 8


@pytest.mark.parametrize("path", ["sync", "async"])
def test_hundreds_of_requests_at_once_keep_their_visitors_apart(on_cache, path):
    async def visit(session, request):
        number = int(request.GET["number"])
        if path == "async":
            await session.set_attribute("number", number)
            await asyncio.sleep(0)
            in_thread = await sync_to_async(facade.get_attribute)("number")
            await asyncio.sleep(0)
            in_other_thread = await asyncio.to_thread(facade.get_attribute, "number")
            in_task = await asyncio.create_task(session.get_attribute("number"))
            seen = {in_thread, in_other_thread, in_task, await session.get_attribute("number")}
        else:
            seen = {facade.set_attribute("number", number), facade.get_attribute("number")}
        return HttpResponse(str(*seen))

    call = Call(visit)
    Call.calls[call.number] = call

    async def serve(number):
        client = AsyncClient()
        first = await client.get(f"/{path}/{call.number}/?number={number}")
        second = await client.get(f"/{path}/{call.number}/?number={number}")
        return number, first.text, second.text, client.cookies["sessionid"].value

    async def serve_all():
        return await asyncio.gather(*(serve(number) for number in range(300)))

    seen = async_to_sync(serve_all)()
    assert all(str(number) == first == second for number, first, second, _ in seen)
    assert len({key for *_, key in seen}) == 300


class TestInsideAnAsyncView:
    async def _write(self):
        facade.set_attribute("name", "kept")

    @pytest.mark.parametrize(
        "reach",
        [
            lambda: facade.aset_attribute("name", "kept"),
            lambda: asyncio.create_task(facade.aset_attribute("name", "kept")),
            lambda: asyncio.wait_for(facade.aset_attribute("name", "kept"), 5),
            lambda: sync_to_async(facade.set_attribute)("name", "kept"),
            lambda: asyncio.to_thread(facade.set_attribute, "name", "kept"),
            lambda: sync_to_async(async_to_sync(facade.aset_attribute))("name", "kept"),
        ],
        ids=["await", "task", "wait_for", "sync_to_async", "to_thread", "there and back"],
    )
    def test_the_session_is_in_reach(self, on_cache, reach):
        visitor = Visitor(is_async=True)

        async def visit(session):
            await session.get_attribute("name")
            await reach()

        visitor.visit(visit)
        assert visitor.visit(lambda session: session.get_attribute("name")) == "kept"

    def test_two_tasks_that_set_at_once_are_both_kept(self, engine):
        visitor = Visitor(is_async=True)
        visitor.visit(lambda session: session.set_attribute("first", 1))

        async def visit(session):
            await asyncio.gather(
                session.set_attribute("a", 1),
                session.set_attribute("b", 2),
                session.get_attribute("first"),
            )

        visitor.visit(visit)
        names = visitor.visit(lambda session: session.get_attribute_names())
        assert names == ["first", "a", "b"]

    def test_two_tasks_of_a_client_with_a_dead_cookie_too(self, engine):
        visitor = Visitor(is_async=True)
        visitor.session_key = "nosuchsession0000000000000000000"

        async def visit(session):
            await asyncio.gather(session.set_attribute("a", 1), session.set_attribute("b", 2))

        visitor.visit(visit)
        assert visitor.visit(lambda session: session.get_attribute_names()) == ["a", "b"]


def test_a_session_that_one_of_two_tasks_finds_gone_is_not_brought_back(use_engine):
    store_class = use_engine("db")
    visitor = Visitor(is_async=True)
    visitor.visit(lambda session: session.set_attribute("name", 1))
    key = visitor.session_key

    async def visit(session, request):
        async def end():
            await store_class(key).aflush()

        # The second task loads after the session was ended, the first before.
        await asyncio.gather(session.get_id(), end(), session.set_attribute("name", 2))

    visitor.client.raise_request_exception = False
    visitor.visit(visit)
    assert visitor.response.status_code == 400
    assert not store_class().exists(key)


class TestBeyondTheRequest:
    def test_a_thread_that_the_view_started_has_no_session(self, engine, visitor):
        async def visit(session):
            seen = []
            thread = threading.Thread(target=lambda: seen.append(facade.is_valid()))
            thread.start()
            thread.join()
            return seen

        assert visitor.visit(visit) == [False]

    def test_a_task_that_outlives_its_request_has_no_session(self, on_cache):
        seen = {}

        async def outlive(over):
            seen["during"] = facade.is_valid()
            await over.wait()
            seen["after"] = facade.is_valid()
            with pytest.raises(NoCurrentRequest):
                await facade.aset_attribute("name", 1)

        async def run():
            over = asyncio.Event()

            async def visit(session):
                seen["task"] = asyncio.create_task(outlive(over))
                await asyncio.sleep(0)

            call = Call(visit)
            Call.calls[call.number] = call
            await AsyncClient().get(f"/async/{call.number}/")
            over.set()
            await seen.pop("task")

        async_to_sync(run)()
        assert seen == {"during": True, "after": False}

    @pytest.fixture
    def outlive(self, on_cache, store_class, monkeypatch):
        """Run a call whose session is being loaded while its request ends; give its error."""
        visitor = Visitor(is_async=True)
        visitor.visit(lambda session: session.set_attribute("name", "before"))
        real_load, real_aload = store_class.load, store_class.aload

        def outlive(call):
            begun, over = threading.Event(), threading.Event()

            def load(store):
                begun.set()
                assert over.wait(10)
                return real_load(store)

            async def aload(store):
                begun.set()
                while not over.is_set():
                    await asyncio.sleep(0)
                return await real_aload(store)

            async def run():
                async def visit(session):
                    tasks.append(asyncio.ensure_future(call()))
                    while not begun.is_set():
                        await asyncio.sleep(0)

                tasks = []
                on_its_way = Call(visit)
                Call.calls[on_its_way.number] = on_its_way
                await visitor.client.get(f"/async/{on_its_way.number}/")
                over.set()
                [ended] = await asyncio.gather(*tasks, return_exceptions=True)
                return ended

            with monkeypatch.context() as patched:
                patched.setattr(store_class, "load", load)
                patched.setattr(store_class, "aload", aload)
                ended = async_to_sync(run)()
            names = visitor.visit(lambda session: session.get_attribute_names())
            value = visitor.visit(lambda session: session.get_attribute("name"))
            assert (names, value) == (["name"], "before")
            return ended

        return outlive

    @pytest.mark.parametrize("name", CALLS)
    def test_a_task_that_is_loading_when_its_request_ends_is_told(self, outlive, name):
        error = outlive(lambda: getattr(facade, "a" + name)(*CALLS[name]))
        assert isinstance(error, NoCurrentRequest)
        assert f" a{name}()" in str(error)

    @pytest.mark.parametrize("name", CALLS)
    def test_a_thread_that_is_loading_when_its_request_ends_is_told(self, outlive, name):
        error = outlive(lambda: asyncio.to_thread(getattr(facade, name), *CALLS[name]))
        assert isinstance(error, NoCurrentRequest)
        assert f" {name}()" in str(error)

    def test_the_body_of_a_streaming_response_has_no_session(self, engine, visitor):
        def body():
            yield str(facade.is_valid())

        async def abody():
            yield str(facade.is_valid())

        async def visit(session):
            return StreamingHttpResponse(abody() if visitor.is_async else body())

        visitor.visit(visit)
        if visitor.is_async:

            async def read():
                return b"".join([part async for part in visitor.response.streaming_content])

            assert async_to_sync(read)() == b"False"
        else:
            assert visitor.response.getvalue() == b"False"


def test_a_request_inside_a_request_has_its_own_session(on_cache, visitor):
    visitor.visit(lambda session: session.set_attribute("who", "outer"))
    inner = Visitor(is_async=visitor.is_async)

    async def inner_visit(session):
        await session.set_attribute("who", "inner")
        return await session.get_id()

    async def outer_visit(session):
        outer_id = await session.get_id()
        inner_id = (
            await sync_to_async(inner.visit)(inner_visit)
            if visitor.is_async
            else inner.visit(inner_visit)
        )
        return (
            outer_id != inner_id,
            outer_id == await session.get_id(),
            await session.get_attribute("who"),
        )

    assert visitor.visit(outer_visit) == (True, True, "outer")
    assert inner.visit(lambda session: session.get_attribute("who")) == "inner"


def test_a_request_that_is_cancelled_leaves_nothing_and_stores_nothing(on_cache, receive):
    started = []

    async def visit(session):
        await session.set_attribute("name", 1)
        started.append(context.current.get())
        await asyncio.Event().wait()

    call = Call(visit)
    Call.calls[call.number] = call

    async def run():
        app = ApplicationCommunicator(
            get_asgi_application(),
            {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "GET",
                "path": f"/async/{call.number}/",
                "query_string": b"",
                "headers": [(b"host", b"testserver")],
            },
        )
        await app.send_input({"type": "http.request", "body": b""})
        while not started:
            await asyncio.sleep(0)
        await app.send_input({"type": "http.disconnect"})
        await app.wait()
        return facade.is_valid()

    assert async_to_sync(run)() is False
    assert started[0].closed


def test_a_task_that_was_cancelled_leaves_the_session_in_reach(on_cache):
    visitor = Visitor(is_async=True)

    async def visit(session):
        async def wait():
            await session.set_attribute("name", 1)
            await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await session.get_attribute("name")

    assert visitor.visit(visit) == 1
    assert visitor.visit(lambda session: session.get_attribute("name")) == 1
