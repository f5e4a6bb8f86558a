"""Connections to one server: a call takes a free connection, uses it and puts it back.

redis-py's own pool and client also do retries, hooks and push messages. The engine does not need
them, and in a call as short as the load of a session their cost shows.

After a failover, a name may lead to another server while the old primary lives on as a replica. A
process that only reads would not notice. So each connection asks now and then, in the same round
trip, whether its server still takes writes, and raises ``ReadOnlyError`` if not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from redis.exceptions import ReadOnlyError, ResponseError

from .scripts import Command

pack_command: Any = None
with suppress(ImportError):
    from hiredis import pack_command

#: Seconds after which a connection asks again whether its server takes writes.
ASK_AGAIN = 1.0
#: Seconds after which an unused connection is closed.
IDLE = 10.0


class Line:
    """A connection, with the times of its last use and its last question."""

    __slots__ = ("asked", "connection", "used")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.asked = float("-inf")
        self.used = 0.0


class _Lines:
    """The free connections, and all decisions about them. Nothing here waits."""

    #: A server executes the commands of a connection in order.
    keeps_no_order = False

    def __init__(self, pool: Any, probe: Command) -> None:
        """Make connections as the pool would; ``probe`` is a write that changes nothing."""
        # Sentinel connections hold their pool by a weak reference.
        self._pool = pool
        self._probe = probe
        self._free: deque[Line] = deque()

    def _take(self) -> Line | None:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _made(self) -> Line:
        make: Any = self._pool.connection_class
        return Line(make(**self._pool.connection_kwargs))

    def _with_probe(
        self, line: Line, commands: Sequence[Command], *, again: bool
    ) -> Sequence[Command]:
        line.used = now = monotonic()
        if now - line.asked < ASK_AGAIN:
            return commands
        line.asked = now
        # If the second connection leads to a replica too, the settings name a replica.
        return commands if again else [*commands, self._probe]

    def _idle(self, free: deque[Line], now: float) -> Sequence[Line]:
        """Remove the connections that were not used for a while, and return them."""
        idle: list[Line] = []
        # Another thread may take the last connection in between.
        with suppress(IndexError):
            while free[0].used < now - IDLE:
                idle.append(free.popleft())
        return idle


def without_probe(answers: list[Any], commands: Sequence[Command]) -> list[Any]:
    """Return the answers to the commands; ReadOnlyError if the probe after them was refused."""
    if len(answers) > len(commands):
        refusal = answers.pop()
        if isinstance(refusal, ReadOnlyError):
            raise refusal
    return answers


class Wire(_Lines):
    """Connections for sync code, safe to share between threads."""

    def send(self, commands: Sequence[Command], *, again: bool = False) -> list[Any]:
        """Send commands in one go and return their answers; an error of the server is an answer."""
        free = self._free
        line = self._take() or self._connected()
        connection = line.connection
        try:
            sent = self._with_probe(line, commands, again=again)
            connection.send_packed_command(packed(connection, sent))
            answers = without_probe([_answer(connection) for _ in sent], commands)
        except BaseException:
            # The next call must not read a late answer to this one.
            connection.disconnect()
            raise
        if free is not self._free:
            connection.disconnect()
            return answers
        free.append(line)
        for idle in self._idle(free, line.used):
            idle.connection.disconnect()
        return answers

    def _connected(self) -> Line:
        line = self._made()
        line.connection.connect()
        return line

    def disconnect(self) -> None:
        """Close the free connections now, and the others as soon as they are answered."""
        left, self._free = self._free, deque()
        # Another thread may take one in between.
        with suppress(IndexError):
            while True:
                left.pop().connection.disconnect()


class AsyncWire(_Lines):
    """Connections for the tasks of one event loop."""

    async def send(self, commands: Sequence[Command], *, again: bool = False) -> list[Any]:
        """Async twin of :meth:`Wire.send`."""
        free = self._free
        line = self._take() or await self._connected()
        connection = line.connection
        try:
            sent = self._with_probe(line, commands, again=again)
            await connection.send_packed_command(packed(connection, sent))
            answers = without_probe([await _aanswer(connection) for _ in sent], commands)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if free is not self._free:
            await connection.disconnect(nowait=True)
            return answers
        free.append(line)
        for idle in self._idle(free, line.used):
            await idle.connection.disconnect(nowait=True)
        return answers

    async def _connected(self) -> Line:
        line = self._made()
        try:
            await line.connection.connect()
        except BaseException:
            await line.connection.disconnect(nowait=True)
            raise
        return line

    async def disconnect(self, *, nowait: bool = True) -> None:
        """Async twin of :meth:`Wire.disconnect`; without ``nowait``, wait until all are closed."""
        left, self._free = self._free, deque()
        while left:
            await left.pop().connection.disconnect(nowait=nowait)


def packed(connection: Any, commands: Sequence[Command]) -> Any:
    """Return the bytes of commands, as a connection sends them."""
    if pack_command is None:
        return connection.pack_commands(commands)
    # redis-py calls the same function, after a look at each argument.
    return [b"".join(map(pack_command, commands))]


# Error reports show variables: an answer has no name until all of them have come.
def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal


async def _aanswer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal
