"""Taking the live sessions of one engine over into another, one of ours.

It can be stopped at any moment and run again, and it is meant to be: before the site changes
engines, to take over most, and right after, to take over the rest. What it copied it remembers in
:class:`~.models.MigratedSession`. A session that the new engine wrote, or ended, is the new
engine's from then on: it is told by that it is no longer what was copied. A copy that nobody used
is ended when its original was.

What is remembered tells of two engines, and is of use on the way between them, in either
direction. A session that goes on from there to a third is remembered for its last way only.

**Where it is stopped.** If the new engine keeps its sessions in the database of that memory, a
batch is one transaction: all of it is there and remembered, or nothing. A store elsewhere, as
Redis, keeps what it was given. So there each session takes three steps, each of which lasts: the
memory notes what is to be written, as ``pending``; it is written; the memory notes that it was, as
``content``. After a stop, the next run finds in the new engine

- what is pending: it was written, and the last step is made up for;
- what is remembered as content: it was not written yet, and is now;
- something else: it was written, and the new engine wrote since. It is the new engine's;
- nothing, where there is content: the new engine ended it. It stays ended. A copy that was over
  before anybody used it is still there: in the database until ``clearsessions``, in Redis for the
  time of :data:`GRACE`;
- nothing, where there is none: the run was stopped just before it made the copy, or just after,
  and the new engine ended it since. Nobody can tell. It is not copied: that its visitor has to log
  in again is a lesser harm than that a session comes back after a logout. Of a run that was
  stopped, that is one session at most.

Stopped before the first step, nothing happened; after the last, all did. To end a copy takes one
step in the store, and forgetting it the next, which finds nothing to end if it has to be made
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import router, transaction
from django.db.models import Q

from .backends import mapping
from .backends.base import EngineBase
from .backends.mapping import Texts
from .handles import DIGEST_SIZE
from .inspection import Inspector
from .inspection.records import Reporter
from .lifecycle import EXPIRY_KEY, TIMES_KEY, Times, fixed_end
from .stored import Query, StoredSession

if TYPE_CHECKING:
    from .backends.operations import StoredData
    from .models import MigratedSession

#: Sessions that are copied in one transaction.
BATCH = 100
#: Seconds that Redis keeps a copy once it is over, so that the next run can tell it from one that
#: was ended.
GRACE = 7 * 24 * 60 * 60
#: A cache says how many seconds are left, so what is reckoned from that varies by seconds.
JITTER = 5
#: What tells that JSON can't hold a session: a type, a value, a number too large, a depth.
UNFIT = (TypeError, ValueError, OverflowError, RecursionError)

Item = TypeVar("Item")


@dataclass
class Counts:
    """What became of the sessions that were found."""

    copied: int = 0
    #: Written to in the old engine since they were copied, and taken over again.
    renewed: int = 0
    #: As they were when they were copied.
    unchanged: int = 0
    #: The new engine wrote or ended them since, or may have: a run was stopped at them.
    left: int = 0
    #: Their originals were ended, and nobody had used the copies.
    ended: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class Original:
    """A session of the old engine as the new one would keep it."""

    digest: str
    texts: Texts
    times: Times
    source: str

    @classmethod
    def of(cls, stored: StoredSession, *, cookie_age: int, now: float) -> Original:
        """Return it; one of UNFIT if JSON can't hold it."""
        data = {name: value for name, value in (stored.data or {}).items() if name != TIMES_KEY}
        texts = mapping.to_texts(data)
        times = stored.times
        if times is None:
            # All that is known of it: it was there when its end was last reckoned.
            interval = None if fixed_end(data) else data.get(EXPIRY_KEY) or cookie_age
            known = stored.expires is not None and interval is not None
            seen = min(now, stored.expires - interval) if known else now  # type: ignore[operator]
            times = Times(seen, seen)
        reckoned = "" if stored.expires is None else str(round(stored.expires))
        if stored.times is not None:
            reckoned = repr(stored.times)
        return cls(stored.digest, texts, times, fingerprint(texts, reckoned))


def fingerprint(texts: Texts, times: str = "") -> str:
    """Return what tells attributes, and times, from others."""
    whole = mapping.to_document(texts) + times
    return blake2b(whole.encode(), digest_size=DIGEST_SIZE).hexdigest()


