"""Clients belong to an event loop, connections to a process: none is shared, none is left."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync

from dirigible_session.backends.redis.client import CONCURRENCY, Client, clients
from dirigible_session.exceptions import StoreUnavailable

from .sessions import listed, new, store


async def visit(key: str) -> int:
    session = store(key)
    await session.aset("n", await session.aget("n", 0) + 1)
    await session.asave()
    return await session.aget("n")


def test_loops_that_come_and_go_leave_no_connection(redis_anywhere: Any) -> None:
    key = new(n=0)
    before = connections(redis_anywhere)
    for number in range(30):
        assert asyncio.run(visit(key)) == 2 * number + 1
        assert async_to_sync(visit)(key) == 2 * number + 2
    end = time.monotonic() + 20
    # The server takes a moment to notice.
    while connections(redis_anywhere) > before:
        assert time.monotonic() < end


def test_closing_leaves_no_connection(redis_anywhere: Any) -> None:
    watcher = Client(redis_anywhere.where)
    of_its_own = connections(watcher)
    new(n=0)
    assert len(listed()) == 1
    assert connections(watcher) > of_its_own
    clients.close()
    end = time.monotonic() + 20
    while connections(watcher) > of_its_own:
        assert time.monotonic() < end
    watcher.close()


def connections(client: Any) -> int:
    """Count the connections of this test."""
    on_all = {"target_nodes": "primaries"} if client.where.is_cluster else {}
    answer = client.redis.execute_command("CLIENT LIST", **on_all)
    found = answer.values() if isinstance(answer, dict) else [answer]
    name = client.where.keys.prefix.rstrip(":")
    return sum(entry["name"] == name for entries in found for entry in entries)


@pytest.mark.usefixtures("redis_anywhere")
def test_a_client_goes_with_its_loop() -> None:
    key = new(n=0)
    seen: list[weakref.ref[Any]] = []

    async def look() -> None:
        await visit(key)
        client = await clients.of_loop()
        assert client is await clients.of_loop()
        seen.extend([weakref.ref(client), weakref.ref(asyncio.get_running_loop())])

    asyncio.run(look())
    gc.collect()
    assert [ref() for ref in seen] == [None, None]


@pytest.mark.usefixtures("redis_anywhere")
def test_loops_of_several_threads_have_clients_of_their_own() -> None:
    keys = [new(n=0) for _ in range(6)]
    counts = {}

    async def visits(key: str) -> int:
        for _ in range(10):
            count = await visit(key)
        return count

    def run(key: str) -> None:
        counts[key] = asyncio.run(visits(key))

    threads = [threading.Thread(target=run, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == dict.fromkeys(keys, 10)


def test_hundreds_of_tasks_at_once_are_served_by_a_bounded_number_of_connections(
    redis_anywhere: Any,
) -> None:
    key = new(n=0)

    async def read(number: int) -> Any:
        session = store(key)
        await session.aset(f"n{number}", number)
        await session.asave()
        return number

    async def many() -> int:
        await asyncio.gather(*[read(number) for number in range(5 * CONCURRENCY)])
        return connections(redis_anywhere)

    before = connections(redis_anywhere)
    nodes = 3 if redis_anywhere.where.is_cluster else 1
    assert asyncio.run(many()) - before <= nodes * (CONCURRENCY + 1)
    assert len(store(key).keys()) == 5 * CONCURRENCY + 1


@pytest.mark.usefixtures("redis_server")
def test_a_task_waits_for_its_turn_no_longer_than_for_an_answer(settings: Any) -> None:
    settings.DIRIGIBLE_SESSION_REDIS_URL += "&socket_timeout=0.05"

    async def crowd() -> None:
        client = await clients.of_loop()
        for _ in range(CONCURRENCY):
            await client._turn.acquire()
        with pytest.raises(StoreUnavailable, match="calls of this event loop"):
            await store("a" * 32).aload()

    asyncio.run(crowd())


@pytest.mark.usefixtures("redis_anywhere")
def test_the_async_path_makes_no_sync_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a sync call in an event loop")

    async def everything() -> None:
        session = store()
        await session.aset("a", 1)
        await session.aset("_auth_user_id", "7")
        await session.asave()
        await session.asave()
        await session.acycle_key()
        again = store(session.session_key)
        assert await again.aget("a") == 1
        assert await again.atouch(again.times.accessed + 1) is True
        assert await again.aexists(again.session_key)
        await again.aflush()

    with monkeypatch.context() as patch:
        for name in ("send_command", "send_packed_command", "read_response", "connect"):
            patch.setattr(redis.Connection, name, refuse)
        asyncio.run(everything())


@pytest.mark.usefixtures("redis_anywhere")
def test_a_cancelled_task_leaves_no_answer_for_the_next() -> None:
    keys = [new(n=number) for number in range(4)]

    async def run() -> None:
        for delay in range(40):
            tasks = [asyncio.ensure_future(store(key).aget("n")) for key in keys]
            for _ in range(delay % 8):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert [await store(key).aget("n") for key in keys] == [0, 1, 2, 3]

    asyncio.run(run())


@pytest.mark.usefixtures("redis_anywhere")
def test_a_forked_process_has_connections_of_its_own() -> None:
    key = new(n=0)
    assert store(key)["n"] == 0
    child = os.fork()
    if child == 0:
        status = 1
        try:
            session = store(key)
            session["child"] = True
            session.save()
            status = 0 if async_to_sync(visit)(key) == 1 else 2
        finally:
            os._exit(status)
    for _ in range(50):
        assert store(key)["n"] in (0, 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert dict(store(key).items()) == {"n": 1, "child": True}
