"""Calls to Redis: a process has one client, and each event loop has one async client.

If a connection breaks during a call, the call is repeated once on another connection. All calls
can be done twice with the same outcome. A call that times out is not repeated, so nothing waits
longer than the timeouts in the URL.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

from dirigible_session.conf import conf

from .scripts import Call, Command, Operation, Unordered
from .url import EXAMPLE, SETTING, Target, parse

try:
    from redis.exceptions import NoScriptError, TimeoutError  # noqa: A004

    from .failures import Failure, explained, is_worth_a_retry, unavailable
    from .library import (
        AsyncLibrary,
        Library,
        aclose_pool,
        close_pool,
        is_cluster,
        is_instrumented,
        is_instrumented_async,
        make_client,
        make_pool,
    )
    from .wire import AsyncWire, Wire
except ModuleNotFoundError as error:
    raise ImproperlyConfigured(
        "dirigible_session: the Redis engine needs redis-py. Install it with "
        "`pip install 'dirigible-session[redis]'`."
    ) from error

#: Calls that an event loop makes at the same time with one client; further calls wait.
CONCURRENCY = 100
#: Keys that the server looks at for one answer to SCAN.
SCAN_COUNT = 500

T = TypeVar("T")

_KEEPERS = "_dirigible_session_redis"


def target() -> Target:
    """Return the server or cluster in the settings; ImproperlyConfigured if they are wrong."""
    try:
        return parse(conf.redis_url, conf.redis_password, conf.redis_client)
    except ValueError as problem:
        raise ImproperlyConfigured(
            f"dirigible_session: {SETTING} is wrong: {problem}. An example: {EXAMPLE!r}."
        ) from None


def drive(operation: Operation[T]) -> T:
    """Do the calls of an operation and return its result; StoreUnavailable if a call fails."""
    client = clients.of_process()
    try:
        calls = next(operation)
        while True:
            calls = operation.send(client.run(calls))
    except StopIteration as done:
        result: T = done.value
        return result


async def adrive(operation: Operation[T]) -> T:
    """Async twin of :func:`drive`."""
    client = await clients.of_loop()
    try:
        calls = next(operation)
        while True:
            calls = operation.send(await client.run(calls))
    except StopIteration as done:
        result: T = done.value
        return result


def _probe(where: Target) -> Command:
    """Return a write that changes nothing, on a key that never exists."""
    return Command(("HDEL", where.keys.session(""), "-"))


def _lost_scripts(answers: Sequence[Any]) -> list[int]:
    """Return the positions of scripts unknown to the server; raise any other error."""
    lost = []
    for place, answer in enumerate(answers):
        if isinstance(answer, NoScriptError):
            lost.append(place)
        elif isinstance(answer, Exception):
            raise answer
    return lost


class Client:
    """The client for sync code. Threads may share it, and it works after a fork."""

    def __init__(self, where: Target) -> None:
        self.where = where
        self._lock = threading.Lock()
        self._library: Library | None = None
        self._pool = self._wire = None
        if where.is_one_server:
            self._pool = make_pool(where, is_async=False)
            self._wire = Wire(self._pool, _probe(where))

    @property
    def library(self) -> Library:
        """The calls through a client of redis-py, which is made at first use.

        The client of a cluster connects to its nodes when it is made.
        """
        if self._library is None:
            with self._lock:
                if self._library is None:
                    client = make_client(self.where, self._pool, is_async=False)
                    self._library = Library(client, _probe(self.where), self.where)
        return self._library

    @property
    def redis(self) -> Any:
        """The client of redis-py."""
        return self.library.client

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Do the calls in order, in one round trip, and return their answers.

        On a cluster, each call takes a round trip; :class:`Unordered` calls take one for each node.
        StoreUnavailable if a call fails.
        """
        if not calls:
            return []
        try:
            is_direct = self._wire is not None and not is_instrumented()
            sender: Any = self._wire if is_direct else self.library
            try:
                return self._run(sender, calls)
            except Failure as error:
                if not is_worth_a_retry(error):
                    raise
            # The other free connections are likely broken too, or lead to a former primary.
            sender.disconnect()
            return self._run(sender, calls, again=True)
        except Failure as error:
            raise unavailable(self.where, error) from error

    def _run(self, sender: Any, calls: Sequence[Call], *, again: bool = False) -> list[Any]:
        if sender.keeps_no_order and len(calls) > 1 and not isinstance(calls, Unordered):
            return [self._run(sender, [call], again=again)[0] for call in calls]
        answers = sender.send([call.command(again=again) for call in calls], again=again)
        if lost := _lost_scripts(answers):
            commands = [calls[place].command(again=again, by_text=True) for place in lost]
            for place, answer in zip(lost, sender.send(commands, again=again), strict=True):
                answers[place] = answer
            _lost_scripts(answers)
        return answers  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            made, self._library = self._library, None
        if self._wire is not None:
            self._wire.disconnect()
            close_pool(self._pool)
        elif made is not None:
            made.close()

    def scan(self, match: bytes, kind: str) -> Iterator[bytes]:
        """Walk the keys of a kind (``hash``, ``zset``) on all nodes; a key may come twice."""
        with explained(self.where):
            yield from self.redis.scan_iter(match=match, count=SCAN_COUNT, _type=kind)

    def scan_page(self, place: str, match: bytes, kind: str) -> tuple[str, list[bytes]]:
        """Return the place to continue from, "" after the last page, and one page of keys.

        A place is "" for the first page, a cursor, or on a cluster the name of a node and a cursor.
        """
        with explained(self.where):
            client = self.redis
            options: dict[str, Any] = {"match": match, "count": SCAN_COUNT, "_type": kind}
            if not is_cluster(client):
                cursor, found = client.scan(int(place or 0), **options)
                return (str(cursor) if cursor else ""), found
            name, _, cursor = place.partition(" ")
            nodes = {node.name: node for node in client.get_primaries()}
            # If that node has left the cluster, start with the next node.
            later = [n for n in sorted(nodes) if n >= name]
            if not later:
                return "", []
            name, *others = later
            start = int(cursor or 0) if place.startswith(f"{name} ") else 0
            cursors, found = client.scan(start, target_nodes=nodes[name], **options)
            cursor = cursors[name]
            if cursor:
                return f"{name} {cursor}", found
            return (f"{others[0]} 0" if others else ""), found

    def scan_index(self, key: bytes) -> Iterator[bytes]:
        """Walk the members of a sorted set; a member may come twice."""
        with explained(self.where):
            for member, _ in self.redis.zscan_iter(key, count=SCAN_COUNT):
                yield member


