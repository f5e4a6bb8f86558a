"""Talking to Redis: one client a process, and on the async path one for each event loop.

A call that is cut off by a broken connection is tried once more, on another connection: all that
is sent here can be done twice with the same outcome. A call that is not answered in time is not
tried again, so that nothing waits for longer than the timeouts of the URL say.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

from dirigible_session.conf import conf
from dirigible_session.exceptions import StoreUnavailable

from .scripts import Args, Call, Steps, Unordered
from .url import CONNECT_TIMEOUT, EXAMPLE, SETTING, SOCKET_TIMEOUT, Target, parse

try:
    import redis
    import redis.asyncio
    import redis.asyncio.cluster
    import redis.cluster
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        ConnectionError,  # noqa: A004
        NoScriptError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        ResponseError,
    )
    from redis.retry import Retry

    from .wire import Wire
except ModuleNotFoundError as error:
    raise ImproperlyConfigured(
        "dirigible_session: the Redis engine needs redis-py. Install it with "
        "`pip install 'dirigible-session[redis]'`."
    ) from error

#: Of one client: how many calls of an event loop are under way at once; the others wait.
CONCURRENCY = 100
#: How many keys the server looks at for one answer.
SCAN_COUNT = 500
#: Threads each hold a connection for the length of a call, and who starts threads counts them.
THREADS = 100_000

#: What a connection is made with, unless the URL says otherwise.
OPTIONS: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_keepalive": True,
    "protocol": 2,
}

T = TypeVar("T")

_KEEPERS = "_dirigible_session_redis"

Failure = (RedisError, RedisClusterException)


def target() -> Target:
    """Return what the setting names; ImproperlyConfigured if it names nothing."""
    try:
        return parse(conf.redis_url)
    except ValueError as problem:
        raise ImproperlyConfigured(
            f"dirigible_session: {SETTING} is wrong: {problem}. An example: {EXAMPLE!r}."
        ) from None


def _unavailable(where: Target, error: Exception) -> StoreUnavailable:
    text = str(error).rstrip(".")
    if isinstance(error, redis.TimeoutError):
        problem = (
            f"did not answer in time (socket_timeout {where.socket_timeout:g} s): {text}. "
            "Look whether it is overloaded, or the network to it broken"
        )
    elif isinstance(error, redis.exceptions.OutOfMemoryError):
        problem = (
            f"has no memory left and takes no writes: {text}. Raise its maxmemory, or give the "
            "sessions a server of their own"
        )
    elif isinstance(error, redis.exceptions.MovedError):
        problem = (
            f"is a node of a cluster, and what is asked for is on another: {text}. Let {SETTING} "
            "begin with redis+cluster:// or rediss+cluster://"
        )
    elif isinstance(error, ReadOnlyError) or "READONLY" in text:
        problem = f"is a replica and takes no writes: {text}. {SETTING} has to name the primary"
    elif isinstance(error, redis.BusyLoadingError):
        problem = f"is still loading its data: {text}. It answers when that is done"
    elif isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        problem = f"refuses the user or the password: {text}. Look at {SETTING}"
    elif isinstance(error, ConnectionError | RedisClusterException):
        problem = f"can't be reached: {text}. Look whether it runs, and at {SETTING}"
    else:
        problem = f"answered with an error: {text}"
    return StoreUnavailable(f"dirigible_session: Redis at {where.shown} {problem}.")


def _options(where: Target, retry: Any) -> dict[str, Any]:
    options = OPTIONS | {"max_connections": THREADS, "retry": retry}
    if where.is_socket:
        # There is no network to keep a connection alive in.
        del options["socket_keepalive"]
    return options


@contextmanager
def _explained(where: Target) -> Iterator[None]:
    try:
        yield
    except Failure as error:
        raise _unavailable(where, error) from error


def _checked(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _worth_a_retry(error: Exception) -> bool:
    return isinstance(error, (ConnectionError, ReadOnlyError)) or "READONLY" in str(error)


def drive(steps: Steps[T]) -> T:
    """Do what an operation asks for, and return its result; StoreUnavailable if that can't be."""
    client = clients.of_process()
    try:
        calls = next(steps)
        while True:
            calls = steps.send(client.run(calls))
    except StopIteration as done:
        result: T = done.value
        return result


