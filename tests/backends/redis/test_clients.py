"""Where the engine's clients come from, who sees their calls, and what they leave behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import redis
import redis.asyncio
import redis.asyncio.client
import redis.client
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.views.debug import SafeExceptionReporterFilter

from dirigible_session.backends.redis import library
from dirigible_session.backends.redis.client import clients
from dirigible_session.backends.redis.library import AsyncLibrary, own_method
from dirigible_session.backends.redis.scripts import Command
from dirigible_session.backends.redis.url import parse
from dirigible_session.exceptions import StoreUnavailable
from tests.redis_servers import running
from tests.stores import Api

from .instrumented import instrumented
from .sessions import content, listed, loaded, new, store


class Factory:
    """Makes clients, as a project's own function does, and notes each."""

    options: ClassVar[dict[str, Any]] = {}
    where: Any = None
    made: ClassVar[list[Any]] = []

    @classmethod
    def make(cls, *, is_async: bool) -> Any:
        module: Any = redis.asyncio if is_async else redis
        if cls.where.is_cluster:
            kind = redis.asyncio.cluster if is_async else redis.cluster
            nodes = [kind.ClusterNode(*node) for node in cls.where.nodes]
            client = module.RedisCluster(startup_nodes=nodes, **cls.options)
        else:
            ((host, port),) = cls.where.nodes
            client = module.Redis(host=host, port=port, **cls.options)
        cls.made.append(client)
        return client


def make_client(*, is_async: bool) -> Any:
    return Factory.make(is_async=is_async)


def make_none(*, is_async: bool) -> None:
    return None


@pytest.fixture
def factory(redis_anywhere: Any, settings: Any) -> Iterator[type[Factory]]:
    """A function of the project's own that makes the clients."""
    Factory.where, Factory.options, Factory.made = redis_anywhere.where, {}, []
    settings.DIRIGIBLE_SESSION_REDIS_CLIENT = f"{__name__}.make_client"
    yield Factory
    clients.close()


class TestAFunctionOfOnesOwn:
    def test_makes_the_clients(self, factory: type[Factory], api: Api) -> None:
        session = store()
        session["_auth_user_id"] = "7"
        for step in ("save", "save", "cycle_key"):
            getattr(api, step)(session)
        assert dict(api.items(store(session.session_key))) == {"_auth_user_id": "7"}
        assert [found.digest for found in listed(user_id="7")] == [session.digest]
        assert api.touch(session, session.times.accessed + 1)
        api.flush(session)
        assert listed() == []

    def test_is_called_once_in_a_process(self, factory: type[Factory]) -> None:
        with ThreadPoolExecutor(8) as pool:
            keys = list(pool.map(lambda number: new(n=number), range(40)))
        assert [content(key)["n"] for key in keys] == list(range(40))
        assert len(factory.made) == 1
        assert isinstance(factory.made[0], (redis.Redis, redis.RedisCluster))

    def test_is_called_once_in_an_event_loop(self, factory: type[Factory]) -> None:
        key = new(n=1)
        del factory.made[:]

        async def visit() -> None:
            await asyncio.gather(*[store(key).aget("n") for _ in range(40)])

        for loops in (1, 2):
            asyncio.run(visit())
            assert len(factory.made) == loops
        assert isinstance(factory.made[0], (redis.asyncio.Redis, redis.asyncio.RedisCluster))

    def test_needs_no_url(self, factory: type[Factory], settings: Any) -> None:
        prefix = factory.where.keys.prefix
        settings.DIRIGIBLE_SESSION_REDIS_URL = f"redis://no-such-host?prefix={prefix}"
        assert content(new(a=1)) == {"a": 1}
        settings.DIRIGIBLE_SESSION_REDIS_URL = None
        key = new(a=1)
        assert content(key) == {"a": 1}
        store(key).flush()

    def test_that_is_named_wrongly_says_so(self, settings: Any, api: Api) -> None:
        settings.SESSION_ENGINE = "dirigible_session.backends.redis"
        for path in ("no.such.function", "nothing"):
            settings.DIRIGIBLE_SESSION_REDIS_CLIENT = path
            with pytest.raises(ImproperlyConfigured, match="DIRIGIBLE_SESSION_REDIS_CLIENT"):
                api.load(store("a" * 32))
        settings.DIRIGIBLE_SESSION_REDIS_CLIENT = f"{__name__}.make_none"
        with pytest.raises(ImproperlyConfigured, match=r"returned NoneType, not a client"):
            api.load(store("a" * 32))

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_that_lets_redis_py_decode_answers_is_refused(
        self, factory: type[Factory], api: Api
    ) -> None:
        factory.options = {"decode_responses": True}
        with pytest.raises(ImproperlyConfigured, match="decode_responses"):
            api.load(store("a" * 32))
        factory.made.clear()
        gc.collect()

    def test_is_named_where_its_server_is_down(self, settings: Any, api: Api) -> None:
        settings.SESSION_ENGINE = "dirigible_session.backends.redis"
        with running() as server:
            Factory.where = type(
                "Where", (), {"is_cluster": False, "nodes": [("127.0.0.1", server.port)]}
            )
            Factory.options = {}
            settings.DIRIGIBLE_SESSION_REDIS_CLIENT = f"{__name__}.make_client"
            key = new(a=1)
            server.stop()
            with pytest.raises(StoreUnavailable, match=r"behind .*make_client can't be reached"):
                api.load(store(key))
            clients.close()


