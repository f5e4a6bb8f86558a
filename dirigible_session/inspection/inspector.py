"""The reader: walks the stored sessions of an engine, one by one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from dirigible_session import handles, signals
from dirigible_session.stored import Query

from .errors import (
    MOST_LISTED,
    AmbiguousHandle,
    NoSuchSession,
    NotEnded,
    answering,
    guarded,
    opening,
)
from .readers import can_list, keyed_reader, store_class_of
from .records import Judged, Reporter, SessionRecord, Summary, summarized, user_id_of
from .selection import Selection
from .users import Usernames

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

    from dirigible_session.stored import StoredSession

#: Usernames are looked up for so many sessions at a time, or for so many bytes of them.
BATCH = 500
BATCH_BYTES = 1_000_000

Watch = Callable[[Iterable[Any]], Iterable[Any]]

EVERYTHING = Selection(state="all")

_PREFIX = re.compile(rf"[0-9a-f]{{4,{handles.DIGEST_LENGTH}}}")


class Inspector:
    """The stored sessions of one engine.

    Memory is bounded by one chunk of what the store gives at a time (200 rows of a table, one
    file, one megabyte of a cache's values) and one batch of records (500, or one megabyte),
    however many sessions there are. What is read is as old as that: sessions that are stored or
    ended during a walk may or may not show. Every method raises StoreFailed where the store does
    not answer.
    """

    def __init__(self, engine: str | None = None) -> None:
        """Open an engine, SESSION_ENGINE by default.

        UnknownEngine if the path names none, NotListable if its sessions can't be listed,
        StoreFailed if its store can't be opened.
        """
        self.store_class: Any = store_class_of(engine)
        self._what = f"The store of {self.store_class.__module__}"
        with opening(self._what):
            self._keyed = None if can_list(self.store_class) else keyed_reader(self.store_class)
            self._cookie_age = self.store_class().get_session_cookie_age()

    def count(self) -> int | None:
        """Return how many sessions are stored; None if it takes reading them all to tell."""
        return None if self._keyed is None else self._keyed.count()

    def stored(self, query: Query) -> Iterator[StoredSession]:
        """Walk the sessions as stored, with their data as it is: nothing is redacted.

        Sessions of Django's engines come with their key.
        ``query`` is what the store may decide by itself; more than it asks for may come.
        """
        if self._keyed is not None:
            return iter(self._keyed.walk(query))
        return guarded(self._what, self.store_class.list_stored(query))

    def records(
        self, selection: Selection = EVERYTHING, *, reveal: bool = False, now: float | None = None
    ) -> Iterator[SessionRecord]:
        """Walk the sessions that are wanted, as they may be shown.

        Session keys are left out and values whose names look secret are stars, unless ``reveal``
        is True. ``now`` is the moment to judge them at, in seconds since the epoch.
        NoSuchSession, AmbiguousHandle: see :meth:`find`.
        """
        reporter = self._reporter(now, reveal=reveal)
        usernames = Usernames()
        for batch in _batches(self._selected(selection, reporter)):
            user_ids = [user_id_of(judged.stored.data) for judged in batch]
            names = usernames.look_up(id_ for id_ in user_ids if id_ is not None)
            for judged, user_id in zip(batch, user_ids, strict=True):
                yield reporter.record(judged, None if user_id is None else names[user_id])

    def summary(
        self,
        selection: Selection = EVERYTHING,
        *,
        now: float | None = None,
        watch: Watch | None = None,
    ) -> Summary:
        """Count the sessions that are wanted.

        ``watch`` is given them one by one and passes them on, as a progress bar does. Memory grows
        with the number of different users and names of attributes.
        """
        wanted = self._selected(selection, self._reporter(now))
        return summarized(wanted if watch is None else watch(wanted))

    def find(self, session: str) -> str:
        """Return the digest of the session with this handle, prefix of the digest, or key.

        NoSuchSession if there is none, AmbiguousHandle if there are several. On Django's engines
        a handle takes a walk over all keys.
        """
        return self._named(session).digest

    def invalidate(self, selection: Selection, *, now: float | None = None) -> int:
        """End the sessions that are wanted and return how many.

        Each is ended through its store, so that a cached copy goes too. ``session_invalidated``
        is sent before, with the attributes still readable. NotEnded, once all were tried, if some
        are still there.
        """
        ended = 0
        left: list[str] = []
        for batch in _batches(self._selected(selection, self._reporter(now))):
            with answering(self._what):
                for judged in batch:
                    is_ended = self._end(judged.stored)
                    if self._is_there(judged.stored):
                        left.append(judged.stored.digest)
                    else:
                        ended += is_ended
        if left:
            raise NotEnded(ended, left)
        return ended

    def _is_there(self, stored: StoredSession) -> bool:
        # Django's file engine says nothing where it may not delete, and no engine of Django's
        # deletes a session whose key is too short to be one. Our own engines say it.
        return stored.session_key is not None and self.store_class().exists(stored.session_key)

    def _end(self, stored: StoredSession) -> bool:
        try:
            session = self._opened(stored)
        except LookupError:
            # It ended by itself meanwhile.
            return False
        notices = signals.Outbox(session, None)
        notices.note(signals.session_invalidated, handle=stored.digest[: handles.HANDLE_LENGTH])
        notices.send()
        session.flush()
        return True

    def _opened(self, stored: StoredSession) -> SessionBase:
        if stored.session_key is None:
            session: SessionBase = self.store_class.by_digest(stored.digest)
            return session
        session = self.store_class(stored.session_key)
        # What was read just now: a store would not load a session that is over or damaged.
        vars(session)["_session_cache"] = dict(stored.data or {})
        return session

    def _reporter(self, now: float | None, *, reveal: bool = False) -> Reporter:
        moment = time.time() if now is None else now
        return Reporter(cookie_age=self._cookie_age, now=moment, reveal=reveal)

    def _selected(self, selection: Selection, reporter: Reporter) -> Iterator[Judged]:
        now = reporter.now
        if selection.session is None:
            stored = self.stored(selection.query(now))
        else:
            stored = iter([self._named(selection.session)])
        wanted = (
            judged
            for judged in map(reporter.judged, stored)
            if selection.matches(judged.stored, judged.state, now)
        )
        return islice(wanted, selection.limit)

    def _named(self, session: str) -> StoredSession:
        by_key = self._by_key(session) if session.isascii() and session.isprintable() else None
        if by_key is not None:
            return by_key
        prefix = session.lower()
        if not _PREFIX.fullmatch(prefix):
            raise NoSuchSession(
                "No stored session has this key, and a handle has 4 to 40 hexadecimal digits."
            )
        matches = {
            stored.digest: stored for stored in islice(self._by_prefix(prefix), MOST_LISTED + 1)
        }
        if len(matches) > 1:
            raise AmbiguousHandle(prefix, sorted(matches))
        if not matches:
            # More digits than a handle has may be a key.
            named = repr(prefix) if len(prefix) <= handles.HANDLE_LENGTH else "that"
            raise NoSuchSession(f"No stored session has a digest that begins with {named}.")
        return matches.popitem()[1]

    def _by_key(self, key: str) -> StoredSession | None:
        if self._keyed is not None:
            return next(iter(self._keyed.by_keys([key])), None)
        return next(self._by_prefix(handles.digest(key)), None)

    def _by_prefix(self, prefix: str) -> Iterator[StoredSession]:
        if self._keyed is None:
            return self.stored(Query(now=time.time(), digest_prefix=prefix))
        keys = self._keyed.keys()
        return iter(
            self._keyed.by_keys(key for key in keys if handles.digest(key).startswith(prefix))
        )


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