class Move:
    """One run of taking sessions over."""

    def __init__(self, origin: str, target: EngineBase, *, now: float) -> None:
        """Take over from the engine at the path ``origin``; ``now`` is when, since the epoch.

        InspectionError if its sessions can't be listed.
        """
        from .models import MigratedSession

        self.counts = Counts()
        #: The handles of what was refused, and why.
        self.refusals: list[tuple[str, str]] = []
        self._origin = origin
        self._target = target
        target.grace = GRACE
        self._into = type(target).__module__
        self._now = now
        self._inspector = Inspector(origin)
        self._cookie_age = self._inspector.store_class().get_session_cookie_age()
        self._reporter = Reporter(cookie_age=self._cookie_age, now=now, reveal=False)
        self._memory: Any = MigratedSession.objects
        self._using = router.db_for_write(MigratedSession)
        #: Whether a transaction holds both what is written and the memory of it.
        self._is_in_one = _database_of(target) == self._using

    def run(self) -> None:
        """Take over all that is there to take over."""
        stored = self._inspector.stored(Query(now=self._now, state="active"))
        judged = map(self._reporter.judge, stored)
        for batch in _batches(one for one in judged if one.state != "expired"):
            self._take_over(batch)
        # Only now that the old engine was walked to its end is it known what it no longer has.
        memory = self._memory.using(self._using)
        there = Q(target__in=("", self._into), origin=self._origin)
        back = Q(target=self._origin, origin=self._into)
        gone = memory.filter(there | back, seen__lt=self._now)
        for batch_gone in _batches(gone.order_by("digest").iterator()):
            self._let_go(batch_gone)

    def _take_over(self, batch: list[StoredSession]) -> None:
        # Redis may give one twice.
        found = {stored.digest: stored for stored in batch}
        with self._transaction():
            memory = self._memory.using(self._using)
            rows = memory.select_for_update() if self._is_in_one else memory
            remembered = rows.in_bulk(list(found))
            known = {digest: row for digest, row in remembered.items() if self._is_of_use(row)}
            # A table may be named by another path each time: it is the last one that counts.
            memory.filter(digest__in=list(known), seen__lte=self._now).update(**self._way())
            for stored in found.values():
                original = self._original(stored)
                if original is not None:
                    self._take(original, known.get(original.digest))

    def _is_of_use(self, row: MigratedSession) -> bool:
        """Return whether it tells what the new engine was given, or gave on the way there."""
        if not row.target:
            # Of version 1.0: the origin has to do.
            return row.origin in (self._origin, self._into)
        is_way_back = (row.origin, row.target) == (self._into, self._origin)
        return row.target == self._into or is_way_back

    def _way(self) -> dict[str, Any]:
        return {"origin": self._origin, "target": self._into, "seen": self._now}

    def _transaction(self) -> AbstractContextManager[Any]:
        return transaction.atomic(using=self._using) if self._is_in_one else nullcontext()

    def _original(self, stored: StoredSession) -> Original | None:
        if stored.state == "unreadable":
            self.counts.unreadable += 1
            return None
        try:
            original = Original.of(stored, cookie_age=self._cookie_age, now=self._now)
            end = self._target.end_of(stored.data or {}, original.times)
        except UNFIT as error:
            self.refusals.append((stored.digest, str(error)))
            return None
        # Times that had to be reckoned may be over by a limit that the old engine can't apply.
        return None if end is not None and end <= self._now else original

    def _take(self, original: Original, known: MigratedSession | None) -> None:
        if known is None:
            self._copy(original)
        elif known.source == original.source and not known.pending:
            self.counts.unchanged += 1
        else:
            self._take_again(original, known)

    def _copy(self, original: Original) -> None:
        accessed = original.times.accessed
        self._announce(original, accessed, source="", content="")
        if self._target._insert(original.digest, original.texts, original.times) is not None:
            self.counts.copied += 1
            self._remember(original, accessed)
        else:
            # The new engine has it, and nobody remembers how: it is the new engine's.
            self.counts.left += 1
            self._renounce(original)

    def _take_again(self, original: Original, known: MigratedSession) -> None:
        found = self._target._read(original.digest)
        if found is None or not _is_as_written(found, known):
            self.counts.left += 1
            return
        # What a cache's expiry tells of the last access may go back a little.
        accessed = max(original.times.accessed, known.accessed)
        is_as_copied = fingerprint(original.texts) == fingerprint(found.texts)
        if is_as_copied and original.times.accessed - found.times.accessed < JITTER:
            self.counts.unchanged += 1
            if known.pending:
                self._remember(original, accessed)
            return
        self._announce(original, accessed)
        times = mapping.merged_times(found.times, original.times, found.times)
        if self._target._replace(original.digest, found, original.texts, times):
            self.counts.renewed += 1
            self._remember(original, accessed)
        else:
            self.counts.left += 1
            self._renounce(original)

    def _announce(self, original: Original, accessed: float, **blank: str) -> None:
        """Note what is to be written, unless it is undone with the memory of it."""
        if not self._is_in_one:
            noted = {"pending": fingerprint(original.texts), "accessed": accessed}
            self._memory.using(self._using).update_or_create(
                digest=original.digest, defaults=self._way() | noted | blank
            )

    def _renounce(self, original: Original) -> None:
        """Note that what was announced was not written."""
        if not self._is_in_one:
            row = self._memory.using(self._using).filter(digest=original.digest)
            row.filter(content="").delete()
            row.update(pending="")

    def _remember(self, original: Original, accessed: float) -> None:
        written = {"source": original.source, "content": fingerprint(original.texts)}
        self._memory.using(self._using).update_or_create(
            digest=original.digest,
            defaults=self._way() | written | {"pending": "", "accessed": accessed},
        )

    def _let_go(self, batch: list[MigratedSession]) -> None:
        """Forget what the old engine no longer has; end the copies that nobody used."""
        with self._transaction():
            for known in batch:
                found = self._target._read(known.digest)
                if found is not None and _is_untouched(found, known):
                    self.counts.ended += self._target._remove_if(known.digest, found)
            digests = [known.digest for known in batch]
            self._memory.using(self._using).filter(digest__in=digests).delete()


def _database_of(target: EngineBase) -> str | None:
    """Return the database that an engine writes its sessions to; None if that is no database."""
    model_class = getattr(target, "get_model_class", None)
    return None if model_class is None else router.db_for_write(model_class())


def _is_as_written(found: StoredData, known: MigratedSession) -> bool:
    return fingerprint(found.texts) in (known.content, known.pending)


def _is_untouched(found: StoredData, known: MigratedSession) -> bool:
    return found.times.accessed <= known.accessed and _is_as_written(found, known)


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
