"""A lock for the threads and tasks of one request, which might do the same thing at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

#: Seconds between two attempts of a task to get the lock.
LOOK_EVERY = 0.001


class RequestLock:
    """One thread at a time, and one task at a time while no thread has the lock.

    Threads wait for threads, tasks for tasks, and tasks for threads. A thread does not wait for a
    task: under ASGI the sync code of a request has one thread, and the task may need that very
    thread to go on. An event loop is never blocked: sync code that is called in one goes on at
    once.
    """

    __slots__ = ("_tasks", "_threads")

    def __init__(self) -> None:
        # Reentrant, since a signal may be sent while the lock is held.
        self._threads = threading.RLock()
        self._tasks = threading.Lock()

    @contextmanager
    def for_thread(self) -> Iterator[None]:
        """Wait for other threads; in an event loop, go on at once."""
        try:
            asyncio.get_running_loop()
            in_event_loop = True
        except RuntimeError:
            in_event_loop = False
        is_held = self._threads.acquire(blocking=not in_event_loop)
        try:
            yield
        finally:
            if is_held:
                self._threads.release()

    @asynccontextmanager
    async def for_task(self) -> AsyncIterator[None]:
        """Wait for other tasks, and for threads."""
        # An asyncio.Lock is bound to one event loop, but a sync view may run several in turn.
        while not self._tasks.acquire(blocking=False):
            await asyncio.sleep(LOOK_EVERY)
        try:
            while not self._threads.acquire(blocking=False):
                await asyncio.sleep(LOOK_EVERY)
            self._threads.release()
            yield
        finally:
            self._tasks.release()
