"""The last access on its way to the store: when it is written, and what is not written with it."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from ..visiting import Visitor


async def _store(session):
    await session.set_attribute("name", 1)


async def _read(session):
    return await session.get_attribute("name")


async def _no_session(session):
    return None


def _writes(visitor, visit):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        visitor.visit(visit)
    words = [query["sql"].split()[0] for query in queries]
    return [word for word in words if word in ("SELECT", "INSERT", "UPDATE", "DELETE")]


@pytest.fixture
def on_db(use_engine):
    use_engine("db")


@pytest.mark.parametrize("name", ["db", "cached_db", "dirigible_session.backends.db"])
@pytest.mark.parametrize("every_request", [False, True])
def test_a_store_that_takes_no_writes_fails_no_page_that_only_reads(
    use_engine, visitor, clock, settings, caplog, name, every_request
):
    settings.DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST = every_request
    use_engine(name)
    visitor.visit(_store)
    clock.tick(100)

    def refuse(execute, sql, *rest):
        if sql.startswith("UPDATE"):
            raise OperationalError("attempt to write a readonly database")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        assert visitor.visit(_no_session if every_request else _read) == (
            None if every_request else 1
        )
    assert visitor.response.status_code == 200
    assert visitor.cookie is None
    assert name != "dirigible_session.backends.db" or "could not be recorded" in caplog.text


@pytest.mark.parametrize("name", ["cache", "file"])
def test_nor_does_one_that_is_no_database(use_engine, visitor, clock, caplog, monkeypatch, name):
    store_class = use_engine(name)
    visitor.visit(_store)
    clock.tick(100)

    def refuse(*args, **named):
        raise OSError("Read-only file system")

    async def arefuse(*args, **named):
        refuse()

    monkeypatch.setattr(store_class, "save", refuse)
    monkeypatch.setattr(store_class, "asave", arefuse)
    assert visitor.visit(_read) == 1
    assert visitor.response.status_code == 200
    assert "could not be recorded" in caplog.text


@pytest.mark.usefixtures("on_db")
class TestQueries:
    def test_a_page_that_uses_no_session_makes_none(self, visitor, clock):
        assert _writes(visitor, _no_session) == []
        visitor.visit(_store)
        clock.tick(days=1)
        assert _writes(visitor, _no_session) == []
        assert not visitor.response.has_header("Vary")
        assert visitor.cookie is None

    def test_asking_whether_a_session_is_in_reach_makes_none(self, visitor, clock):
        visitor.visit(_store)
        clock.tick(days=1)
        assert _writes(visitor, lambda session: session.is_valid()) == []
        assert not visitor.response.has_header("Vary")

    def test_a_visitor_without_cookie_who_reads_makes_none(self, visitor):
        assert _writes(visitor, _read) == []

    def test_reading_is_one_query(self, visitor, clock):
        visitor.visit(_store)
        assert _writes(visitor, _read) == ["SELECT"]
        assert visitor.cookie is None
        assert visitor.response["Vary"] == "Cookie"

    def test_reading_much_is_one_query(self, visitor, clock):
        visitor.visit(_store)

        async def visit(session):
            for _ in range(3):
                await session.get_attribute("name")
                await session.get_attribute_names()
                await session.get_id()
                await session.is_new()
                await session.get_creation_time()
                await session.get_last_accessed_time()
                await session.get_max_inactive_interval()
                await session.remove_attribute("other")

        assert _writes(visitor, visit) == ["SELECT"]

    def test_a_due_touch_is_one_guarded_update(self, visitor, clock):
        visitor.visit(_store)
        clock.tick(61)
        assert _writes(visitor, _read) == ["SELECT", "UPDATE"]
        assert _writes(visitor, _read) == ["SELECT"]

    def test_writing_is_one_read_and_one_write(self, visitor, clock):
        visitor.visit(_store)
        clock.tick(61)
        assert _writes(visitor, _store) == ["SELECT", "UPDATE"]

    def test_removing_what_is_not_there_is_no_write(self, visitor, clock):
        visitor.visit(_store)
        removal = _writes(visitor, lambda session: session.remove_attribute("other"))
        assert removal == ["SELECT"]

    def test_with_touch_every_request_a_page_without_session_reads_it(
        self, visitor, clock, settings
    ):
        settings.DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST = True
        visitor.visit(_store)
        assert _writes(visitor, _no_session) == ["SELECT"]
        assert not visitor.response.has_header("Vary")

        async def fail(session):
            return HttpResponse(status=500)

        assert _writes(visitor, fail) == []
        clock.tick(61)
        assert _writes(visitor, _no_session) == ["SELECT", "UPDATE"]
        assert visitor.cookie["max-age"] == 14 * 86400

    def test_what_ids_asked_for_at_once_make_is_one_row(self):
        visitor = Visitor(is_async=True)

        async def visit(session):
            await asyncio.gather(*(session.get_id() for _ in range(5)))

        visitor.visit(visit)
        assert Session.objects.count() == 1


THROTTLES = [
    # setting, interval, seconds since the last access, whether a touch is due
    (60, None, 60, False),
    (60, None, 61, True),
    (60, 1200, 60, False),
    (60, 100, 5, False),
    (60, 100, 6, True),
    (60, -1, 60, False),
    (60, -1, 61, True),
    (600, None, 600, False),
    (600, None, 601, True),
    (0, None, 0, False),
    (0, None, 1, True),
    (0, -1, 1, True),
]


@pytest.mark.parametrize(("throttle", "interval", "seconds", "due"), THROTTLES)
def test_a_touch_waits_until_it_is_due(
    engine, visitor, clock, settings, throttle, interval, seconds, due
):
    settings.DIRIGIBLE_SESSION_TOUCH_INTERVAL = throttle
    visitor.visit(_store)
    if interval is not None:
        visitor.visit(lambda session: session.set_max_inactive_interval(interval))
    clock.tick(seconds)
    visitor.visit(_read)
    # A cookie that carries the whole session waits longer.
    lag = seconds if interval is None or interval < 0 else 2 * seconds
    is_late = engine != "signed_cookies" or lag > (interval or 0) > 0
    assert (visitor.cookie is not None) == (due and is_late)


def test_a_cookie_that_carries_the_session_is_renewed_after_half_of_the_interval(
    use_engine, visitor, clock
):
    use_engine("signed_cookies")
    visitor.visit(_store)
    visitor.visit(lambda session: session.set_max_inactive_interval(1000))
    clock.tick(500)
    visitor.visit(_read)
    assert visitor.cookie is None
    clock.tick(1)
    visitor.visit(_read)
    assert visitor.cookie is not None


def test_a_touch_writes_back_nothing_that_the_request_read(
    server_engine, visitor, clock, store_class
):
    visitor.visit(_store)
    clock.tick(61)

    def write():
        store = store_class(visitor.session_key)
        store["name"] = "rival"
        store.save()

    async def read_while_a_rival_writes(session):
        value = await session.get_attribute("name")
        await sync_to_async(write)() if visitor.is_async else write()
        return value

    assert visitor.visit(read_while_a_rival_writes) == 1
    touched = clock.datetime()
    assert visitor.visit(_read) == "rival"
    assert visitor.visit(lambda session: session.get_last_accessed_time()) == touched


def test_a_touch_that_finds_the_session_gone_lets_it_be_gone(
    server_engine, visitor, clock, store_class
):
    visitor.visit(_store)
    key = visitor.session_key
    clock.tick(61)

    async def read_while_the_rival_ends_it(session):
        await session.get_attribute("name")
        rival = store_class(key)
        await rival.aflush() if visitor.is_async else rival.flush()

    visitor.visit(read_while_the_rival_ends_it)
    assert visitor.response.status_code == 200
    # A cookie would overwrite the one of a login that ended this session.
    assert visitor.cookie is None
    assert not store_class().exists(key)


@pytest.mark.parametrize("name", ["db", "cached_db"])
def test_a_touch_leaves_alone_what_this_process_cannot_decode(use_engine, visitor, settings, name):
    use_engine(name)
    visitor.visit(_store)
    stored = Session.objects.get().session_data
    caches["default"].clear()
    key, settings.SECRET_KEY = settings.SECRET_KEY, "of another release"
    assert visitor.visit(_read) is None
    assert visitor.cookie is None
    assert Session.objects.get().session_data == stored
    caches["default"].clear()
    settings.SECRET_KEY = key
    assert visitor.visit(_read) == 1


def test_an_empty_session_from_before_the_app_was_installed_goes_on(
    server_engine, visitor, store_class, clock
):
    store = store_class()
    store.create()
    visitor.session_key = store.session_key
    assert visitor.visit(lambda session: session.is_new()) is False
    assert visitor.cookie is None
    visitor.visit(_store)
    clock.tick(61)
    assert visitor.visit(_read) == 1
    assert visitor.session_key == store.session_key
    assert visitor.cookie is not None


@pytest.mark.parametrize("name", ["cache", "file"])
def test_a_session_that_is_ended_while_it_is_touched_is_gone(
    use_engine, visitor, clock, monkeypatch, tmp_path, name
):
    store_class = use_engine(name)
    visitor.visit(_store)
    key = visitor.session_key
    clock.tick(61)
    save, asave = store_class.save, store_class.asave

    def end():
        caches["default"].clear()
        for file in tmp_path.iterdir():
            file.unlink()

    def save_too_late(store, must_create=False):
        end()
        save(store, must_create)

    async def asave_too_late(store, must_create=False):
        end()
        await asave(store, must_create)

    monkeypatch.setattr(store_class, "save", save_too_late)
    monkeypatch.setattr(store_class, "asave", asave_too_late)
    visitor.visit(_read)
    assert visitor.response.status_code == 200
    assert visitor.cookie is None
    assert not store_class().exists(key)


class TestTheGuardOfATouch:
    """On Django's table a touch is for the data that was read there, and for no other."""

    @pytest.fixture(autouse=True, params=["db", "cached_db"])
    def _stored(self, request, use_engine, visitor, clock):
        use_engine(request.param)
        visitor.visit(_store)
        clock.tick(61)

    @staticmethod
    def _before_the_update(rival):
        done = []

        def wrapper(execute, sql, *rest):
            if sql.startswith("UPDATE") and not done:
                done.append(sql)
                rival()
            return execute(sql, *rest)

        return connection.execute_wrapper(wrapper)

    def test_a_rival_that_wrote_between_read_and_touch_keeps_what_it_wrote(
        self, visitor, store_class, clock
    ):
        def write():
            store = store_class(visitor.session_key)
            store["name"] = "rival"
            store.save()

        with self._before_the_update(write):
            assert visitor.visit(_read) == 1
        touched = clock.datetime()
        assert visitor.visit(_read) == "rival"
        assert visitor.visit(lambda session: session.get_last_accessed_time()) == touched

    def test_a_session_that_a_rival_ended_between_read_and_touch_stays_ended(
        self, visitor, store_class
    ):
        key = visitor.session_key
        with self._before_the_update(lambda: store_class(key).flush()):
            visitor.visit(_read)
        assert visitor.response.status_code == 200
        assert visitor.cookie is None
        assert not store_class().exists(key)


