"""Real threads against a real server: nothing is lost, and nothing that ended comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import UpdateError
from django.test import AsyncClient, Client

from dirigible_session import handles
from dirigible_session.backends.redis import operations
from dirigible_session.backends.redis.scripts import PUT_BACK, Call
from dirigible_session.exceptions import SessionConflict

from .sessions import content, is_pointer, new, store

UPDATES = 400
RACES = 1000


def at_once(*actions: Callable[[], None]) -> None:
    """Run the actions in threads that all start at the same moment."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], None]) -> None:
        barrier.wait()
        action()

    with ThreadPoolExecutor(len(actions)) as pool:
        for done in [pool.submit(run, action) for action in actions]:
            done.result()


@pytest.mark.usefixtures("redis_anywhere")
@pytest.mark.parametrize("threads", [8, 32])
def test_400_updates_by_many_threads_are_all_kept(threads: int) -> None:
    key = new(start=0)

    def update(name: str) -> None:
        session = store(key)
        session.keys()
        session[name] = name
        session.save()

    names = [f"n{number}" for number in range(UPDATES)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(update, name) for name in names]:
            done.result()
    assert set(store(key).keys()) == {"start", *names}


@pytest.mark.usefixtures("redis_anywhere")
def test_400_entries_that_8_threads_put_into_one_dict_are_all_kept() -> None:
    key = new(cart={"lines": {}})

    def put(name: str) -> None:
        session = store(key)
        session["cart"]["lines"][name] = 1
        session.modified = True
        session.save()

    names = [f"n{number}" for number in range(UPDATES)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(put, name) for name in names]:
            done.result()
    assert store(key)["cart"] == {"lines": dict.fromkeys(names, 1)}


@pytest.mark.usefixtures("redis_anywhere")
def test_400_updates_by_tasks_of_one_loop_are_all_kept() -> None:
    key = new(start=0)

    async def update(name: str) -> None:
        session = store(key)
        await session.aget("start")
        await session.aset(name, name)
        await session.asave()

    names = [f"n{number}" for number in range(UPDATES)]

    async def main() -> None:
        await asyncio.gather(*map(update, names))

    asyncio.run(main())
    assert set(store(key).keys()) == {"start", *names}


@pytest.mark.usefixtures("redis_anywhere")
@pytest.mark.urls("tests.backends.urls")
@pytest.mark.parametrize("client_class", [Client, AsyncClient])
def test_the_client_of_a_session_that_was_ended_meanwhile_is_told(client_class: Any) -> None:
    key = new(a=1)
    client = client_class()
    client.cookies["sessionid"] = key
    get = async_to_sync(client.get) if client_class is AsyncClient else client.get
    assert get("/end-and-set/").status_code == 400
    assert not store().exists(key)


@pytest.mark.usefixtures("redis_anywhere")
def test_updates_go_with_a_session_whose_key_changes_meanwhile() -> None:
    key = new(start=0)
    written = set()
    current = [key]

    def write(worker: int) -> None:
        for number in range(20):
            session = store(current[0])
            if "start" not in session:
                continue
            name = f"w{worker}n{number}"
            session[name] = 1
            try:
                session.save()
            except UpdateError:
                continue
            written.add(name)

    def change() -> None:
        for _ in range(20):
            session = store(current[0])
            session.cycle_key()
            current[0] = session.session_key

    at_once(*[lambda worker=worker: write(worker) for worker in range(4)], change)
    assert set(store(current[0]).keys()) == {"start", *written}
    assert len(written) > 0


def save_late(writer: Any, barrier: threading.Barrier) -> bool:
    """Save; return whether the session was gone."""
    barrier.wait()
    try:
        writer.save()
    except UpdateError:
        return True
    return False


def touch_late(writer: Any, barrier: threading.Barrier) -> bool:
    barrier.wait()
    return not writer.touch(2e9)


def end_late(ender: Any, barrier: threading.Barrier) -> None:
    barrier.wait()
    ender.flush()


def test_nothing_comes_back_in_1000_races_of_a_writer_with_an_end(redis_anywhere: Any) -> None:
    interrupted = 0
    with ThreadPoolExecutor(1) as pool:
        for number in range(RACES):
            key = new(a=1)
            writer, ender = store(key), store(key)
            writer.update({"b": 2, "c": 3})
            del writer["a"]
            barrier = threading.Barrier(2)

            writing = pool.submit(touch_late if number % 3 == 2 else save_late, writer, barrier)
            end_late(ender, barrier)
            interrupted += writing.result()
            stored = f"{redis_anywhere.where.keys.prefix}session:{handles.digest(key)}"
            assert redis_anywhere.redis.exists(stored) == 0
    # Both orders came up, so there were races.
    assert 0 < interrupted < RACES


