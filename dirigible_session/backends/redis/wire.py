"""Connections to one server: a free one is taken, used and put back, and no more.

redis-py's own pool and client look after much that is not needed here (retries, hooks, push
messages), at a price that is felt in a call as short as the load of a session.

Behind one name there may be another server after a failover, while the old primary lives on as a
replica, and a process that only reads would not notice. So each connection asks now and then, in
the same round trip, whether its server still takes writes, and raises ``ReadOnlyError`` if not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from redis.exceptions import ReadOnlyError, ResponseError

from .scripts import Command

pack_command: Any
try:
    from hiredis import pack_command
except ImportError:
    pack_command = None

#: Seconds after which a connection asks again whether its server takes writes.
ASK_AGAIN = 1.0
#: Seconds after which a connection that nobody needed is closed.
IDLE = 10.0


class Line:
    """A connection, and when it was last used and last asked."""

    __slots__ = ("asked", "connection", "used")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.asked = float("-inf")
        self.used = 0.0


class _Lines:
    """The free connections, and what is decided about them; all of it without waiting."""

    #: One server does what it is sent one after the other.
    keeps_no_order = False

    def __init__(self, pool: Any, probe: Command) -> None:
        """Make connections as the pool would; ``probe`` is a write that changes nothing."""
        # Connections that sentinels manage need their pool, and hold it by a weak reference.
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
        # A second time, a replica is taken for what the settings name.
        return commands if again else [*commands, self._probe]

    def _idle(self, free: deque[Line], now: float) -> Sequence[Line]:
        """Take away the connections that nobody needed for a while."""
        idle: list[Line] = []
        try:
            while free[0].used < now - IDLE:
                idle.append(free.popleft())
        except IndexError:
            # Another thread was faster to take one.
            pass
        return idle


def _without_probe(answers: list[Any], commands: Sequence[Command]) -> list[Any]:
    """Return the answers to the commands; ReadOnlyError if the probe after them says so."""
    if len(answers) > len(commands):
        refusal = answers.pop()
        if isinstance(refusal, ReadOnlyError):
            raise refusal
    return answers


class Wire(_Lines):
    """Safe to share between threads; each has a connection to itself while it waits."""

    def send(self, commands: Sequence[Command], *, again: bool = False) -> list[Any]:
        """Send commands in one go and return their answers, what the server refuses included."""
        free = self._free
        line = self._take() or self._connected()
        connection = line.connection
        try:
            sent = self._with_probe(line, commands, again=again)
            connection.send_packed_command(packed(connection, sent))
            answers = _without_probe([_answer(connection) for _ in sent], commands)
        except BaseException:
            # An answer may be under way that the next call would take for its own.
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
        """Close the connections that are free now, and the others once they are answered."""
        left, self._free = self._free, deque()
        with suppress(IndexError):
            while True:
                # Another thread may be about to take one.
                left.pop().connection.disconnect()


class AsyncWire(_Lines):
    """The twin of :class:`Wire` for the tasks of one event loop."""

    async def send(self, commands: Sequence[Command], *, again: bool = False) -> list[Any]:
        """Async twin of :meth:`Wire.send`."""
        free = self._free
        line = self._take() or await self._connected()
        connection = line.connection
        try:
            sent = self._with_probe(line, commands, again=again)
            await connection.send_packed_command(packed(connection, sent))
            answers = _without_probe([await _aanswer(connection) for _ in sent], commands)
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
        """Async twin of :meth:`Wire.disconnect`; at the end of a loop it waits for them."""
        left, self._free = self._free, deque()
        while left:
            await left.pop().connection.disconnect(nowait=nowait)


def packed(connection: Any, commands: Sequence[Command]) -> Any:
    """Return the bytes of commands, as a connection sends them."""
    if pack_command is None:
        return connection.pack_commands(commands)
    # redis-py calls the same function, after a look at each argument.
    return [b"".join(map(pack_command, commands))]


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
