"""The reader: walks the stored sessions of an engine, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_noop as _

from dirigible_session import handles, signals
from dirigible_session.signals import Reason
from dirigible_session.stored import Paused, Query, StoredSession, in_batches, user_id_of

from . import positions
from .errors import (
    MOST_LISTED,
    AmbiguousHandle,
    NoSuchSession,
    NotEnded,
    NotListable,
    each,
    opening_errors_as,
)
from .readers import reader_of, store_class_of
from .records import Reporter, SessionRecord, Summary, summarized
from .selection import Selection
from .users import Usernames

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

#: The most sessions that are ended together, and bytes of them as stored.
BATCH = 200
BATCH_BYTES = 1_000_000
#: The most sessions whose usernames are looked up together. With more of them in memory, Python's
#: garbage collector takes a fifth of the time.
NAMED = 50

Watch = Callable[[Iterable[Any]], Iterable[Any]]
OnEnd = Callable[[StoredSession], object]

EVERYTHING = Selection(state="all")


@dataclass(frozen=True)
class Page:
    """A page of the sessions that match, and the position of the next page."""

    records: list[SessionRecord]
    #: The ``after`` of the next page; None: there is none. It is URL-safe text, and
    #: tells nothing of a session key.
    next: str | None
    #: How many stored sessions were read to find these.
    read: int


@dataclass(frozen=True)
class EndedPage:
    """A page of the sessions that were ended, and the position of the next page."""

    #: Those that this call ended.
    sessions: list[StoredSession]
    #: As ``Page.next``.
    next: str | None
    #: How many stored sessions were read to find these.
    read: int


class Walk:
    """A walk with limits of time and number, which knows its position.

    It reads one session at least, so that a caller who goes on from there reaches the end.
    """

    def __init__(
        self, sessions: Iterator[StoredSession], until: float | None, most_read: int | None = None
    ) -> None:
        self._sessions = sessions
        self._until = until
        self._most_read = most_read
        self.read = 0
        #: The position at which the walk continues.
        self.position = ""
        #: Set by a caller who needs no more; the walk then only checks whether there is more.
        self.is_enough = False
        #: Whether it came to the end of the store.
        self.is_complete = False

    def __iter__(self) -> Iterator[StoredSession]:
        try:
            for stored in self._sessions:
                if self.is_enough or self._is_over():
                    return
                self.read += 1
                self.position = stored.position
                yield stored
            self.is_complete = True
        except Paused as paused:
            self.position = paused.position

    def _is_over(self) -> bool:
        if self.read == 0:
            return False
        is_late = self._until is not None and time.monotonic() > self._until
        return is_late or (self._most_read is not None and self.read >= self._most_read)


class Inspector:
    """The stored sessions of one engine.

    Memory is bounded by what the reader of the engine has in memory at a time (see the readers)
    and one batch of sessions (200, or one megabyte as stored), however many sessions there are.
    Sessions that are stored or ended during a walk may be missing from it or not. Every method
    raises StoreFailed if the store does not answer.
    """

    def __init__(self, engine: str | None = None, *, request: HttpRequest | None = None) -> None:
        """Open an engine, SESSION_ENGINE by default.

        ``request`` is the one, if any, that signals carry of the sessions that are ended.

        UnknownEngine if the path is not that of an engine, NotListable if its sessions can't be
        listed, StoreFailed if its store can't be opened.
        """
        self.store_class: Any = store_class_of(engine)
        self._request = request
        self._what = f"The store of {self.store_class.__module__}"
        with opening_errors_as(self._what):
            self._reader = reader_of(self.store_class)
            self._cookie_age = self.store_class().get_session_cookie_age()

    def count(self) -> int | None:
        """Return how many sessions are stored; None if only a walk could tell."""
        return self._reader.count()

    def stored(self, query: Query) -> Iterator[StoredSession]:
        """Walk the sessions as stored, with all their data: nothing is redacted.

        Sessions of Django's engines come with their key. The store may give more sessions than
        ``query`` asks for.
        """
        return self._reader.walk(query)

    def sessions(
        self, selection: Selection = EVERYTHING, *, now: float | None = None
    ) -> Iterator[StoredSession]:
        """Walk the sessions that are wanted, as stored: nothing is redacted.

        Their ``state``, ``end`` and ``interval`` are filled in, as of ``now``, in seconds since
        the epoch. Sessions of one user, or with given digests, are found by index on the engines
        of this package. NoSuchSession, AmbiguousHandle: see :meth:`find`.
        """
        return self._wanted(selection, self._reporter(now))

    def records(
        self, selection: Selection = EVERYTHING, *, reveal: bool = False, now: float | None = None
    ) -> Generator[SessionRecord, None, None]:
        """Walk the sessions that are wanted, as they may be shown.

        Session keys are left out and values whose names look secret are stars, unless ``reveal``
        is True. States are as of ``now``, in seconds since the epoch. NoSuchSession,
        AmbiguousHandle: see :meth:`find`.
        """
        reporter = self._reporter(now, reveal=reveal)
        return _recorded(self._wanted(selection, reporter), reporter, None)

    def records_of(
        self,
        sessions: Iterable[StoredSession],
        *,
        usernames: Mapping[str, str | None] | None = None,
        reveal: bool = False,
    ) -> Iterator[SessionRecord]:
        """Yield records of sessions from :meth:`sessions`.

        ``usernames``, by user id, saves looking them up.
        """
        return _recorded(sessions, self._reporter(None, reveal=reveal), usernames)

    def page(
        self,
        selection: Selection = EVERYTHING,
        *,
        after: str | None = None,
        limit: int = 50,
        seconds: float | None = None,
        most_read: int | None = None,
        reveal: bool = False,
        now: float | None = None,
    ) -> Page:
        """Return up to ``limit`` records of the sessions that match, and the next position.

        It goes on after the position ``after``, the ``next`` of the page before, and reads no
        more sessions than it needs: not those of the pages before, nor more than ``most_read``,
        nor for much longer than ``seconds``. So a page may have fewer records than there are, or
        none, and yet a next one. Each page is as of its own time; a session that is stored, or
        gets another key, between two pages may be on none of them or on both.

        The order is the store's: by session key in Django's tables, by digest in those of this
        package and in files, and that of SCAN on Redis. A ``selection`` with a ``session`` gives
        all sessions whose digest begins with it; its ``limit`` and ``sort`` are ignored.
        UnknownPosition if ``after`` is not from a page of this engine, NoSuchSession as in
        :meth:`find`.
        """
        reporter = self._reporter(now, reveal=reveal)
        walk = self._walk(selection, reporter, after, seconds, most_read)
        found = _found(walk, selection, reporter, limit)
        return Page(list(_recorded(found, reporter, None)), self._next(walk), walk.read)

    def end_page(
        self,
        selection: Selection,
        *,
        after: str | None = None,
        limit: int = 50,
        seconds: float | None = None,
        most_read: int | None = None,
        reason: Reason = Reason.OPERATOR,
        now: float | None = None,
        on_end: OnEnd | None = None,
    ) -> EndedPage:
        """End the sessions that :meth:`page` would give, and return them and where to go on.

        See :meth:`end` for ``on_end``, signals and exceptions.
        """
        reporter = self._reporter(now)
        walk = self._walk(selection, reporter, after, seconds, most_read)
        found = _found(walk, selection, reporter, limit)
        ended = self.end(found, reason=reason, on_end=on_end)
        return EndedPage(ended, self._next(walk), walk.read)

    def _walk(
        self,
        selection: Selection,
        reporter: Reporter,
        after: str | None,
        seconds: float | None,
        most_read: int | None = None,
    ) -> Walk:
        until = None if seconds is None else time.monotonic() + seconds
        position = "" if after is None else positions.opened(after, self.store_class.__module__)
        query = replace(selection.query(reporter.now), after=position, until=until)
        if selection.session is not None:
            by_key = self._by_key(selection.session) if after is None else None
            prefix = handles.digest(selection.session) if by_key else _prefix(selection.session)
            query = replace(query, digest_prefix=prefix)
        return Walk(self._reader.walk(query), until, most_read)

    def _next(self, walk: Walk) -> str | None:
        if walk.is_complete:
            return None
        if not walk.position:
            # The next page would be this one again, without end.
            raise NotListable(
                _(
                    "Sessions of %(engine)s can't be read in pages: the engine gives them no "
                    "position."
                ),
                engine=self.store_class.__module__,
            )
        return positions.sealed(walk.position, self.store_class.__module__)

    def summary(
        self,
        selection: Selection = EVERYTHING,
        *,
        now: float | None = None,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> Summary:
        """Count the sessions that are wanted.

        With ``seconds`` it counts for not much longer than that, and tells how many sessions it
        read and whether these were all. ``watch`` is given all sessions that are read, one by one,
        and passes them on, as a progress bar does. Memory grows with the number of different users
        and names of attributes. NoSuchSession, AmbiguousHandle: see :meth:`find`.
        """
        reporter = self._reporter(now)
        if selection.session is None:
            walk = self._walk(selection, reporter, None, seconds)
        else:
            walk = Walk(iter([self._named(selection.session)]), None)
        judged = map(reporter.judge, walk if watch is None else watch(walk))
        wanted = (stored for stored in judged if selection.matches(stored, reporter.now))
        summary = summarized(islice(wanted, selection.limit), reporter.now)
        return replace(summary, read=walk.read, is_complete=walk.is_complete)

    def find(self, session: str) -> str:
        """Return the digest of the session with this handle, prefix of the digest, or key.

        NoSuchSession if there is none, AmbiguousHandle if there are several. On Django's engines
        a handle takes a walk over all keys.
        """
        return self._named(session).digest

    def invalidate(
        self,
        selection: Selection,
        *,
        now: float | None = None,
        reason: Reason = Reason.OPERATOR,
    ) -> int:
        """End the sessions that are wanted and return how many this call ended.

        See :meth:`end` for signals and exceptions.
        """
        wanted = self._wanted(selection, self._reporter(now))
        return sum(1 for _ in self._ending(wanted, reason))

    def end(
        self,
        sessions: Iterable[StoredSession],
        *,
        reason: Reason = Reason.OPERATOR,
        on_end: OnEnd | None = None,
    ) -> list[StoredSession]:
        """End sessions that :meth:`sessions` gave, and return those that this call ended.

        A session that is gone already is left out. ``session_invalidated`` is sent for each that
        this call ended, with a session of which the data can be read. ``on_end`` is called with
        each as soon as it has ended, so a caller knows which these were if the store fails at a
        later session. On the engines of this package it takes one call of the store for 200 of
        them. NotEnded, once all were tried, if the store kept some.
        """
        ended: list[StoredSession] = []
        for stored in self._ending(sessions, reason):
            ended.append(stored)
            if on_end is not None:
                on_end(stored)
        return ended

    def _ending(self, sessions: Iterable[StoredSession], reason: Reason) -> Iterator[StoredSession]:
        ended = 0
        kept: list[str] = []
        for batch in in_batches(sessions, BATCH, BATCH_BYTES):
            # Redis may give a session twice.
            by_digest = {stored.digest: stored for stored in batch}
            for stored, is_gone in each(self._what, self._reader.end(by_digest.values())):
                if is_gone:
                    ended += 1
                    self._send_end(stored, reason)
                    yield stored
                else:
                    kept.append(stored.digest)
        if kept:
            raise NotEnded(ended, kept)

    def _send_end(self, stored: StoredSession, reason: Reason) -> None:
        session: SessionBase = self.store_class(stored.session_key)
        # The data that was read before it was deleted.
        vars(session)["_session_cache"] = dict(stored.data or {})
        outbox = signals.Outbox(session, self._request)
        outbox.note(
            signals.session_invalidated,
            handle=stored.digest[: handles.HANDLE_LENGTH],
            user_id=user_id_of(stored.data),
            reason=reason,
        )
        outbox.send(is_last=True)

    def _reporter(self, now: float | None, *, reveal: bool = False) -> Reporter:
        moment = time.time() if now is None else now
        return Reporter(cookie_age=self._cookie_age, now=moment, reveal=reveal)

    def _wanted(self, selection: Selection, reporter: Reporter) -> Iterator[StoredSession]:
        now = reporter.now
        if selection.session is None:
            stored = self._reader.walk(selection.query(now))
        else:
            stored = iter([self._named(selection.session)])
        judged = map(reporter.judge, stored)
        return selection.first(one for one in judged if selection.matches(one, now))

    def _named(self, session: str) -> StoredSession:
        by_key = self._by_key(session)
        if by_key is not None:
            return by_key
        prefix = _prefix(session)
        found = self._reader.walk(Query(now=time.time(), digest_prefix=prefix))
        matches = {stored.digest: stored for stored in islice(found, MOST_LISTED + 1)}
        if len(matches) > 1:
            raise AmbiguousHandle(prefix, sorted(matches))
        if not matches:
            # More digits than a handle has may be a key.
            named = repr(prefix) if len(prefix) <= handles.HANDLE_LENGTH else "that"
            raise NoSuchSession(f"No stored session has a digest that begins with {named}.")
        return matches.popitem()[1]

    def _by_key(self, session: str) -> StoredSession | None:
        may_be_key = session.isascii() and session.isprintable()
        return self._reader.by_key(session) if may_be_key else None


def _prefix(session: str) -> str:
    prefix = session.lower()
    if not handles.PREFIX.fullmatch(prefix):
        raise NoSuchSession(
            "No stored session has this key, and a handle has 4 to 40 hexadecimal digits."
        )
    return prefix


def _found(walk: Walk, selection: Selection, reporter: Reporter, limit: int) -> list[StoredSession]:
    found: dict[str, StoredSession] = {}
    for stored in walk:
        if selection.matches(reporter.judge(stored), reporter.now):
            # Redis may give a session twice.
            found[stored.digest] = stored
            walk.is_enough = len(found) >= limit
    return list(found.values())


def _recorded(
    sessions: Iterable[StoredSession],
    reporter: Reporter,
    usernames: Mapping[str, str | None] | None,
) -> Generator[SessionRecord, None, None]:
    known = Usernames()
    for batch in in_batches(sessions, NAMED, BATCH_BYTES):
        user_ids = [user_id_of(stored.data) for stored in batch]
        names = usernames
        if names is None:
            names = known.look_up(id_ for id_ in user_ids if id_ is not None)
        for stored, user_id in zip(batch, user_ids, strict=True):
            yield reporter.record(stored, None if user_id is None else names.get(user_id))
