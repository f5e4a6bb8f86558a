"""What a visit knows, where the facade alone does not reach it."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends import cache, signed_cookies
from django.core.cache import caches

from dirigible_session import lifecycle
from dirigible_session.current.engines import VISIT
from dirigible_session.current.engines import begin as begin_stay
from dirigible_session.lifecycle import Times


def begin(session, arrived):
    return begin_stay(
        session, SimpleNamespace(arrived=arrived, request=None, closed=False, visits=())
    )


def test_a_session_has_one_visit(engine, store_class):
    session = store_class()
    visit = begin(session, 1.0)
    assert vars(session)[VISIT] is visit
    assert begin(session, 2.0) is visit
    assert isinstance(session, store_class)


def test_tasks_that_load_at_once_work_on_the_same_data(server_engine, store_class):
    store = store_class()
    store["name"] = 1
    store.save()
    session = store_class(store.session_key)
    visit = begin(session, time.time())

    async def run():
        return await asyncio.gather(*(session._aget_session() for _ in range(3)))

    first, *others = async_to_sync(run)()
    assert first["name"] == 1
    assert all(other is first for other in others)
    assert session._session_cache is first
    assert visit.client_knows_it


def test_loading_again_shows_what_is_stored_and_changes_nothing(use_engine):
    store_class = use_engine("cache")
    store = store_class()
    store["name"] = 1
    store.save()
    session = store_class(store.session_key)
    begin(session, time.time())
    data = session._session
    store.delete()
    assert session.load() == {}
    assert session._session is data
    assert session.session_key == store.session_key


@pytest.mark.parametrize("damage", ["", "garbage", "{}"])
def test_a_damaged_file_is_no_session_and_makes_none(use_engine, tmp_path, visitor, damage):
    store_class = use_engine("file")
    store = store_class()
    store["name"] = 1
    store.save()
    [file] = tmp_path.iterdir()
    file.write_text(damage)
    visitor.session_key = store.session_key
    assert visitor.visit(lambda session: session.get_attribute_names()) == []
    assert list(tmp_path.iterdir()) == [file]


def test_an_engine_that_creates_while_it_loads_makes_no_session(use_engine, monkeypatch):
    store_class = use_engine("cache")

    async def aload(store):
        await store.acreate()
        return {}

    monkeypatch.setattr(store_class, "aload", aload)
    session = store_class("nosuchsession0000000000000000000")
    visit = begin(session, time.time())
    async_to_sync(visit.aload_data)()
    assert (session.session_key, visit.client_knows_it) == (None, False)
    assert not caches["default"]._cache


def test_a_file_that_is_over_is_no_session_and_makes_none(use_engine, tmp_path, visitor, clock):
    use_engine("file")
    visitor.visit(lambda session: session.set_attribute("name", 1))
    clock.tick(days=15)
    assert visitor.visit(lambda session: session.is_new()) is True
    assert list(tmp_path.iterdir()) == []


def test_a_forged_cookie_is_no_session(use_engine, visitor):
    use_engine("signed_cookies")
    visitor.visit(lambda session: session.set_attribute("name", 1))
    visitor.session_key = visitor.session_key[:-3] + "abc"
    assert visitor.visit(lambda session: session.is_new()) is True
    assert visitor.session_key is None


def test_an_old_cookie_that_the_app_never_saw_is_no_session(use_engine, visitor, clock):
    store = use_engine("signed_cookies")()
    store["name"] = 1
    store.save()
    clock.tick(days=15)
    visitor.session_key = store.session_key
    assert visitor.visit(lambda session: session.get_attribute("name")) is None


def test_a_signed_cookie_has_an_id_as_soon_as_it_is_stored(use_engine, visitor):
    use_engine("signed_cookies")

    async def visit(session, request):
        request.session["name"] = 1

    visitor.visit(visit)
    stored = signed_cookies.SessionStore(visitor.session_key)
    assert stored[lifecycle.ID_KEY] == visitor.visit(lambda session: session.get_id())


def test_asave_keeps_the_times_too(engine, store_class, clock):
    session = store_class()
    visit = begin(session, time.time())

    async def run():
        await session.aset("name", 1)
        await session.asave()
        again = store_class(session.session_key)
        known = begin(again, time.time())
        await again.asave()
        return known

    known = async_to_sync(run)()
    assert known.client_knows_it
    assert known.times == visit.times


def test_asave_of_what_was_not_loaded_keeps_the_times(server_engine, store_class, clock):
    session = store_class()
    begin(session, time.time())
    session["name"] = 1
    session.save()
    created = clock.now
    clock.tick(100)
    again = store_class(session.session_key)
    begin(again, time.time())
    async_to_sync(again.asave)()
    data = store_class(session.session_key)
    assert data["name"] == 1
    assert Times.from_record(data[lifecycle.TIMES_KEY]) == Times(created, clock.now)


class TestAnEngineThatKeepsTimes:
    class SessionStore(cache.SessionStore):
        """As an engine of our own: the times are not in the data."""

        keeps_times = True
        columns = {}  # noqa: RUF012
        times = None

        def load(self):
            self.times = self.columns.get(self.session_key)
            return super().load()

        async def aload(self):
            self.times = self.columns.get(self.session_key)
            return await super().aload()

        def save(self, must_create=False):
            super().save(must_create)
            self.columns[self.session_key] = self.times

        async def asave(self, must_create=False):
            await super().asave(must_create)
            self.columns[self.session_key] = self.times

        def touch(self, accessed):
            times = self.columns.get(self.session_key)
            if times is None:
                return False
            self.columns[self.session_key] = Times(times.created, accessed, times.interval)
            return True

        async def atouch(self, accessed):
            return self.touch(accessed)

    @pytest.fixture(autouse=True)
    def _engine(self, monkeypatch, use_engine):
        self.SessionStore.columns.clear()
        monkeypatch.setattr(cache, "SessionStore", self.SessionStore)
        use_engine("cache")

    def test_is_told_of_them_and_touched(self, visitor, clock):
        created = clock.now
        visitor.visit(lambda session: session.set_attribute("name", 1))
        clock.tick(100)
        visitor.visit(lambda session: session.get_attribute("name"))
        assert self.SessionStore.columns == {visitor.session_key: Times(created, clock.now)}
        assert visitor.cookie is not None
        store = self.SessionStore(visitor.session_key)
        assert lifecycle.TIMES_KEY not in store

    def test_a_touch_that_finds_it_gone_sends_no_cookie(self, visitor, clock):
        visitor.visit(lambda session: session.set_attribute("name", 1))
        clock.tick(100)

        async def visit(session):
            await session.get_attribute("name")
            self.SessionStore.columns.clear()

        visitor.visit(visit)
        assert visitor.cookie is None

    def test_a_session_that_is_over_is_none(self, visitor, clock):
        visitor.visit(lambda session: session.set_attribute("name", 1))
        visitor.visit(lambda session: session.set_max_inactive_interval(60))
        clock.tick(61)
        assert visitor.visit(lambda session: session.is_new()) is True


@pytest.mark.parametrize("gone", [True, False])
def test_a_touch_tells_whether_the_session_is_still_there(server_engine, store_class, gone, clock):
    session = store_class()
    visit = begin(session, clock.now)
    session.save()
    if gone:
        caches["default"].clear()
        store_class().delete(session.session_key)
    session.modified = False
    visit.touch()
    assert session.modified is not gone
    session.modified = False
    async_to_sync(visit.atouch)()
    assert session.modified is not gone


def test_a_load_that_comes_too_late_takes_no_new_key_away(use_engine):
    store_class = use_engine("cache")
    session = store_class("nosuchsession0000000000000000000")
    visit = begin(session, time.time())
    visit.load_data()
    session.create()
    new_key = session.session_key
    caches["default"].clear()
    assert session.load() == {}
    assert session.session_key == new_key