def test_a_later_access_that_a_rival_recorded_stays(server_engine, visitor, clock, store_class):
    visitor.visit(_store)
    clock.tick(61)
    key = visitor.session_key

    async def slow(session):
        await session.get_attribute("name")
        clock.tick(100)
        other = Visitor(is_async=False)
        other.session_key = key
        await sync_to_async(other.visit)(_read) if visitor.is_async else other.visit(_read)

    visitor.visit(slow)
    assert visitor.visit(lambda session: session.get_last_accessed_time()) == clock.datetime()


def test_what_stands_between_the_middlewares_can_still_write(engine, visitor, clock, settings):
    first, *rest = settings.MIDDLEWARE
    settings.MIDDLEWARE = [first, "tests.current.test_touch.late_writer", *rest]
    visitor.visit(_store)
    clock.tick(61)
    visitor.visit(_read)
    assert visitor.visit(lambda session: session.get_attribute("late")) is True


def late_writer(get_response):
    def middleware(request):
        response = get_response(request)
        if "name" in request.session:
            request.session["late"] = True
        return response

    return middleware


def test_what_stands_between_the_middlewares_can_still_change_the_key(
    engine, visitor, clock, settings
):
    visitor.visit(_store)
    old_key = visitor.session_key
    first, *rest = settings.MIDDLEWARE
    settings.MIDDLEWARE = [first, "tests.current.test_touch.late_cycler", *rest]
    visitor.find_site_restarted()
    clock.tick(61)
    visitor.visit(_read)
    assert visitor.session_key not in (None, old_key)
    assert visitor.visit(_read) == 1


