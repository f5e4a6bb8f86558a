"""Making, changing and ending a session: once, however many threads or tasks ask for it at once.

All expect the session to be loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import signals
from .tracking import Tracker


def create(tracker: Tracker) -> None:
    """Create and store the session unless it has an id by now."""
    with tracker.turns.of_thread():
        if tracker.session_id is None:
            with _undone(tracker):
                tracker.draw_id()
                tracker.session.create()


async def acreate(tracker: Tracker) -> None:
    """Async twin of :func:`create`."""
    async with tracker.turns.of_task():
        await _acreate(tracker)


async def _acreate(tracker: Tracker) -> None:
    if tracker.session_id is None:
        with _undone(tracker):
            tracker.draw_id()
            await tracker.session.acreate()


@contextmanager
def _undone(tracker: Tracker) -> Iterator[None]:
    """Give the session back the id that it had, where it could not be stored under another."""
    key = tracker.session.session_key
    try:
        yield
    except BaseException:
        tracker.session._session_key = key
        raise


def change(tracker: Tracker) -> None:
    """Give the session another id; create it if it has none."""
    with tracker.turns.of_thread():
        old_handle = tracker.handle
        if old_handle is None:
            create(tracker)
        else:
            with _undone(tracker):
                tracker.session.cycle_key()
            _note_change(tracker, old_handle)


async def achange(tracker: Tracker) -> None:
    """Async twin of :func:`change`."""
    async with tracker.turns.of_task():
        old_handle = tracker.handle
        if old_handle is None:
            await _acreate(tracker)
        else:
            with _undone(tracker):
                await tracker.session.acycle_key()
            _note_change(tracker, old_handle)


def _note_change(tracker: Tracker, old_handle: str) -> None:
    tracker.notices.note(
        signals.session_id_changed, old_handle=old_handle, new_handle=tracker.handle
    )


def end(tracker: Tracker) -> None:
    """End the session, and tell the receivers before."""
    tracker.ending()
    tracker.notify()
    # Others, or a receiver, may have ended it by now, and what there is may be the one after it.
    with tracker.turns.of_thread():
        if tracker.is_ending:
            tracker.flush()


async def aend(tracker: Tracker) -> None:
    """Async twin of :func:`end`."""
    tracker.ending()
    await tracker.anotify()
    async with tracker.turns.of_task():
        if tracker.is_ending:
            await tracker.aflush()
