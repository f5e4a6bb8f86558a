"""Taking turns, for threads and tasks of one request that would do the same thing twice.

Threads wait for threads, tasks for tasks, and tasks for threads. A thread doesn't wait for a task:
the task may need that very thread to go on, since under ASGI the sync code of a request has one
thread. And an event loop is not blocked, whoever calls sync code there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

#: How often a task looks whether the threads are done, in seconds.
LOOK_EVERY = 0.001


class Turns:
    """One thread at a time, and one task at a time when no thread has its turn."""

    __slots__ = ("_tasks", "_threads")

    def __init__(self) -> None:
        # A receiver of a signal may come back for a turn within the one that it was told in.
        self._threads = threading.RLock()
        self._tasks = asyncio.Lock()

    @contextmanager
    def of_thread(self) -> Iterator[None]:
        """Wait for the turn of this thread; in an event loop, go on at once."""
        has_turn = self._threads.acquire(blocking=not _in_event_loop())
        try:
            yield
        finally:
            if has_turn:
                self._threads.release()

    @asynccontextmanager
    async def of_task(self) -> AsyncIterator[None]:
        """Wait for the turn of this task."""
        async with self._tasks:
            while not self._threads.acquire(blocking=False):
                await asyncio.sleep(LOOK_EVERY)
            self._threads.release()
            yield


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