def late_cycler(get_response):
    def middleware(request):
        response = get_response(request)
        if "name" in request.session:
            request.session.cycle_key()
        return response

    return middleware


def test_a_save_after_the_touch_with_nothing_new_is_none(use_engine, clock):
    use_engine("db")
    visitor = Visitor(is_async=True)
    visitor.visit(_store)
    clock.tick(61)
    visitor.visit(_read)
    with CaptureQueriesContext(connection) as queries:
        async_to_sync(visitor.request.session.asave)()
        visitor.request.session.save()
    assert len(queries) == 0
    visitor.request.session["late"] = 1
    async_to_sync(visitor.request.session.asave)()
    assert visitor.visit(lambda session: session.get_attribute("late")) == 1


class TestAbsoluteTimeout:
    @pytest.fixture(autouse=True)
    def _timeout(self, settings, engine):
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 3600

    @pytest.mark.parametrize("interval", [None, -1, 1800])
    def test_a_session_ends_that_long_after_its_creation_however_busy(
        self, visitor, clock, interval
    ):
        visitor.visit(_store)
        if interval is not None:
            visitor.visit(lambda session: session.set_max_inactive_interval(interval))
        for _ in range(5):
            clock.tick(700)
            assert visitor.visit(_read) == 1
        clock.tick(100)
        assert visitor.visit(_read) is None

    def test_a_change_of_id_wins_no_time(self, visitor, clock):
        visitor.visit(_store)
        clock.tick(3000)
        visitor.visit(lambda session: session.change_session_id())
        clock.tick(600)
        assert visitor.visit(_read) is None

    def test_a_login_begins_anew(self, visitor, clock, user):
        visitor.visit(_store)
        clock.tick(3000)
        visitor.log_in(user)
        clock.tick(3599)
        assert visitor.visit(_read) == 1
        clock.tick(1)
        assert visitor.visit(_read) is None


