"""The session's id: which it is, when it is made, when it changes."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.db import OperationalError

from dirigible_session import facade
from dirigible_session.handles import handle
from dirigible_session.signals import session_id_changed, session_invalidated

from ..visiting import Visitor


async def _store(session):
    await session.set_attribute("name", 1)


def test_the_id_is_what_the_cookie_carries(server_engine, visitor):
    session_id = visitor.visit(lambda session: session.get_id())
    assert visitor.session_key == session_id
    assert visitor.visit(lambda session: session.get_id()) == session_id


def test_on_signed_cookies_the_id_is_random_and_stays(use_engine, visitor, another_visitor):
    use_engine("signed_cookies")
    session_id = visitor.visit(lambda session: session.get_id())
    assert session_id.isalnum()
    assert len(session_id) == 32
    visitor.visit(_store)
    assert visitor.visit(lambda session: session.get_id()) == session_id
    assert another_visitor.visit(lambda session: session.get_id()) != session_id


def test_asking_for_the_id_creates_the_session_at_once(server_engine, visitor, store_class):
    async def visit(session):
        session_id = await session.get_id()
        return store_class().exists(session_id), session_id == await session.get_id()

    if visitor.is_async:
        stored = visitor.visit(lambda session: session.get_id())
        assert store_class().exists(stored)
    else:
        assert visitor.visit(visit) == (True, True)


def test_a_cookie_that_names_no_session_is_replaced(engine, visitor):
    visitor.session_key = "nosuchsession0000000000000000000"
    session_id = visitor.visit(lambda session: session.get_id())
    assert session_id != "nosuchsession0000000000000000000"
    assert visitor.visit(lambda session: session.get_id()) == session_id


def test_the_id_changes_when_told_and_everything_else_stays(engine, visitor, store_class):
    visitor.visit(_store)
    old_key = visitor.session_key

    async def visit(session):
        old_id = await session.get_id()
        new_id = await session.change_session_id()
        assert new_id != old_id
        assert await session.get_id() == new_id
        return new_id, await session.get_attribute("name"), await session.is_new()

    new_id, value, is_new = visitor.visit(visit)
    assert (value, is_new) == (1, False)
    assert visitor.session_key != old_key
    assert visitor.visit(lambda session: session.get_id()) == new_id
    assert visitor.visit(lambda session: session.get_attribute("name")) == 1
    assert not store_class().exists(old_key)


def test_changing_the_id_of_no_session_creates_one(engine, visitor):
    session_id = visitor.visit(lambda session: session.change_session_id())
    assert visitor.visit(lambda session: session.get_id()) == session_id


def test_a_login_changes_the_id(engine, visitor, user):
    old_id = visitor.visit(lambda session: session.get_id())
    visitor.log_in(user)
    assert visitor.visit(lambda session: session.get_id()) != old_id


def test_a_login_in_the_first_request_changes_the_id_too(engine, visitor, user):
    async def visit(session, request):
        old_id = await session.get_id()
        await auth.alogin(request, user) if visitor.is_async else auth.login(request, user)
        return old_id, await session.get_id(), await session.is_new()

    old_id, new_id, is_new = visitor.visit(visit)
    assert old_id != new_id
    assert is_new
    assert visitor.visit(lambda session: session.get_id()) == new_id


def test_an_invalidated_session_is_followed_by_one_with_another_id(engine, visitor):
    old_id = visitor.visit(lambda session: session.get_id())

    async def visit(session):
        await session.invalidate()
        return await session.get_id()

    new_id = visitor.visit(visit)
    assert new_id != old_id
    assert visitor.visit(lambda session: session.get_id()) == new_id


@pytest.mark.parametrize("has_cookie", [False, True])
def test_two_tasks_that_ask_at_once_get_the_id_that_the_client_gets(engine, has_cookie):
    visitor = Visitor(is_async=True)
    if has_cookie:
        visitor.session_key = "nosuchsession0000000000000000000"

    async def visit(session):
        return await asyncio.gather(session.get_id(), session.get_id(), session.get_id())

    ids = visitor.visit(visit)
    assert set(ids) == {visitor.visit(lambda session: session.get_id())}


def test_changing_the_id_twice_at_once_leaves_one_session(server_engine, store_class):
    visitor = Visitor(is_async=True)
    old_id = visitor.visit(lambda session: session.get_id())

    async def visit(session):
        await asyncio.gather(session.get_id(), session.change_session_id())

    visitor.visit(visit)
    assert not store_class().exists(old_id)
    assert store_class().exists(visitor.session_key)


class TestThreads:
    """Where threads of one request meet: the rival comes at the seam, in the first's context."""

    @pytest.fixture(autouse=True)
    def stores(self, use_engine):
        self.store_class = use_engine("cache")

    def _meet(self, monkeypatch, name, function):
        """Call ``function`` twice, the second time while the store's method works for the first."""
        method, seen = getattr(self.store_class, name), []

        def work(store, *args):
            monkeypatch.setattr(self.store_class, name, method)
            rivals.append(threading.Thread(target=copy_context().run, args=(rival,)))
            rivals[0].start()
            # It waits for its turn now, or it is through.
            rivals[0].join(0.2)
            method(store, *args)

        def rival():
            seen.append(function())

        rivals = []
        monkeypatch.setattr(self.store_class, name, work)
        seen.append(function())
        rivals[0].join()
        return seen

    def test_two_that_ask_at_once_get_the_id_that_the_client_gets(self, monkeypatch):
        visitor = Visitor(is_async=False)

        async def visit(session):
            return self._meet(monkeypatch, "create", facade.get_id)

        first, second = visitor.visit(visit)
        assert first == second == visitor.session_key

    def test_two_that_change_the_id_leave_one_session(self, monkeypatch, receive):
        visitor = Visitor(is_async=False)
        old_id = visitor.visit(lambda session: session.get_id())
        received = receive(session_id_changed)

        async def visit(session):
            return self._meet(monkeypatch, "cycle_key", facade.change_session_id)

        visitor.visit(visit)
        (_, first), (_, second) = received
        assert first["old_handle"] == handle(old_id)
        assert first["new_handle"] == second["old_handle"]
        assert second["new_handle"] == handle(visitor.session_key)

    def test_two_that_end_it_end_it_once(self, monkeypatch, receive):
        visitor = Visitor(is_async=False)
        visitor.visit(_store)
        received = receive(session_invalidated)

        async def visit(session):
            self._meet(monkeypatch, "flush", facade.invalidate)

        visitor.visit(visit)
        assert len(received) == 1

    @pytest.fixture
    def create_waits(self, monkeypatch):
        """Two events: a thread is creating a session; it may go on."""
        create, begun, may_go_on = self.store_class.create, threading.Event(), threading.Event()

        def create_late(store):
            if not begun.is_set():
                begun.set()
                assert may_go_on.wait(10)
            create(store)

        monkeypatch.setattr(self.store_class, "create", create_late)
        return begun, may_go_on

    def test_a_task_waits_for_the_thread_that_creates(self, create_waits):
        begun, may_go_on = create_waits

        async def visit(session):
            in_thread = asyncio.create_task(asyncio.to_thread(facade.get_id))
            while not begun.is_set():
                await asyncio.sleep(0)
            in_task = asyncio.create_task(session.get_id())
            await asyncio.sleep(0)
            may_go_on.set()
            return await asyncio.gather(in_thread, in_task)

        visitor = Visitor(is_async=True)
        assert set(visitor.visit(visit)) == {visitor.session_key}

    def test_no_thread_blocks_an_event_loop(self, create_waits):
        begun, may_go_on = create_waits

        async def visit(session):
            in_thread = asyncio.create_task(asyncio.to_thread(facade.get_id))
            while not begun.is_set():
                await asyncio.sleep(0)
            assert facade.get_id()
            may_go_on.set()
            await in_thread

        Visitor(is_async=True).visit(visit)


