"""The reader: walks the stored sessions of an engine, one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from .engines import can_list, keyed_reader, store_class_of
from .records import SessionRecord
from .reporting import Judged, Reporter, user_id_of
from .selection import Selection
from .users import Usernames

if TYPE_CHECKING:
    from dirigible_session.backends.base import Query, StoredSession

#: Usernames are looked up for so many sessions at a time, or for so many bytes of them.
BATCH = 500
BATCH_BYTES = 1_000_000

EVERYTHING = Selection(state="all")


class Inspector:
    """The stored sessions of one engine.

    Memory is bounded by one chunk of rows, files or values of the store (see the reader of each
    engine) and one batch of records, whatever the number of sessions. What is read is as old as
    that: sessions that are stored or ended during a walk may or may not show.
    """

    def __init__(self, engine: str | None = None) -> None:
        """Open an engine, SESSION_ENGINE by default.

        UnknownEngine if the path names none, NotListable if its sessions can't be listed.
        """
        self.store_class = store_class_of(engine)
        self._keyed = None if can_list(self.store_class) else keyed_reader(self.store_class)

    def count(self) -> int | None:
        """Return how many sessions are stored; None if it takes reading them all to tell."""
        return None if self._keyed is None else self._keyed.count()

    def stored(self, query: Query) -> Iterator[StoredSession]:
        """Walk the sessions as stored, with data that is not redacted.

        Sessions of Django's engines are :class:`~.records.KeyedSession`. ``query`` is what the
        store may decide; more than it asks for may come.
        """
        if self._keyed is not None:
            return iter(self._keyed.walk(query))
        return self.store_class.list_stored(query)  # type: ignore[attr-defined,no-any-return]

    def records(
        self, selection: Selection = EVERYTHING, *, reveal: bool = False, now: float | None = None
    ) -> Iterator[SessionRecord]:
        """Walk the sessions that are wanted, as they may be shown.

        Session keys are left out and values whose names look secret are stars, unless ``reveal``
        is True. ``now`` is the moment to judge them at, in seconds since the epoch.
        """
        moment = time.time() if now is None else now
        reporter = Reporter(self.store_class(), now=moment, reveal=reveal)
        usernames = Usernames()
        for batch in _batches(self.selected(selection, reporter)):
            user_ids = [user_id_of(judged.stored.data) for judged in batch]
            names = usernames.look_up(id_ for id_ in user_ids if id_ is not None)
            for judged, user_id in zip(batch, user_ids, strict=True):
                yield reporter.record(judged, None if user_id is None else names[user_id])

    def selected(self, selection: Selection, reporter: Reporter) -> Iterator[Judged]:
        """Walk the sessions that are wanted, as stored."""
        now = reporter.now
        wanted = (
            judged
            for judged in map(reporter.judged, self.stored(selection.query(now)))
            if selection.matches(judged.stored, judged.state, now)
        )
        return islice(wanted, selection.limit)


def _batches(sessions: Iterable[Judged]) -> Iterator[list[Judged]]:
    batch: list[Judged] = []
    size = 0
    for judged in sessions:
        batch.append(judged)
        size += judged.stored.size
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