class TestWhoeverLoads:
    """Both limits bind request.session and request.user as they bind the facade."""

    @pytest.fixture(autouse=True)
    def _logged_in(self, engine, visitor, clock, user, settings, request):
        visitor.log_in(user)
        visitor.visit(_store)

    @pytest.fixture(params=["idle", "absolute"])
    def over(self, request, visitor, clock, settings):
        if request.param == "idle":
            visitor.visit(lambda session: session.set_max_inactive_interval(900))
            clock.tick(901)
        else:
            settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 900
            clock.tick(901)

    @pytest.mark.usefixtures("over")
    def test_request_session(self, visitor):
        async def visit(session, request):
            if visitor.is_async:
                return await request.session.aget("name"), request.session.session_key
            return request.session.get("name"), request.session.session_key

        assert visitor.visit(visit) == (None, None)

    @pytest.mark.usefixtures("over")
    def test_request_user(self, visitor):
        async def visit(session, request):
            user = await request.auser() if visitor.is_async else request.user
            return user.is_authenticated

        assert visitor.visit(visit) is False

    @pytest.mark.usefixtures("over")
    def test_who_clears_it_without_a_look(self, visitor, clock):
        old_key = visitor.session_key

        async def clear(session, request):
            request.session.clear()
            request.session["fresh"] = 1

        visitor.visit(clear)
        assert visitor.response.status_code == 200
        assert visitor.session_key not in (None, old_key)
        assert visitor.visit(lambda session: session.get_attribute_names()) == ["fresh"]
        created = visitor.visit(lambda session: session.get_creation_time())
        assert created == clock.datetime()

    def test_a_live_one_that_is_cleared_without_a_look_is_the_same_session(self, visitor, clock):
        created = visitor.visit(lambda session: session.get_creation_time())
        clock.tick(100)

        async def clear(session, request):
            request.session.clear()
            request.session["fresh"] = 1
            return await session.is_new()

        assert visitor.visit(clear) is False
        assert visitor.visit(lambda session: session.get_creation_time()) == created
        assert visitor.visit(lambda session: session.get_attribute_names()) == ["fresh"]

    @pytest.mark.usefixtures("over")
    def test_who_loaded_it_before_the_middleware(self, visitor, settings):
        first, *rest = settings.MIDDLEWARE
        settings.MIDDLEWARE = [first, "tests.current.test_touch.early_reader", *rest]
        visitor.find_site_restarted()
        assert visitor.visit(_read) is None

    @pytest.mark.usefixtures("over")
    def test_nothing_is_brought_back(self, visitor):
        old_key = visitor.session_key
        visitor.visit(_store)
        assert visitor.session_key not in (None, old_key)
        assert visitor.visit(lambda session: session.get_attribute_names()) == ["name"]


def early_reader(get_response):
    def middleware(request):
        assert request.session.get("name") in (1, None)
        return get_response(request)

    return middleware