@pytest.fixture
def fail_once(server_engine, visitor, store_class, monkeypatch):
    """Let the next save of the store fail."""
    # The file engine has one way to create.
    save = "asave" if visitor.is_async and server_engine != "file" else "save"
    store = getattr(store_class, save)

    def fail(self, *args, **named):
        monkeypatch.setattr(store_class, save, store)
        raise OperationalError("once")

    return lambda: monkeypatch.setattr(store_class, save, fail)


def test_an_id_that_could_not_be_stored_is_not_given_out(fail_once, visitor, store_class):
    fail_once()

    async def visit(session):
        with pytest.raises(OperationalError, match="once"):
            await session.get_id()
        return await session.get_id()

    assert visitor.visit(visit) == visitor.session_key
    assert store_class().exists(visitor.session_key)


def test_a_session_whose_id_could_not_be_changed_is_where_it_was(fail_once, visitor):
    visitor.visit(lambda session: session.set_attribute("a", 1))
    key = visitor.session_key

    async def visit(session):
        fail_once()
        with pytest.raises(OperationalError, match="once"):
            await session.change_session_id()
        await session.set_attribute("b", 2)
        return await session.get_id()

    assert visitor.visit(visit) == visitor.session_key == key
    assert visitor.visit(lambda session: session.get_attribute_names()) == ["a", "b"]


def test_an_id_outside_any_request_is_an_error_of_its_own():
    with pytest.raises(RuntimeError, match=r"aget_id\(\)"):
        async_to_sync(facade.aget_id)()
