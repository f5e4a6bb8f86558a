"""Connections of sync code to one server: a free one is taken, used and put back, and no more.

redis-py's own pool and client look after much that is not needed here (retries, hooks, push
messages), at a price that is felt in a call as short as the load of a session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis import ConnectionPool
from redis.exceptions import ResponseError

from .scripts import Args


class Wire:
    """Safe to share between threads; each has a connection to itself while it waits."""

    def __init__(self, pool: ConnectionPool) -> None:
        """Make connections as the pool would."""
        self._make: Any = pool.connection_class
        self._options = pool.connection_kwargs
        self._free: deque[Any] = deque()

    def send(self, commands: Sequence[Args]) -> list[Any]:
        """Send commands in one go and return their answers, what the server refuses included."""
        try:
            connection = self._free.pop()
        except IndexError:
            connection = self._make(**self._options)
        try:
            if len(commands) == 1:
                connection.send_command(*commands[0])
            else:
                connection.send_packed_command(connection.pack_commands(commands))
            return [_answer(connection) for _ in commands]
        except BaseException:
            # An answer may be under way that the next call would take for its own.
            connection.disconnect()
            raise
        finally:
            self._free.append(connection)

    def disconnect(self) -> None:
        """Break off the connections that are free; others are made when they are needed."""
        with suppress(IndexError):
            while True:
                # Taken first, since another thread may be about to take it.
                self._free.pop().disconnect()


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal
