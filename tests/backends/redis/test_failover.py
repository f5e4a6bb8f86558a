"""Another server becomes the primary: the engine finds it, and nobody reads old data for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from dirigible_session.backends.redis import library, wire
from dirigible_session.backends.redis.client import clients
from dirigible_session.exceptions import StoreUnavailable
from tests.redis_servers import (
    Sentinels,
    Server,
    running,
    running_cluster,
    running_sentinels,
    until,
)
from tests.stores import Api

from .instrumented import instrumented
from .proxy import Proxy
from .sessions import content, loaded, new, store

WRITERS = 8
#: Of redis-py's own pool, only those connections can be closed that nobody uses at that moment.
ROUNDS = 10


@pytest.fixture(autouse=True)
def _clients_are_closed(settings: Any) -> Iterator[None]:
    settings.SESSION_ENGINE = "dirigible_session.backends.redis"
    yield
    clients.close()


@pytest.fixture
def sentinels(settings: Any) -> Iterator[Sentinels]:
    with running_sentinels() as found:
        settings.DIRIGIBLE_SESSION_REDIS_URL = (
            found.url + "?socket_timeout=1&socket_connect_timeout=1"
        )
        yield found


def write_through(key: str, name: str, killed: Event) -> int:
    """Count on in an attribute until some time after the kill; return the last number kept."""
    count, left = 0, 20
    while left:
        session = store(key)
        try:
            assert "start" in session, "the session was taken for one that is gone"
            session[name] = count + 1
            session.save()
        except StoreUnavailable:
            time.sleep(0.02)
            continue
        count += 1
        left -= killed.is_set()
        time.sleep(0.002)
    return count


def kill_under_writers(primary: Server, keys: list[str]) -> None:
    killed = Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        names = [f"w{number}" for number in range(WRITERS)]
        writing = [
            pool.submit(write_through, keys[number % len(keys)], name, killed)
            for number, name in enumerate(names)
        ]
        until(lambda: all(name in content(key) for name in names[:1] for key in keys[:1]))
        primary.stop()
        killed.set()
        counts = [done.result() for done in writing]
    for number, name in enumerate(names):
        assert content(keys[number % len(keys)])[name] == counts[number]


@pytest.mark.slow
def test_eight_writers_go_on_with_the_primary_that_the_sentinels_choose(
    sentinels: Sentinels, api: Api
) -> None:
    key = new(start=1)
    with sentinels.primary.redis as primary:
        primary.wait(1, 5000)
    kill_under_writers(sentinels.primary, [key])
    session = store()
    session["a"] = 1

    def is_saved() -> bool:
        # For a moment, some sentinels may not agree yet.
        with suppress(StoreUnavailable):
            api.save(session)
            return True
        return False

    until(is_saved)
    assert dict(api.items(store(session.session_key))) == {"a": 1}
    with sentinels.replica.redis as replica:
        assert replica.role()[0] == b"master"
        assert replica.exists(f"dirigible:session:{session.digest}")


@pytest.mark.slow
def test_eight_writers_go_on_when_a_primary_of_a_cluster_is_killed(settings: Any, api: Api) -> None:
    with running_cluster(replicas=1, timeout=1000) as servers:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers[:3])
        settings.DIRIGIBLE_SESSION_REDIS_URL = (
            f"redis+cluster://{hosts}?socket_timeout=1&socket_connect_timeout=1"
        )
        keys = [new(start=1) for _ in range(WRITERS)]
        killed = servers[0]
        with killed.redis as primary:
            # At least one session must be on the node that is killed.
            while not primary.dbsize():
                keys = [*keys[1:], new(start=1)]
            primary.wait(1, 5000)
        kill_under_writers(killed, keys)
        session = store()
        session["a"] = 1
        api.save(session)
        assert dict(api.items(store(session.session_key))) == {"a": 1}
        clients.close()


@pytest.mark.slow
def test_one_sentinel_that_is_up_is_enough(sentinels: Sentinels, api: Api) -> None:
    for sentinel in sentinels.sentinels[:2]:
        sentinel.stop()
    session = store()
    session["a"] = 1
    api.save(session)
    assert content(session.session_key) == {"a": 1}


@pytest.mark.slow
def test_sentinels_that_do_not_know_the_service_are_named(
    sentinels: Sentinels, api: Api, settings: Any
) -> None:
    settings.DIRIGIBLE_SESSION_REDIS_URL = sentinels.url.replace("/main/", "/other/")
    with pytest.raises(StoreUnavailable, match=r"sentinel://.*/other/0 can't be reached: .*other"):
        api.load(store("a" * 32))


class TestBehindOneName:
    """The old primary lives on as a replica, and connections that are there still lead to it."""

    @pytest.fixture
    def servers(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        monkeypatch.setattr(wire, "ASK_AGAIN", 0)
        monkeypatch.setattr(library, "ASK_AGAIN", 0)
        with (
            running() as old,
            running("--replicaof", "127.0.0.1", str(old.port)) as new_one,
            Proxy(old.port) as name,
        ):
            settings.DIRIGIBLE_SESSION_REDIS_URL = f"redis://127.0.0.1:{name.port}/0"
            until(lambda: new_one.redis.info("replication")["master_link_status"] == "up")
            yield old, new_one, name
            clients.close()

    def fail_over(self, servers: Any, key: str) -> None:
        old, new_one, name = servers
        with old.redis as primary:
            assert primary.wait(1, 5000) == 1
        new_one.redis.replicaof("NO", "ONE")
        name.leads_to = new_one.port
        with running() as nobody:
            # It stays what it was, with a link that is down.
            dead = nobody.port
        old.redis.replicaof("127.0.0.1", dead)
        new_one.redis.hset(f"dirigible:session:{store(key).digest}", "a:a", "1 2")

    @pytest.mark.parametrize("is_instrumented", [False, True])
    def test_reads_of_threads_find_the_new_primary(
        self, servers: Any, is_instrumented: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if is_instrumented:
            instrumented(monkeypatch)
        key = new(a=1)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: content(key)["a"], range(50))) == {1}
            self.fail_over(servers, key)
            for _ in range(ROUNDS if is_instrumented else 1):
                found = set(pool.map(lambda _: content(key)["a"], range(50)))
            assert found == {2}

    @pytest.mark.parametrize("is_instrumented", [False, True])
    def test_reads_of_tasks_find_the_new_primary(
        self, servers: Any, is_instrumented: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if is_instrumented:
            instrumented(monkeypatch)
        key = new(a=1)

        async def read() -> Any:
            return await store(key).aget("a")

        async def visit() -> None:
            assert set(await asyncio.gather(*[read() for _ in range(50)])) == {1}
            await asyncio.to_thread(self.fail_over, servers, key)
            for _ in range(ROUNDS if is_instrumented else 1):
                found = set(await asyncio.gather(*[read() for _ in range(50)]))
            assert found == {2}

        asyncio.run(visit())

    def test_a_save_finds_it_too(self, servers: Any, api: Api) -> None:
        key = new(a=1)
        session = loaded(key)
        self.fail_over(servers, key)
        session["b"] = 1
        api.save(session)
        assert content(key) == {"a": 2, "b": 1}


async def read_by_loop(key: str) -> Any:
    return await store(key).aget("a")


def test_a_replica_that_is_named_is_read_all_the_same(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ASK_AGAIN", 0)
    with running() as primary, running("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        settings.DIRIGIBLE_SESSION_REDIS_URL = primary.url
        key = new(a=1)
        with primary.redis as client:
            until(lambda: replica.redis.info("replication")["master_link_status"] == "up")
            client.wait(1, 5000)
        settings.DIRIGIBLE_SESSION_REDIS_URL = replica.url
        assert [content(key)["a"] for _ in range(3)] == [1, 1, 1]
        assert [async_to_sync(read_by_loop)(key) for _ in range(3)] == [1, 1, 1]
        clients.close()