class TestInstrumentation:
    @pytest.mark.parametrize("is_proxy", [False, True], ids=["Sentry", "OpenTelemetry"])
    def test_sees_every_call(
        self, redis_server: Any, api: Api, monkeypatch: pytest.MonkeyPatch, is_proxy: bool
    ) -> None:
        key = new(a=1)
        # The server knows all scripts from here on.
        store(new(_auth_user_id="6")).flush()
        with monkeypatch.context() as patch:
            seen = instrumented(patch, is_proxy=is_proxy)
            session = loaded(key)
            assert seen == ["HGETALL"]
            del seen[:]
            session["_auth_user_id"] = "7"
            api.save(session)
            assert seen == ["pipeline of 2"]
            del seen[:]
            api.touch(session, session.times.accessed + 1)
            assert api.exists(session, key)
            assert dict(api.items(store(key)))["a"] == 1
            assert seen[0] == "EVALSHA"
            assert len(seen) == 3
            del seen[:]
            assert len(listed()) == 1
            assert seen
            del seen[:]
            api.flush(session)
            assert seen
        del seen[:]
        assert content(new(a=1)) == {"a": 1}
        assert seen == []

    @pytest.mark.parametrize("module", [redis.client, redis.asyncio.client])
    def test_is_noticed_where_it_was_there_before_the_engine(
        self, module: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        neighbor = module.Redis.pipeline
        original = module.Pipeline.execute
        assert own_method(module.Pipeline, "execute", neighbor) is original
        for is_proxy in (False, True):
            with monkeypatch.context() as patch:
                instrumented(patch, is_proxy=is_proxy)
                assert own_method(module.Pipeline, "execute", neighbor) is None
                assert own_method(module.Redis, "execute_command", neighbor) is None

    def test_of_a_cluster_sees_every_call(
        self, redis_cluster: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        execute = redis.RedisCluster.execute_command

        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(args[0])
            return execute(self, *args, **kwargs)

        monkeypatch.setattr(redis.RedisCluster, "execute_command", noted)
        assert content(new(a=1)) == {"a": 1}
        assert "EVALSHA" in seen
        assert seen[-1] == "HGETALL"

    def test_without_it_the_calls_go_the_short_way(self, redis_server: Any) -> None:
        async def visit(key: str) -> bool:
            await store(key).aget("a")
            return (await clients.of_loop())._library is None

        key = new(a=1)
        assert async_to_sync(visit)(key)
        assert redis_server._library is None


class TestAPassword:
    def test_in_a_setting_of_its_own_opens_the_server(self, settings: Any, api: Api) -> None:
        settings.SESSION_ENGINE = "dirigible_session.backends.redis"
        with running() as server:
            server.redis.config_set("requirepass", "se/cr@t")
            settings.DIRIGIBLE_SESSION_REDIS_URL = server.url
            with pytest.raises(StoreUnavailable, match="refuses the user or the password"):
                api.load(store("a" * 32))
            settings.DIRIGIBLE_SESSION_REDIS_PASSWORD = "se/cr@t"
            session = store()
            session["a"] = 1
            api.save(session)
            assert dict(api.items(store(session.session_key))) == {"a": 1}
            clients.close()

    def test_is_hidden_by_the_error_pages_of_django(self) -> None:
        with override_settings(DIRIGIBLE_SESSION_REDIS_PASSWORD="se/cr@t"):
            shown = SafeExceptionReporterFilter().get_safe_settings()
        assert "se/cr@t" not in str(shown["DIRIGIBLE_SESSION_REDIS_PASSWORD"])


def test_connections_go_when_a_burst_is_over(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dirigible_session.backends.redis import wire

    key = new(n=1)
    start = wire.monotonic()
    now = [start]
    monkeypatch.setattr(wire, "monotonic", lambda: now[0])

    async def burst() -> tuple[int, int]:
        await asyncio.gather(*[store(key).aget("n") for _ in range(50)])
        before = len((await clients.of_loop())._wire._free)  # type: ignore[union-attr]
        now[0] += wire.IDLE + 1
        await store(key).aget("n")
        return before, len((await clients.of_loop())._wire._free)  # type: ignore[union-attr]

    before, after = async_to_sync(burst)()
    assert before > 10
    assert after == 1


@pytest.mark.parametrize("is_cluster", [False, True])
def test_no_task_gets_a_connection_that_another_is_closing(is_cluster: bool) -> None:
    closed: list[tuple[Any, bool]] = []
    taken: list[Any] = []

    class Connection(redis.asyncio.Connection):
        async def disconnect(self, *args: Any, **options: Any) -> None:
            taken.append(take())
            closed.append((self, self in taken))

    if is_cluster:
        node = redis.asyncio.cluster.ClusterNode("127.0.0.1", 1, connection_class=Connection)
        client: Any = redis.asyncio.RedisCluster(startup_nodes=[node])
        client.nodes_manager.nodes_cache[node.name] = node
        take, free = node.acquire_connection, node._free
    else:
        pool: Any = redis.asyncio.ConnectionPool(connection_class=Connection)
        client = redis.asyncio.Redis(connection_pool=pool)
        take, free = pool.get_available_connection, pool._available_connections

    async def close() -> None:
        where = parse("redis://127.0.0.1")
        await AsyncLibrary(client, Command(("PING",)), where).disconnect()

    was_free = [take() for _ in range(3)]
    free.extend(was_free)
    asyncio.run(close())
    assert closed == [(connection, False) for connection in was_free]
    assert list(free) == was_free


def test_connections_to_a_cluster_go_when_a_burst_is_over(
    redis_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [new(n=number) for number in range(20)]
    now = [library.monotonic()]
    monkeypatch.setattr(library, "monotonic", lambda: now[0])

    async def count() -> int:
        nodes = (await clients.of_loop()).library.client.get_nodes()
        return sum(connection.is_connected for node in nodes for connection in node._connections)

    async def burst() -> tuple[int, int]:
        await asyncio.gather(*[store(key).aget("n") for key in keys for _ in range(3)])
        before = await count()
        now[0] += library.SHRINK + 1
        assert await store(keys[0]).aget("n") == 0
        return before, await count()

    before, after = async_to_sync(burst)()
    assert before > 10
    assert after == 1
