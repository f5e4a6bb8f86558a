"""What the middleware does to request.session can't be noticed, but by what was promised."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.functional import LazyObject, SimpleLazyObject

from dirigible_session import facade
from dirigible_session.facade import use_request

pytestmark = pytest.mark.django_db


async def _store(session):
    await session.set_attribute("name", [1])


@pytest.fixture
def visited(engine, visitor):
    visitor.visit(_store)
    return visitor


def test_the_session_stays_one_of_its_engine(visited, store_class):
    visited.visit(_store)
    assert isinstance(visited.request.session, store_class)


def test_a_copy_is_a_session_of_the_engine_that_no_request_watches(visited, store_class):
    async def visit(session, request):
        await session.get_attribute("name")
        twin = copy.copy(request.session)
        assert type(twin) is store_class
        assert twin["name"] == [1]
        assert twin.session_key == request.session.session_key
        if not hasattr(twin, "_cache"):
            # A local-memory cache has locks, and can't be copied.
            deep = copy.deepcopy(request.session)
            assert type(deep) is store_class
            deep["name"].append(2)
        return request.session["name"]

    assert visited.visit(visit) == [1]


def test_a_session_can_be_pickled_where_its_engines_can(visited, store_class):
    try:
        pickle.dumps(store_class("x" * 32))
    except Exception:
        pytest.skip("this engine's sessions can't be pickled")

    async def visit(session, request):
        await session.get_attribute("name")
        return pickle.loads(pickle.dumps(request.session))

    twin = visited.visit(visit)
    assert type(twin) is store_class
    assert twin["name"] == [1]


class TestLoadingAgain:
    def test_shows_what_is_stored_now(self, server_engine, visitor, store_class):
        visitor.visit(_store)
        key = visitor.session_key

        def view(request):
            before = request.session["name"]
            rival = store_class(key)
            rival["name"] = 2
            rival.save()
            return before, request.session.load()["name"], request.session["name"]

        assert _in_a_sync_view(visitor, view) == ([1], 2, [1])

    def test_shows_nothing_once_it_was_ended(self, server_engine, visitor, store_class):
        visitor.visit(_store)
        key = visitor.session_key

        def view(request):
            assert request.session["name"] == [1]
            store_class(key).flush()
            return request.session.load()

        assert _in_a_sync_view(visitor, view) == {}
        assert not store_class().exists(key)


def _in_a_sync_view(visitor, view):
    if visitor.is_async:
        pytest.skip("the store is called without await")

    async def visit(session, request):
        return view(request)

    return visitor.visit(visit)


@pytest.mark.parametrize("is_lazy", [True, False])
def test_a_lazy_session_works_as_any(engine, visitor, settings, clock, is_lazy):
    if is_lazy:
        first, *rest = settings.MIDDLEWARE
        settings.MIDDLEWARE = [first, "tests.current.test_transparency.lazy_session", *rest]
    visitor.visit(_store)
    assert visitor.visit(lambda session: session.get_attribute("name")) == [1]
    clock.tick(days=8)
    visitor.visit(lambda session: session.get_attribute("name"))
    assert visitor.cookie is not None
    visitor.visit(lambda session: session.invalidate())
    assert visitor.visit(lambda session: session.is_new()) is True


def lazy_session(get_response):
    def middleware(request):
        session = request.session
        request.session = SimpleLazyObject(lambda: session)
        return get_response(request)

    return middleware


def test_the_lazy_session_of_a_scope_works_in_use_request(engine, store_class):
    scope = {"session": LazyObject()}
    scope["session"]._wrapped = store_class()
    holder = SimpleNamespace(session=scope["session"])
    with facade.use_request(holder):
        facade.set_attribute("name", 1)
        assert facade.get_attribute("name") == 1
    assert scope["session"]["name"] == 1
    assert scope["session"].modified


def test_a_method_that_the_project_replaced_stays(use_engine, visitor, settings):
    use_engine("db")
    first, *rest = settings.MIDDLEWARE
    settings.MIDDLEWARE = [first, "tests.current.test_transparency.unsaved", *rest]
    visitor.visit(_store)
    assert visitor.request.session.save.__name__ == "<lambda>"
    assert Session.objects.count() == 0


async def nothing(*args):
    return None


def unsaved(get_response):
    def middleware(request):
        request.session.save = lambda *args: None
        request.session.asave = nothing
        return get_response(request)

    return middleware


def test_a_key_put_in_by_hand_is_held_to_the_limits_and_keeps_its_creation(
    server_engine, visitor, another_visitor, clock
):
    visitor.visit(_store)
    created = clock.datetime()
    key = visitor.session_key
    clock.tick(100)

    async def put_in(session, request):
        request.session._session_key = key
        return await session.get_creation_time(), await session.get_attribute("name")

    assert another_visitor.visit(put_in) == (created, [1])
    clock.tick(days=15)
    assert another_visitor.visit(put_in)[1] is None


class AddressedStore(db.SessionStore):
    """A store whose constructor takes more than a key, and which keeps it in a column of its own.

    There is no such column in Django's table: the fixture watches what is written instead.
    """

    def __init__(self, address, session_key=None):
        super().__init__(session_key)
        self.address = address


def test_a_store_whose_constructor_takes_more_is_touched(use_engine, visitor, settings, clock):
    use_engine("db")
    first, *rest = settings.MIDDLEWARE
    settings.MIDDLEWARE = [first, "tests.current.test_transparency.addressed", *rest]
    visitor.visit(_store)
    clock.tick(100)
    touched = clock.datetime()
    assert visitor.visit(lambda session: session.get_attribute("name")) == [1]
    assert visitor.request.session.address == "127.0.0.1"
    assert visitor.visit(lambda session: session.get_last_accessed_time()) == touched


def addressed(get_response):
    def middleware(request):
        key = request.session.session_key
        request.session = AddressedStore(request.META.get("REMOTE_ADDR", "127.0.0.1"), key)
        return get_response(request)

    return middleware


def test_a_path_that_the_projects_middleware_leaves_out_passes_through(settings, visitor):
    settings.MIDDLEWARE = [
        "tests.current.test_transparency.PartialSessionMiddleware",
        *settings.MIDDLEWARE[1:2],
    ]
    assert visitor.visit(lambda session: session.is_valid()) is False
    assert visitor.response.status_code == 200


@pytest.mark.parametrize(
    "middleware",
    [
        ["tests.test_session_middleware.Without"],
        [
            "tests.current.test_transparency.PartialSessionMiddleware",
            "dirigible_session.middleware.DirigibleSessionMiddleware",
        ],
    ],
    ids=["in its place", "after it"],
)
def test_a_request_without_session_does_not_see_that_of_the_request_around_it(
    settings, visitor, store_class, middleware
):
    request = RequestFactory().get("/")
    request.session = store_class()
    settings.MIDDLEWARE = middleware
    with use_request(request):
        assert visitor.visit(lambda session: session.is_valid()) is False
        assert facade.is_valid()


def PartialSessionMiddleware(get_response):
    """Give no request a session."""

    def middleware(request):
        return get_response(request)

    return middleware


def test_a_session_middleware_of_another_kind_will_do(use_engine, settings, visitor):
    use_engine("cache")
    settings.MIDDLEWARE = [
        "tests.current.test_transparency.another_session_middleware",
        *settings.MIDDLEWARE[1:2],
    ]
    visitor.visit(_store)
    assert visitor.visit(lambda session: session.get_attribute("name")) == [1]


def another_session_middleware(get_response):
    from django.contrib.sessions.backends.cache import SessionStore

    def middleware(request):
        request.session = SessionStore(request.COOKIES.get("sessionid"))
        response: HttpResponse = get_response(request)
        if request.session.modified:
            request.session.save()
            response.set_cookie("sessionid", request.session.session_key)
        return response

    return middleware