async def adrive(steps: Steps[T]) -> T:
    """Async twin of :func:`drive`."""
    client = await clients.of_loop()
    try:
        calls = next(steps)
        while True:
            calls = steps.send(await client.run(calls))
    except StopIteration as done:
        result: T = done.value
        return result


class Client:
    """What sync code asks; safe to share between threads, and to use after a fork."""

    def __init__(self, where: Target) -> None:
        self.where = where
        self._lock = threading.Lock()
        self._redis: Any = None
        self._options = _options(where, Retry(NoBackoff(), 0))
        self._pool = None
        self._wire = None
        if not where.is_cluster:
            self._pool = redis.ConnectionPool.from_url(where.url, **self._options)
            self._wire = Wire(self._pool)

    @property
    def redis(self) -> Any:
        """The client of redis-py; of a cluster, it looks for the nodes when it is made."""
        if self._redis is None:
            with self._lock:
                if self._redis is None:
                    self._redis = self._made()
        return self._redis

    def _made(self) -> Any:
        if self._pool is not None:
            return redis.Redis(connection_pool=self._pool)
        node_class: Any = redis.cluster.ClusterNode
        nodes = [node_class(*node) for node in self.where.other_nodes]
        return redis.cluster.RedisCluster.from_url(
            self.where.url, startup_nodes=nodes, **self._options
        )

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Do the calls and return their answers; StoreUnavailable if that is impossible.

        One round trip, and in this order; on a cluster, where they may go to several nodes, one
        for each call, or for each node where they are :class:`Unordered`.
        """
        if not calls:
            return []
        try:
            return self._send(calls)
        except Failure as error:
            if not _worth_a_retry(error):
                raise _unavailable(self.where, error) from error
        with _explained(self.where):
            if self._wire is not None:
                # The others are as broken as this one, and the name may stand for another server
                # by now. A client of a cluster finds that out by itself.
                self._wire.disconnect()
            return self._send(calls, again=True)

    def _send(self, calls: Sequence[Call], *, again: bool = False) -> list[Any]:
        if self.where.is_cluster and not isinstance(calls, Unordered):
            return [self._send_together([call], again=again)[0] for call in calls]
        return self._send_together(calls, again=again)

    def _send_together(self, calls: Sequence[Call], *, again: bool) -> list[Any]:
        answers = self._answers([call.command(again=again) for call in calls])
        lost = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if lost:
            commands = [calls[place].command(again=again, by_text=True) for place in lost]
            for place, answer in zip(lost, self._answers(commands), strict=True):
                answers[place] = answer
        return _checked(answers)

    def _answers(self, commands: Sequence[Args]) -> list[Any]:
        """Return the answers to commands that are sent in one go, refusals included."""
        if self._wire is not None:
            return self._wire.send(commands)
        if len(commands) == 1:
            try:
                return [self.redis.execute_command(*commands[0])]
            except ResponseError as refusal:
                return [refusal]
        pipeline = self.redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            made, self._redis = self._redis, None
        if self._wire is not None and self._pool is not None:
            self._wire.disconnect()
            self._pool.disconnect()
        elif made is not None:
            # Its own close() leaves the connections of the nodes open.
            made.disconnect_connection_pools()
            made.close()

    def read_many(self, calls: Sequence[Call]) -> list[Any]:
        """Do calls that only read, on all nodes at once, and return their answers."""
        with _explained(self.where):
            pipeline = self.redis.pipeline(transaction=False)
            for call in calls:
                pipeline.execute_command(*call.command())
            answers: list[Any] = pipeline.execute()
            return answers

    def scan(self, match: bytes, kind: str) -> Iterator[bytes]:
        """Walk the keys of a kind (``hash``, ``zset``) on all nodes; one may come twice."""
        with _explained(self.where):
            yield from self.redis.scan_iter(match=match, count=SCAN_COUNT, _type=kind)

    def scan_index(self, key: bytes) -> Iterator[bytes]:
        """Walk the members of a sorted set; one may come twice."""
        with _explained(self.where):
            for member, _ in self.redis.zscan_iter(key, count=SCAN_COUNT):
                yield member


class AsyncClient:
    """What the async code of one event loop asks."""

    def __init__(self, where: Target) -> None:
        self.where = where
        self._turn = asyncio.Semaphore(CONCURRENCY)
        self._start = asyncio.Lock()
        self._is_started = not where.is_cluster
        options = _options(where, AsyncRetry(NoBackoff(), 0))
        if where.is_cluster:
            nodes = [redis.asyncio.cluster.ClusterNode(*node) for node in where.other_nodes]
            self.redis: Any = redis.asyncio.RedisCluster.from_url(
                where.url, startup_nodes=nodes, **options
            )
        else:
            pool = redis.asyncio.ConnectionPool.from_url(where.url, **options)
            self.redis = redis.asyncio.Redis.from_pool(pool)

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """Async twin of :meth:`Client.run`."""
        if not calls:
            return []
        await self._wait_for_turn()
        try:
            if not self._is_started:
                await self._find_nodes()
            try:
                return await self._send(calls)
            except Failure as error:
                if not _worth_a_retry(error):
                    raise _unavailable(self.where, error) from error
            with _explained(self.where):
                await self._drop_connections()
                return await self._send(calls, again=True)
        finally:
            self._turn.release()

    async def _find_nodes(self) -> None:
        # Tasks that find the nodes for themselves break off each other's connections.
        async with self._start:
            if not self._is_started:
                with _explained(self.where):
                    await self.redis.initialize()
                self._is_started = True

    async def _wait_for_turn(self) -> None:
        if not self._turn.locked():
            await self._turn.acquire()
            return
        try:
            await asyncio.wait_for(self._turn.acquire(), self.where.socket_timeout)
        except asyncio.TimeoutError:
            error = redis.TimeoutError(
                f"{CONCURRENCY} calls of this event loop are under way, and none of them ended"
            )
            raise _unavailable(self.where, error) from None

    async def _send(self, calls: Sequence[Call], *, again: bool = False) -> list[Any]:
        if self.where.is_cluster and not isinstance(calls, Unordered):
            return [(await self._send_together([call], again=again))[0] for call in calls]
        return await self._send_together(calls, again=again)

    async def _send_together(self, calls: Sequence[Call], *, again: bool) -> list[Any]:
        answers = await self._answers([call.command(again=again) for call in calls])
        lost = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if lost:
            commands = [calls[place].command(again=again, by_text=True) for place in lost]
            for place, answer in zip(lost, await self._answers(commands), strict=True):
                answers[place] = answer
        return _checked(answers)

    async def _answers(self, commands: Sequence[Args]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [await self.redis.execute_command(*commands[0])]
            except ResponseError as refusal:
                return [refusal]
        pipeline = self.redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _drop_connections(self) -> None:
        if not self.where.is_cluster:
            await self.redis.connection_pool.disconnect(inuse_connections=False)


class Clients:
    """The clients of this process, each made when it is first needed."""

    def __init__(self) -> None:
        self._of_process: dict[Target, Client] = {}
        os.register_at_fork(after_in_child=self._of_process.clear)

    def of_process(self) -> Client:
        """Return the client for sync code."""
        where = target()
        client = self._of_process.get(where)
        if client is None:
            client = self._of_process.setdefault(where, Client(where))
        return client

    def close(self) -> None:
        """Close the clients for sync code; they are made anew when they are needed."""
        while self._of_process:
            self._of_process.popitem()[1].close()

    async def of_loop(self) -> AsyncClient:
        """Return the client of the running event loop.

        The loop holds it, so it lives no longer than the loop. It is closed as asyncio closes
        asynchronous generators: by ``asyncio.run`` and whatever else ends a loop in order.
        """
        where = target()
        keepers = vars(asyncio.get_running_loop()).setdefault(_KEEPERS, {})
        keeper = keepers.get(where)
        if keeper is None:
            generator = _closed_at_the_end(AsyncClient(where))
            keeper = keepers[where] = (generator, await generator.__anext__())
        client: AsyncClient = keeper[1]
        return client


async def _closed_at_the_end(client: AsyncClient) -> AsyncGenerator[AsyncClient, None]:
    try:
        yield client
    finally:
        await client.redis.aclose()


clients = Clients()
