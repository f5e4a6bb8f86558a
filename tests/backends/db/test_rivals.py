"""Rivals of one session: at the seam, and in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.test import AsyncClient, Client

from dirigible_session import handles
from dirigible_session.exceptions import SessionConflict
from dirigible_session.models import Session
from tests.stores import THREADED, Api, in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.backends.urls")]


def new_session(store_class: Any, **attributes: Any) -> str:
    store = store_class()
    store.update(attributes)
    store.save()
    return store.session_key


def loaded(store_class: Any, key: str) -> Any:
    store = store_class(key)
    store.keys()
    return store


@contextmanager
def rival_before_each_update(write: Callable[[], None], *, times: int) -> Iterator[list[str]]:
    """Let a rival write before each of the next so many UPDATEs that are not its own."""
    seen: list[str] = []
    state = {"writing": False}

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and not state["writing"]:
            seen.append(sql)
            if len(seen) <= times:
                state["writing"] = True
                try:
                    write()
                finally:
                    state["writing"] = False
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield seen


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_both_keep_their_change_however_often_the_rival_is_faster(
    api: Api, db_engine: Any, times: int
) -> None:
    key = new_session(db_engine)
    rival_writes = 0

    def write() -> None:
        nonlocal rival_writes
        rival_writes += 1
        rival = loaded(db_engine, key)
        rival[f"rival{rival_writes}"] = 1
        rival.save()

    store = loaded(db_engine, key)
    store["ours"] = 1
    with rival_before_each_update(write, times=times):
        api.save(store)
    expected = {"ours": 1} | {f"rival{number + 1}": 1 for number in range(times)}
    assert dict(loaded(db_engine, key).items()) == expected
    assert dict(store.items()) == {"ours": 1}


def test_a_conflict_without_end_is_a_clear_error_and_no_loss(api: Api, db_engine: Any) -> None:
    key = new_session(db_engine, count=0)

    def write() -> None:
        rival = loaded(db_engine, key)
        rival["count"] += 1
        rival.save()

    store = loaded(db_engine, key)
    store["ours"] = 1
    with (
        rival_before_each_update(write, times=10_000),
        pytest.raises(SessionConflict, match="not saved"),
    ):
        api.save(store)
    kept = dict(loaded(db_engine, key).items())
    assert kept.keys() == {"count"}
    assert kept["count"] > 10


def test_a_session_that_is_ended_before_the_update_stays_dead(api: Api, db_engine: Any) -> None:
    key = new_session(db_engine, a=1)
    store = loaded(db_engine, key)
    store["a"] = 2
    with (
        rival_before_each_update(lambda: db_engine(key).flush(), times=1),
        pytest.raises(UpdateError),
    ):
        api.save(store)
    assert not Session.objects.exists()


def test_a_session_that_is_ended_during_a_conflict_stays_dead(api: Api, db_engine: Any) -> None:
    key = new_session(db_engine, a=1)
    writes = iter(("change", "end"))

    def write() -> None:
        if next(writes) == "end":
            db_engine(key).flush()
        else:
            rival = loaded(db_engine, key)
            rival["rival"] = 1
            rival.save()

    store = loaded(db_engine, key)
    store["a"] = 2
    with rival_before_each_update(write, times=2), pytest.raises(UpdateError):
        api.save(store)
    assert not Session.objects.exists()


def test_a_touch_that_meets_a_rival_writes_no_attribute(api: Api, db_engine: Any) -> None:
    key = new_session(db_engine, a=1)
    store = loaded(db_engine, key)
    accessed = store.times.accessed + 100

    def write() -> None:
        rival = loaded(db_engine, key)
        rival["a"] = 2
        rival.save()

    with rival_before_each_update(write, times=1) as updates:
        assert api.touch(store, accessed) is True
    assert not any("session_data" in update for update in updates)
    after = loaded(db_engine, key)
    assert dict(after.items()) == {"a": 2}
    assert after.times.accessed == accessed


def test_a_touch_is_one_update_of_the_times(api: Api, db_engine: Any, queries: Any) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    with queries() as ran:
        api.touch(store, store.times.accessed + 100)
    (update,) = ran
    assert update.startswith("UPDATE")
    assert "session_data" not in update
    assert "version" not in update.split("WHERE")[0]


def test_the_client_of_a_session_that_was_ended_meanwhile_is_told(db_engine: Any) -> None:
    key = new_session(db_engine, a=1)
    client = Client()
    client.cookies["sessionid"] = key
    with rival_before_each_update(lambda: db_engine(key).flush(), times=1):
        response = client.get("/set/")
    assert response.status_code == 400
    assert not Session.objects.exists()


@THREADED
def test_the_async_client_of_an_ended_session_is_told_too(db_engine: Any) -> None:
    client = AsyncClient()
    client.cookies["sessionid"] = new_session(db_engine, a=1)
    response = async_to_sync(client.get)("/end-and-set/")
    assert response.status_code == 400
    assert not Session.objects.exists()


# What a connection raises is no end of a session.


@pytest.mark.parametrize("method", ["save", "load", "cycle_key", "flush", "touch"])
@pytest.mark.parametrize("message", ["server closed the connection", "deadlock detected"])
def test_what_the_connection_raises_comes_out_as_it_is(
    api: Api, db_engine: Any, method: str, message: str
) -> None:
    key = new_session(db_engine, a=1)
    store = loaded(db_engine, key)
    store["a"] = 2

    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        raise OperationalError(message)

    arguments = [store.times.accessed + 100] if method == "touch" else []
    # In a transaction of its own: what fails in one spoils it.
    with (
        pytest.raises(OperationalError, match=message),
        transaction.atomic(),
        connection.execute_wrapper(wrapper),
    ):
        getattr(api, method)(store, *arguments)
    assert dict(loaded(db_engine, key).items()) == {"a": 1}


def test_what_the_database_refuses_is_no_taken_key(api: Api, db_engine: Any) -> None:
    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("INSERT"):
            raise IntegrityError("a constraint of somebody's")
        return execute(sql, *rest)

    with connection.execute_wrapper(wrapper), pytest.raises(IntegrityError, match="constraint"):
        api.save(db_engine())


# In a transaction.


def test_a_taken_key_does_not_spoil_the_transaction_around_it(api: Api, db_engine: Any) -> None:
    key = new_session(db_engine, a=1)
    with transaction.atomic():
        with pytest.raises(CreateError):
            api.save(db_engine(key), must_create=True)
        assert Session.objects.count() == 1


def test_an_ended_session_does_not_spoil_the_transaction_around_it(
    api: Api, db_engine: Any
) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    db_engine(store.session_key).flush()
    with transaction.atomic():
        with pytest.raises(UpdateError):
            api.save(store)
        assert not Session.objects.exists()
    assert not Session.objects.exists()


def roll_back(store: Any) -> None:
    """Save in a transaction that is rolled back: sync, since Django knows no async ones."""
    with transaction.atomic():
        store.save()
        transaction.set_rollback(True)


def test_what_was_rolled_back_is_stored_by_the_next_save(api: Api, db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1, b=2))
    store["c"] = 3
    del store["a"]
    roll_back(store)
    roll_back(store)
    assert dict(loaded(db_engine, store.session_key).items()) == {"a": 1, "b": 2}
    api.save(store)
    assert dict(loaded(db_engine, store.session_key).items()) == {"b": 2, "c": 3}


def test_what_was_rolled_back_is_stored_although_the_client_came_between(
    api: Api, db_engine: Any
) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    store["b"] = 2
    roll_back(store)
    rival = loaded(db_engine, store.session_key)
    accessed = rival.times.accessed + 100
    rival.touch(accessed)
    store["c"] = 3
    api.save(store)
    after = loaded(db_engine, store.session_key)
    assert dict(after.items()) == {"a": 1, "b": 2, "c": 3}
    assert after.times.accessed == accessed


def test_what_a_savepoint_undid_is_stored_by_the_next_save(db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine))
    with transaction.atomic():
        store["a"] = 1
        store.save()
        store["b"] = 1
        roll_back(store)
        store["c"] = 1
        store.save()
    assert dict(loaded(db_engine, store.session_key).items()) == {"a": 1, "b": 1, "c": 1}


def test_what_was_rolled_back_after_a_conflict_is_stored_by_the_next_save(db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine))
    rival = loaded(db_engine, store.session_key)
    rival["rival"] = 1
    rival.save()
    store["a"] = 1
    roll_back(store)
    store["b"] = 1
    store.save()
    after = dict(loaded(db_engine, store.session_key).items())
    assert after == {"rival": 1, "a": 1, "b": 1}


def test_a_rival_that_wrote_after_a_rollback_loses_nothing(api: Api, db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine))
    store["first"] = "one"
    roll_back(store)
    rival = loaded(db_engine, store.session_key)
    # MariaDB takes no notice of the case.
    rival["first"] = "ONE"
    rival.save()
    store["second"] = 1
    api.save(store)
    after = dict(loaded(db_engine, store.session_key).items())
    assert after == {"first": "one", "second": 1}


@THREADED
@pytest.mark.parametrize("rivals", [None, 2])
def test_what_was_stored_in_a_transaction_is_told_from_what_is_stored_after_it(
    api: Api, db_engine: Any, rivals: int | None
) -> None:
    store = loaded(db_engine, new_session(db_engine, a=0))
    with transaction.atomic():
        store["a"] = 1
        api.save(store)
        store["b"] = 1
        api.save(store)
    rival = loaded(db_engine, store.session_key)
    rival["a"] = rivals
    rival.save()
    store["c"] = 1
    api.save(store)
    after = dict(loaded(db_engine, store.session_key).items())
    assert after == {"a": rivals, "b": 1, "c": 1}


@THREADED
def test_a_transaction_that_reads_what_it_read_first_still_loses_nothing(db_engine: Any) -> None:
    """MySQL's transactions, by default, see the table as it was at their first statement."""
    if connection.vendor == "sqlite":
        pytest.skip("on SQLite nobody else can write while a transaction has read")
    key = new_session(db_engine, a=1)

    def rival_writes(number: int) -> None:
        rival = loaded(db_engine, key)
        rival["rival"] = 1
        rival.save()

    with transaction.atomic():
        store = loaded(db_engine, key)
        store["ours"] = 1
        in_threads(1, rival_writes, [0])
        store.save()
    assert dict(loaded(db_engine, key).items()) == {"a": 1, "rival": 1, "ours": 1}


