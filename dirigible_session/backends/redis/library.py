"""The clients of redis-py, made from the settings or by the project's own function.

They are used for a cluster, for clients of the project, and if redis-py is instrumented, for
example by OpenTelemetry or Sentry. Instrumentation patches their methods, so the calls have to go
through them.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from types import FunctionType
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.client
import redis.asyncio.cluster
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.client
import redis.cluster
import redis.sentinel
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from .scripts import Command
from .url import Target
from .wire import ASK_AGAIN, without_probe

CLIENT_SETTING = "DIRIGIBLE_SESSION_REDIS_CLIENT"
#: No limit: a thread uses one connection at a time, and the project limits its threads.
THREADS = 100_000
#: Seconds after which the free connections of a pool of redis-py are closed.
SHRINK = 60.0


def make_pool(where: Target, *, is_async: bool) -> Any:
    """Return a pool of connections to one server, or to the primary that sentinels watch."""
    connection: Any = redis.asyncio.connection if is_async else redis.connection
    options = _options(where, is_async=is_async)
    if where.service:
        module: Any = redis.asyncio.sentinel if is_async else redis.sentinel
        for_sentinels = {
            name: value
            for name, value in options.items()
            if name.startswith(("socket_", "ssl_", "protocol", "retry"))
        }
        sentinels = module.Sentinel(
            where.nodes,
            sentinel_kwargs={**for_sentinels, "ssl": where.uses_tls, **where.sentinel_options},
        )
        return module.SentinelConnectionPool(
            where.service, sentinels, ssl=where.uses_tls, **options
        )
    if where.path:
        return connection.ConnectionPool(
            connection_class=connection.UnixDomainSocketConnection, path=where.path, **options
        )
    kind = connection.SSLConnection if where.uses_tls else connection.Connection
    ((host, port),) = where.nodes
    return connection.ConnectionPool(connection_class=kind, host=host, port=port, **options)


def _options(where: Target, *, is_async: bool) -> dict[str, Any]:
    # The engine repeats failed calls itself, since it knows which of them are safe to repeat.
    retry = (AsyncRetry if is_async else Retry)(NoBackoff(), 0)
    return {**where.options, "max_connections": THREADS, "retry": retry}


def try_options(where: Target) -> None:
    """Raise what redis-py raises for the options, without a connection to anything."""
    for is_async in (False, True):
        if where.is_one_server:
            pool = make_pool(where, is_async=is_async)
            pool.connection_class(**pool.connection_kwargs)
        elif where.factory is None and is_async:
            make_client(where, is_async=True)


def close_pool(pool: Any) -> None:
    """Close the connections of a pool, and those to the sentinels."""
    pool.disconnect()
    for sentinel in _sentinels(pool):
        sentinel.close()


async def aclose_pool(pool: Any) -> None:
    """Async twin of :func:`close_pool`."""
    await pool.disconnect()
    for sentinel in _sentinels(pool):
        await sentinel.aclose()


def _sentinels(pool: Any) -> list[Any]:
    manager = getattr(pool, "sentinel_manager", None)
    return [] if manager is None else manager.sentinels


def make_client(where: Target, pool: Any = None, *, is_async: bool) -> Any:
    """Return a client of redis-py, made by the project's function if the settings name one.

    A sync client of a cluster connects to find the nodes. ``pool`` is for a client of one server.
    """
    module: Any = redis.asyncio if is_async else redis
    path = where.factory
    if path is None and where.is_cluster:
        cluster: Any = redis.asyncio.cluster if is_async else redis.cluster
        return cluster.RedisCluster(
            startup_nodes=[cluster.ClusterNode(*node) for node in where.nodes],
            ssl=where.uses_tls,
            **_options(where, is_async=is_async),
        )
    if path is None:
        return module.Redis(connection_pool=pool)
    try:
        make = import_string(path)
    except (ImportError, AttributeError, TypeError) as error:
        raise ImproperlyConfigured(f"{CLIENT_SETTING} can't be imported: {error}") from error
    client = make(is_async=is_async)
    if not isinstance(client, (module.Redis, module.RedisCluster)):
        raise ImproperlyConfigured(
            f"{path}(is_async={is_async}) returned {type(client).__name__}, not a client of "
            f"redis-py: {module.__name__}.Redis or {module.__name__}.RedisCluster."
        )
    if client.get_encoder().decode_responses:
        raise ImproperlyConfigured(
            f"{path}(is_async={is_async}) returned a client with decode_responses=True. The "
            "Redis engine needs bytes."
        )
    return client


def is_cluster(client: Any) -> bool:
    """Return whether a client of redis-py is for a cluster."""
    return isinstance(client, (redis.RedisCluster, redis.asyncio.RedisCluster))


def own_method(kind: Any, name: str, neighbor: Any) -> Any:
    """Return a method of a class of redis-py; None if something has replaced it.

    ``neighbor`` is another function from the same file of redis-py.
    """
    method = getattr(kind, name)
    # OpenTelemetry's wrappers pass isinstance() for the functions they wrap.
    if type(method) is not FunctionType or type(neighbor) is not FunctionType:
        return None
    return method if method.__code__.co_filename == neighbor.__code__.co_filename else None


_SYNC, _ASYNC = redis.client, redis.asyncio.client
_EXECUTE, _EXECUTE_PIPELINE, _AEXECUTE, _AEXECUTE_PIPELINE = (
    own_method(kind, name, module.Redis.pipeline)
    for module in (_SYNC, _ASYNC)
    for kind, name in ((module.Redis, "execute_command"), (module.Pipeline, "execute"))
)


def is_instrumented() -> bool:
    """Return whether something has replaced the methods of redis-py that do sync calls."""
    return (
        _SYNC.Redis.execute_command is not _EXECUTE
        or _SYNC.Pipeline.execute is not _EXECUTE_PIPELINE
    )


def is_instrumented_async() -> bool:
    """Return whether something has replaced the methods of redis-py that do async calls."""
    return (
        _ASYNC.Redis.execute_command is not _AEXECUTE
        or _ASYNC.Pipeline.execute is not _AEXECUTE_PIPELINE
    )


class _Pace:
    """Limits how often an expensive task is done."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = monotonic()

    def is_due(self) -> bool:
        """Return whether the seconds have passed since this last returned True."""
        now = monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class _Calls:
    """A client of redis-py, and the decisions about its calls. Nothing here waits."""

    def __init__(self, client: Any, probe: Command, where: Target) -> None:
        self.client = client
        #: A pipeline to a cluster goes to several nodes, in no order between them.
        self.keeps_no_order = is_cluster(client)
        # redis-py itself follows the failover of a node.
        self._probe = None if is_cluster(client) else probe
        self._asking = _Pace(ASK_AGAIN)
        # A client made by the project has a pool of the project.
        self._shrinking = _Pace(SHRINK if where.factory is None else float("inf"))

    def _with_probe(self, commands: Sequence[Command], *, again: bool) -> Sequence[Command]:
        if self._probe is None or again or not self._asking.is_due():
            return commands
        return [*commands, self._probe]