class AsyncClient:
    """Async twin of :class:`Client`, for the tasks of one event loop."""

    def __init__(self, where: Target) -> None:
        self.where = where
        self._turn = asyncio.Semaphore(CONCURRENCY)
        self._start = asyncio.Lock()
        self._is_started = where.is_one_server
        self._pool = self._wire = None
        self._library: AsyncLibrary | None = None
        if where.is_one_server:
            self._pool = make_pool(where, is_async=True)
            self._wire = AsyncWire(self._pool, _probe(where))

    @property
    def library(self) -> AsyncLibrary:
        """The calls through a client of redis-py, which is made at first use."""
        if self._library is None:
            client = make_client(self.where, self._pool, is_async=True)
            self._library = AsyncLibrary(client, _probe(self.where), self.where)
        return self._library

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """Async twin of :meth:`Client.run`."""
        if not calls:
            return []
        await self._wait_for_turn()
        try:
            if not self._is_started:
                # If several tasks find the nodes, they close the connections of each other.
                async with self._start:
                    if not self._is_started:
                        await self.library.client.initialize()
                        self._is_started = True
            is_direct = self._wire is not None and not is_instrumented_async()
            sender: Any = self._wire if is_direct else self.library
            try:
                return await self._run(sender, calls)
            except Failure as error:
                if not is_worth_a_retry(error):
                    raise
            await sender.disconnect()
            return await self._run(sender, calls, again=True)
        except Failure as error:
            raise unavailable(self.where, error) from error
        finally:
            self._turn.release()

    async def _run(self, sender: Any, calls: Sequence[Call], *, again: bool = False) -> list[Any]:
        if sender.keeps_no_order and len(calls) > 1 and not isinstance(calls, Unordered):
            return [(await self._run(sender, [call], again=again))[0] for call in calls]
        answers = await sender.send([call.command(again=again) for call in calls], again=again)
        if lost := _lost_scripts(answers):
            commands = [calls[place].command(again=again, by_text=True) for place in lost]
            for place, answer in zip(lost, await sender.send(commands, again=again), strict=True):
                answers[place] = answer
            _lost_scripts(answers)
        return answers  # type: ignore[no-any-return]

    async def _wait_for_turn(self) -> None:
        if not self._turn.locked():
            await self._turn.acquire()
            return
        try:
            await asyncio.wait_for(self._turn.acquire(), self.where.socket_timeout)
        except asyncio.TimeoutError:
            error = TimeoutError(
                f"{CONCURRENCY} calls of this event loop are under way, and none of them ended"
            )
            raise unavailable(self.where, error) from None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._wire is not None:
            await self._wire.disconnect(nowait=False)
            await aclose_pool(self._pool)
        elif self._library is not None:
            await self._library.client.aclose()


class Clients:
    """The clients of this process, each made at first use."""

    def __init__(self) -> None:
        self._of_process: dict[Target, Client] = {}
        os.register_at_fork(after_in_child=self._of_process.clear)

    def of_process(self) -> Client:
        """Return the client for sync code."""
        where = target()
        client = self._of_process.get(where)
        return self._of_process.setdefault(where, Client(where)) if client is None else client

    def close(self) -> None:
        """Close the clients for sync code; the next use makes new clients."""
        while self._of_process:
            self._of_process.popitem()[1].close()

    async def of_loop(self) -> AsyncClient:
        """Return the client of the running event loop.

        The loop holds the client, so the client lives no longer than the loop. ``asyncio.run``
        closes it, as it closes asynchronous generators.
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
        await client.aclose()


clients = Clients()
