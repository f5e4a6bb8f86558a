"""Where the parts of a visit meet: failed answers, threads that load at once, renewals."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.http import HttpResponse

from dirigible_session import facade

from ..visiting import Visitor

pytestmark = pytest.mark.django_db

OURS = "dirigible_session.middleware.SessionMiddleware"


async def _store(session):
    await session.set_attribute("name", 1)


async def _read(session):
    return await session.get_attribute("name")


@pytest.fixture(params=["two middlewares", "one"])
def _middleware(request, settings):
    if request.param == "one":
        settings.MIDDLEWARE = [OURS, *settings.MIDDLEWARE[2:]]


@pytest.mark.usefixtures("_middleware")
class TestA5xx:
    def test_leaves_the_cookie_of_a_session_that_nobody_loaded(self, engine, visitor):
        visitor.visit(_store)

        async def fail(session, request):
            request.session.modified = True
            return HttpResponse(status=503)

        visitor.visit(fail)
        assert visitor.cookie is None
        assert visitor.visit(_read) == 1

    def test_is_answered_as_it_is_where_every_request_saves(self, engine, visitor, settings):
        settings.SESSION_SAVE_EVERY_REQUEST = True
        visitor.visit(_store)

        async def fail(session):
            return HttpResponse(status=503)

        visitor.visit(fail)
        assert visitor.response.status_code == 503


class TestThreadsThatLoadAtOnce:
    """The second comes while the engine loads for the first."""

    @pytest.fixture
    def in_two_threads(self, use_engine, monkeypatch):
        store_class = use_engine("cache")
        load = store_class.load
        first_loads, second_loads, first_is_done = (threading.Event() for _ in range(3))

        def load_in_turn(store):
            data = load(store)
            if threading.current_thread().name == "first":
                first_loads.set()
                second_loads.wait(5)
            elif threading.current_thread().name == "second":
                second_loads.set()
                first_is_done.wait(5)
            return data

        monkeypatch.setattr(store_class, "load", load_in_turn)

        def run(first, second):
            def work():
                first()
                first_is_done.set()

            one, other = (
                threading.Thread(target=copy_context().run, args=[target], name=name)
                for name, target in (("first", work), ("second", second))
            )
            one.start()
            first_loads.wait(5)
            other.start()
            one.join()
            other.join()

        return run

    def test_lose_nothing(self, in_two_threads):
        visitor = Visitor(is_async=False)
        visitor.visit(_store)

        async def visit(session):
            in_two_threads(
                lambda: facade.set_attribute("late", 2), lambda: facade.get_attribute("name")
            )

        visitor.visit(visit)
        assert visitor.visit(lambda session: session.get_attribute("late")) == 2

    def test_are_given_nothing_of_a_session_that_is_over(self, in_two_threads, clock, settings):
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 100
        visitor = Visitor(is_async=False)
        visitor.visit(_store)
        clock.tick(100)
        seen = []

        async def visit(session):
            def look():
                seen.append(facade.get_attribute("name"))

            in_two_threads(look, look)

        visitor.visit(visit)
        assert seen == [None, None]


def test_a_wrapper_of_the_request_that_kept_its_user_finds_nobody_after_the_end(
    use_engine, visitor, user
):
    use_engine("db")
    visitor.log_in(user)

    async def visit(session, request):
        kept = request.user
        before = str(await request.auser() if visitor.is_async else kept)
        await session.invalidate()
        return before, None if visitor.is_async else kept.is_authenticated

    assert visitor.visit(visit) == ("ada", None if visitor.is_async else False)


@pytest.mark.parametrize(
    "name", ["db", "cached_db", "cache", "file", "dirigible_session.backends.db"]
)
class TestAnOpenedSession:
    def test_that_counts_as_a_visit_records_it_though_nothing_changed(
        self, use_engine, visitor, clock, name
    ):
        use_engine(name)
        visitor.visit(_store)
        key = visitor.session_key
        clock.tick(hours=5)
        opened = clock.datetime()
        with facade.open_session(key, counts_as_visit=True):
            assert facade.get_attribute("name") == 1
        assert visitor.visit(lambda session: session.get_last_accessed_time()) == opened

    def test_is_no_visit_otherwise(self, use_engine, visitor, clock, name):
        use_engine(name)
        visitor.visit(_store)
        accessed = clock.datetime()
        clock.tick(hours=5)
        with facade.open_session(visitor.session_key):
            facade.set_attribute("name", 2)
        assert visitor.visit(lambda session: session.get_last_accessed_time()) == accessed


@pytest.mark.parametrize("name", ["db", "cached_db", "cache", "file"])
def test_passive_writes_keep_no_session_alive_that_django_stored(
    use_engine, visitor, clock, settings, name
):
    store_class = use_engine(name)
    settings.SESSION_COOKIE_AGE = 1000
    store = store_class()
    store["name"] = 1
    store.save()
    visitor.session_key = store.session_key

    async def write(session):
        facade.context.mark_passive()
        await session.set_attribute("late", clock.now)
        return await session.get_attribute("name")

    found = []
    for _ in range(5):
        clock.tick(400)
        found.append(visitor.visit(write))
    assert found[-1] is None


def test_a_session_that_a_request_in_time_renewed_is_not_deleted(use_engine, clock, settings):
    store_class = use_engine("db")
    settings.SESSION_COOKIE_AGE = 100
    visitor = Visitor(is_async=False)
    visitor.visit(_store)
    key = visitor.session_key
    in_time = store_class(key)
    in_time["name"] = 2
    clock.tick(101)

    async def find_it_over(session):
        found = await session.get_attribute("name")
        in_time.save()
        return found

    assert visitor.visit(find_it_over) is None
    assert store_class(key)["name"] == 2


def test_a_sync_view_may_run_one_event_loop_after_another(use_engine):
    use_engine("cache")
    visitor = Visitor(is_async=False)

    async def visit(session):
        async def work():
            await asyncio.gather(*(facade.achange_session_id() for _ in range(2)))

        for _ in range(2):
            async_to_sync(work)()

    visitor.visit(visit)
    assert visitor.response.status_code == 200


def test_a_change_in_place_is_kept_under_a_name_with_a_pair_of_surrogates(use_engine, visitor):
    use_engine("db")
    name = "\ud83d\ude00"
    visitor.visit(lambda session: session.set_attribute(name, []))

    async def append(session):
        (await session.get_attribute(name)).append("tea")

    visitor.visit(append)
    assert visitor.visit(lambda session: session.get_attribute(name)) == ["tea"]


def test_what_is_saved_after_the_answer_is_stored(use_engine, settings):
    store_class = use_engine("cache")
    settings.MIDDLEWARE = [OURS]
    visitor = Visitor(is_async=True)
    visitor.visit(lambda session: session.set_attribute("cart", []))
    session = visitor.request.session
    session["cart"].append("tea")
    session.save()
    assert store_class(visitor.session_key)["cart"] == ["tea"]
    assert django_settings.MIDDLEWARE == [OURS]