class Library(_Calls):
    """Calls that go through a client of redis-py."""

    def send(self, commands: Sequence[Command], *, again: bool = False) -> list[Any]:
        """Send commands and return their answers; an error of the server is an answer."""
        if self._shrinking.is_due():
            self.disconnect()
        sent = self._with_probe(commands, again=again)
        return without_probe(self._send(sent), commands)

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [self.client.execute_command(*commands[0])]
            except ResponseError as refusal:
                return [refusal]
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    def disconnect(self) -> None:
        """Close the free connections; redis-py opens new ones when it needs them."""
        client = self.client
        nodes = [n.redis_connection for n in client.get_nodes()] if is_cluster(client) else [client]
        for node in filter(None, nodes):
            node.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close all connections."""
        if is_cluster(self.client):
            # RedisCluster.close() leaves the connections of the nodes open.
            self.client.disconnect_connection_pools()
        self.client.close()


class AsyncLibrary(_Calls):
    """Async twin of :class:`Library`, for the tasks of one event loop."""

    async def send(self, commands: Sequence[Command], *, again: bool = False) -> list[Any]:
        """Async twin of :meth:`Library.send`."""
        if self._shrinking.is_due():
            await self.disconnect()
        sent = self._with_probe(commands, again=again)
        return without_probe(await self._send(sent), commands)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [await self.client.execute_command(*commands[0])]
            except ResponseError as refusal:
                return [refusal]
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def disconnect(self) -> None:
        """Async twin of :meth:`Library.disconnect`."""
        client = self.client
        if is_cluster(client):
            pools = [node._free for node in client.get_nodes()]
        else:
            pools = [client.connection_pool._available_connections]
        for free in pools:
            # redis-py's own method closes connections that other tasks have taken meanwhile.
            closing = [*free]
            free.clear()
            try:
                for connection in closing:
                    await connection.disconnect(nowait=True)
            finally:
                free.extend(closing)
