"""Connections are taken and put back; what is decided about them needs no server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.exceptions import ReadOnlyError

from dirigible_session.backends.redis import wire
from dirigible_session.backends.redis.scripts import Command
from dirigible_session.backends.redis.wire import ASK_AGAIN, IDLE, AsyncWire, Wire

PROBE = Command(("HDEL", "nothing", "-"))
GET = Command(("GET", "a"))


class Connection:
    """A connection that tells what became of it."""

    made: list[Connection]
    is_replica: bool
    while_waiting: Callable[[], None]

    def __init__(self, **options: Any) -> None:
        self.sent: list[str] = []
        self.is_open = False
        type(self).made.append(self)

    def connect(self) -> None:
        self.is_open = True

    def pack_commands(self, commands: Any) -> Any:
        """Stand in for redis-py's own packing, which is in use without hiredis."""
        return [command[0] for command in commands]

    def send_packed_command(self, names: list[str]) -> None:
        assert self.is_open
        self.sent += names
        self.answers = list(names)

    def read_response(self) -> Any:
        assert self.is_open
        type(self).while_waiting()
        name = self.answers.pop(0)
        if name == "HDEL" and self.is_replica:
            raise ReadOnlyError("You can't write against a read only replica.")
        return name

    def disconnect(self, nowait: bool = False) -> None:
        self.is_open = False


class AsyncConnection(Connection):
    async def connect(self) -> None:  # type: ignore[override]
        super().connect()

    async def send_packed_command(self, names: list[str]) -> None:  # type: ignore[override]
        super().send_packed_command(names)

    async def read_response(self) -> Any:
        return super().read_response()

    async def disconnect(self, nowait: bool = False) -> None:  # type: ignore[override]
        super().disconnect()


class Lines:
    """A wire of either kind, and its connections."""

    def __init__(self, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(wire, "monotonic", lambda: self.now)
        monkeypatch.setattr(wire, "pack_command", None)
        base = AsyncConnection if is_async else Connection
        self.kind: Any = type("Kind", (base,), {"made": [], "is_replica": False})
        self.kind.while_waiting = staticmethod(lambda: None)
        pool = type("Pool", (), {"connection_class": self.kind, "connection_kwargs": {}})
        self.wire: Any = (AsyncWire if is_async else Wire)(pool(), PROBE)
        self.is_async = is_async

    def send(self, *commands: Command, again: bool = False) -> Any:
        if not self.is_async:
            return self.wire.send(commands, again=again)
        return asyncio.run(self.wire.send(commands, again=again))

    def disconnect(self) -> None:
        left = self.wire.disconnect()
        if self.is_async:
            # Nothing of a connection of ours really waits.
            with pytest.raises(StopIteration):
                left.send(None)

    def burst(self, count: int) -> None:
        """Send while others wait for their answers."""
        lines = [self.wire._made() for _ in range(count)]
        for line in lines:
            line.connection.is_open = True
            line.used = self.now
            self.wire._free.append(line)

    @property
    def open(self) -> int:
        return sum(connection.is_open for connection in self.kind.made)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Lines:
    return Lines(request.param, monkeypatch)


def test_one_connection_is_used_again(lines: Lines) -> None:
    assert lines.send(GET) == ["GET"]
    assert lines.send(GET, GET) == ["GET", "GET"]
    assert len(lines.kind.made) == 1


def test_one_that_is_in_use_is_closed_once_it_is_answered(lines: Lines) -> None:
    lines.send(GET)
    (connection,) = lines.kind.made

    def disconnect() -> None:
        lines.disconnect()
        assert connection.is_open

    lines.kind.while_waiting = staticmethod(disconnect)
    assert lines.send(GET) == ["GET"]
    assert lines.open == 0


def test_one_that_breaks_is_not_used_again(lines: Lines) -> None:
    def fail() -> None:
        raise ConnectionError

    lines.kind.while_waiting = staticmethod(fail)
    with pytest.raises(ConnectionError):
        lines.send(GET)
    lines.kind.while_waiting = staticmethod(lambda: None)
    assert lines.send(GET) == ["GET"]
    assert [connection.is_open for connection in lines.kind.made] == [False, True]


def test_those_that_nobody_needs_after_a_burst_are_closed(lines: Lines) -> None:
    lines.burst(20)
    assert lines.open == 20
    lines.now += IDLE / 2
    lines.send(GET)
    assert lines.open == 20
    lines.now += IDLE / 2 + 1
    lines.send(GET)
    assert lines.open == 1


def test_each_asks_now_and_then_whether_its_server_takes_writes(lines: Lines) -> None:
    for _ in range(3):
        lines.send(GET)
    lines.now += ASK_AGAIN
    lines.send(GET)
    (connection,) = lines.kind.made
    assert connection.sent == ["GET", "HDEL", "GET", "GET", "GET", "HDEL"]


def test_one_to_a_server_that_became_a_replica_is_left(lines: Lines) -> None:
    lines.send(GET)
    lines.kind.is_replica = True
    lines.send(GET)
    lines.now += ASK_AGAIN
    with pytest.raises(ReadOnlyError):
        lines.send(GET)
    assert lines.open == 0
    # Where another connection leads to a replica too, that is what the settings name.
    assert lines.send(GET, again=True) == ["GET"]
    assert lines.send(GET) == ["GET"]
    assert lines.open == 1


def test_hiredis_packs_as_redis_py_does() -> None:
    commands = [Command(("HSET", b"key", "name", "\u00e9\0", 1, 2.5, "")), PROBE]
    pool = redis.ConnectionPool()
    connection = pool.connection_class(**pool.connection_kwargs)
    expected = b"".join(connection.pack_commands(commands))
    assert wire.packed(connection, commands) == [expected]