def test_an_end_in_the_middle_of_a_change_of_key_is_final(
    redis_anywhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new(a=1, _auth_user_id="7")
    session = store(key)
    session.keys()
    client = redis_anywhere
    run = client.run

    def run_late(calls: Any) -> Any:
        monkeypatch.setattr(client, "run", run)
        answers = run(calls)
        store(key).flush()
        return answers

    monkeypatch.setattr(client, "run", run_late)
    session.cycle_key()
    with pytest.raises(UpdateError):
        session.save()
    assert not list(client.redis.scan_iter(match=f"{client.where.keys.prefix}*"))


@pytest.mark.parametrize("rounds", [1, 2], ids=["after-the-copy", "after-the-move"])
def test_a_write_in_the_middle_of_a_change_of_key_is_kept_or_refused(
    redis_anywhere: Any, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    key = new(a=1, b=1, c=1)
    session, rival = store(key), store(key)
    session["mine"] = 1
    session.pop("c")
    rival["a"] = "rival"
    rival["theirs"] = 1
    del rival["b"]
    client = redis_anywhere
    run = client.run
    left = [rounds]
    refused = []

    def run_late(calls: Any) -> Any:
        answers = run(calls)
        left[0] -= 1
        if left[0] == 0:
            monkeypatch.setattr(client, "run", run)
            try:
                rival.save()
            except UpdateError:
                refused.append(True)
        return answers

    monkeypatch.setattr(client, "run", run_late)
    session.cycle_key()
    kept = content(session.session_key)
    if rounds == 1:
        assert kept == {"a": "rival", "theirs": 1, "mine": 1}
        assert list(kept) == ["a", "theirs", "mine"]
    else:
        assert refused == [True]
        assert kept == {"a": 1, "b": 1, "mine": 1}
    assert is_pointer(client.redis, client.where.keys.session(handles.digest(key)))


def test_a_visit_in_the_middle_of_a_change_of_key_finds_the_session_and_loses_nothing(
    redis_anywhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new(a=1)
    session = store(key)
    session["mine"] = 1
    client, run = redis_anywhere, redis_anywhere.run
    trips = []

    def run_late(calls: Any) -> Any:
        answers = run(calls)
        trips.append(calls)
        if len(trips) == 2:
            # What was stored has just been taken away from the old key.
            monkeypatch.setattr(client, "run", run)
            rival = store(key)
            assert rival["a"] == 1
            rival["theirs"] = 1
            rival.save()
        return answers

    monkeypatch.setattr(client, "run", run_late)
    session.cycle_key()
    assert dict(store(session.session_key).items()) == {"a": 1, "theirs": 1, "mine": 1}
    assert dict(session.items()) == {"a": 1, "theirs": 1, "mine": 1}
    assert is_pointer(client.redis, client.where.keys.session(handles.digest(key)))


@pytest.mark.parametrize("rivals", [0, 1, 3])
def test_a_dict_is_merged_in_one_more_round_trip_for_each_rival(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch, rivals: int
) -> None:
    key = new(cart={"tea": 1}, other={"a": 1})
    session = store(key)
    session["cart"]["mine"] = 1
    run = redis_server.run
    trips = []

    def run_late(calls: Any) -> Any:
        trips.append(calls)
        if len(trips) <= rivals:
            with monkeypatch.context() as patch:
                patch.setattr(redis_server, "run", run)
                rival = store(key)
                rival["cart"][f"rival{len(trips)}"] = 1
                # Not merged with anything, so nothing to wait for.
                rival["other"]["b"] = 2
                rival.save()
        return run(calls)

    monkeypatch.setattr(redis_server, "run", run_late)
    session.save()
    assert len(trips) == 1 + rivals
    monkeypatch.undo()
    theirs = {f"rival{number + 1}": 1 for number in range(rivals)}
    assert content(key)["cart"] == {"tea": 1, "mine": 1} | theirs


def test_a_dict_that_rivals_change_without_end_is_a_conflict(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new(cart={})
    session = store(key)
    session["cart"]["mine"] = 1
    run = redis_server.run
    monkeypatch.setattr(operations, "TRIES", 3)

    def run_late(calls: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(redis_server, "run", run)
            rival = store(key)
            rival["cart"][f"rival{len(rival['cart'])}"] = 1
            rival.save()
        return run(calls)

    monkeypatch.setattr(redis_server, "run", run_late)
    with pytest.raises(SessionConflict, match="3 tries"):
        session.save()


def test_a_change_of_key_that_is_always_undone_says_so(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new(a=1)
    session = store(key)
    session.keys()
    run = redis_server.run
    monkeypatch.setattr(operations, "TRIES", 3)

    def undo(calls: Any) -> Any:
        answers = run(calls)
        run([Call((1, redis_server.where.keys.session(handles.digest(key))), PUT_BACK)])
        return answers

    monkeypatch.setattr(redis_server, "run", undo)
    with pytest.raises(SessionConflict):
        session.cycle_key()
    monkeypatch.undo()
    assert session.session_key == key
    assert dict(store(key).items()) == {"a": 1}