# In threads.


@THREADED
@pytest.mark.parametrize("threads", [8, 32])
def test_400_requests_in_threads_keep_400_attributes(db_engine: Any, threads: int) -> None:
    key = new_session(db_engine)

    def request(number: int) -> None:
        store = loaded(db_engine, key)
        store[f"attribute{number}"] = number
        store.save()

    in_threads(threads, request, range(400))
    kept = dict(loaded(db_engine, key).items())
    assert kept == {f"attribute{number}": number for number in range(400)}


@THREADED
def test_an_ended_session_stays_dead_through_1000_races(db_engine: Any) -> None:
    barrier = threading.Barrier(2, timeout=60)
    stores: list[Any] = []

    def take_part(role: int) -> None:
        for race in range(1000):
            if role == 0:
                stores.append(loaded(db_engine, new_session(db_engine, race=race)))
            barrier.wait()
            if role == 0:
                db_engine(stores[race].session_key).flush()
            else:
                stores[race]["late"] = 1
                with suppress(UpdateError):
                    stores[race].save()
            barrier.wait()

    in_threads(2, take_part, range(2))
    digests = [handles.digest(store.session_key) for store in stores]
    assert len(digests) == 1000
    assert not Session.objects.exists()


@THREADED
@pytest.mark.parametrize("has_returning", [True, False])
def test_of_several_that_end_the_same_sessions_each_is_given_others(
    db_engine: Any, queries: Any, monkeypatch: pytest.MonkeyPatch, has_returning: bool
) -> None:
    features = type(connection.features)
    has_returning = has_returning and connection.features.can_return_columns_from_insert
    # A property, since a connection may have looked already.
    told = property(lambda _: has_returning)
    monkeypatch.setattr(features, "can_return_columns_from_insert", told)
    digests = [handles.digest(new_session(db_engine, n=number)) for number in range(20)]
    given: list[str] = []
    barrier = threading.Barrier(4, timeout=60)

    def end(number: int) -> None:
        barrier.wait()
        given.extend(db_engine.end_stored(digests))

    with queries() as ran:
        db_engine.end_stored([digests[0]])
    ran = [sql for sql in ran if "digest" in sql]
    # SQLite gives back what it deleted since 3.35; before, it needs one more to take its lock.
    assert len(ran) == (1 if has_returning else 2 + (connection.vendor == "sqlite"))
    in_threads(4, end, range(4))
    assert sorted(given) == sorted(digests[1:])


def test_very_many_are_ended_some_at_a_time(db_engine: Any, queries: Any) -> None:
    digests = [handles.digest(str(number)) for number in range(1001)]
    digests[1000] = handles.digest(new_session(db_engine))
    with queries() as ran:
        assert db_engine.end_stored(digests) == {digests[1000]}
    assert len([sql for sql in ran if "digest" in sql]) <= 4


@THREADED
@pytest.mark.parametrize("attributes", [{"cart": {}}, {"cart": {"deep": {}}}], ids=["flat", "deep"])
def test_400_requests_in_8_threads_keep_400_entries_of_one_dict(
    db_engine: Any, attributes: dict[str, Any]
) -> None:
    key = new_session(db_engine, **attributes)

    def request(number: int) -> None:
        store = loaded(db_engine, key)
        cart = store["cart"].get("deep", store["cart"])
        cart[str(number)] = number
        store.save()

    in_threads(8, request, range(400))
    cart = loaded(db_engine, key)["cart"]
    assert cart.get("deep", cart) == {str(number): number for number in range(400)}


def test_a_dict_takes_no_further_statement_where_there_is_no_rival(
    api: Api, db_engine: Any, queries: Any
) -> None:
    store = loaded(db_engine, new_session(db_engine, cart={"tea": 1}))
    store["cart"]["cake"] = 1
    with queries(transactions=True) as ran:
        api.save(store)
    assert len(ran) == 1


@THREADED
@pytest.mark.parametrize("changes", [1, 2])
def test_120_requests_that_change_the_key_at_once_are_all_answered(
    db_engine: Any, changes: int
) -> None:
    """Six at a time load one session, and only then change its key, as after a rotation."""
    for _ in range(20):
        key = new_session(db_engine, _auth_user_id="7", cart={})
        barrier = threading.Barrier(6, timeout=60)
        keys: list[str] = []

        def request(number: int) -> None:
            store = loaded(db_engine, key)  # noqa: B023
            barrier.wait()  # noqa: B023
            for _ in range(changes):
                store.cycle_key()
            store[f"n{number}"] = number
            store["cart"][str(number)] = number
            store.save()
            keys.append(store.session_key)  # noqa: B023
            seen = dict(db_engine(store.session_key).items())
            assert seen["_auth_user_id"] == "7"
            assert seen[f"n{number}"] == seen["cart"][str(number)] == number

        in_threads(6, request, range(6))
        assert len(set(keys)) == 6
        for each in keys:
            db_engine(each).flush()
        assert not Session.objects.exists()


@THREADED
def test_an_async_read_or_write_is_one_hop_to_a_thread(
    db_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops: list[str] = []
    submit = ThreadPoolExecutor.submit

    def counted(pool: Any, function: Any, *args: Any, **named: Any) -> Any:
        hops.append(getattr(function, "__qualname__", ""))
        return submit(pool, function, *args, **named)

    key = new_session(db_engine, a=1)

    async def visit() -> list[int]:
        store = db_engine(key)
        counts = []
        for call in (
            lambda: store.aget("a"),
            lambda: store.aset("a", 2),
            lambda: store.asave(),
            lambda: store.atouch(store.times.accessed + 100),
            lambda: store.acycle_key(),
            lambda: store.aflush(),
        ):
            hops.clear()
            with monkeypatch.context() as patch:
                patch.setattr(ThreadPoolExecutor, "submit", counted)
                await call()
            counts.append(len(hops))
        await sync_to_async(connections.close_all)()
        return counts

    assert asyncio.run(visit()) == [1, 0, 1, 1, 1, 1]
