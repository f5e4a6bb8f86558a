"""Copying the live sessions of one engine into another, one of this package.

It can be stopped at any moment and run again, and it is meant to be: once before the site changes
engines, to copy most sessions, and again right after, to copy the rest. What it copied it
remembers in :class:`~.models.MigratedSession`. A session that the new engine wrote or ended is no
longer what was copied, and is left alone from then on. A copy that nobody used is ended when its
original was.

A row of the memory is about two engines, and is used between these two, in either direction. A
session that is copied on to a third engine is remembered for the last of its ways only.

**Where it is stopped.** If the new engine keeps its sessions in a database, a batch is one
transaction: all of it is copied and remembered, or nothing. (If the memory is in another database,
its transaction commits directly after.) A store such as Redis has no part in that, so there

- a copy is staged where no request finds it, then remembered as ``content``, with a question mark:
  ``pending`` has the same value; then it is published, and the question mark removed. After a stop
  the next run publishes what is still staged. What is neither staged nor published was published,
  and ended by the new engine.
- before a copy is replaced, the memory notes the new content as ``pending``. After a stop, the next
  run finds in the new engine what is ``pending`` (it was replaced), what is ``content`` (it was
  not), or something else, which the new engine wrote.

Nothing is noted before the new engine has answered, so a store that can't be reached costs nobody
the session. To end a copy is one step, to forget it the next, which finds nothing to end if it has
to be made again. A copy that was over before anybody used it is still there, so that it can be told
from one that was ended: in the database until ``clearsessions``, in Redis for :data:`GRACE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, router, transaction
from django.db.models import Q

from .backends import mapping
from .backends.base import EngineBase
from .backends.mapping import Texts
from .handles import DIGEST_SIZE
from .inspection import Inspector, Selection
from .inspection.errors import InspectionError
from .inspection.serializers import odd_serializer_of
from .lifecycle import EXPIRY_KEY, TIMES_KEY, Times, fixed_end
from .stored import StoredSession

if TYPE_CHECKING:
    from .backends.operations import StoredData
    from .models import MigratedSession

#: So many sessions, or so many bytes of them as stored, are copied together.
BATCH = 100
BATCH_BYTES = 1_000_000
#: Seconds that Redis keeps a copy once it is over.
GRACE = 7 * 24 * 60 * 60
#: The last access that is derived from the expiry in a cache varies by some seconds.
JITTER = 5
#: Seconds to wait for a SQLite database that another process has locked, and between two tries.
PATIENCE = 60.0
PAUSE = 1.0
#: What is raised for a session that JSON can't hold: a type, a value, a number too large, a depth.
UNFIT = (TypeError, ValueError, OverflowError, RecursionError)

Watch = Callable[[Iterable[StoredSession]], Iterable[StoredSession]]


class MayBeEncrypted(InspectionError):
    """The old engine stores sessions in a way that is neither Django's JSON nor pickle."""


@dataclass
class Counts:
    """What became of the sessions that were found."""

    copied: int = 0
    #: Written to in the old engine since they were copied, and copied again.
    updated: int = 0
    #: Their originals were ended, and nobody had used the copies.
    ended: int = 0
    #: As they were when they were copied.
    unchanged: int = 0
    #: The new engine wrote or ended them since they were copied, or had them already.
    skipped: int = 0
    unreadable: int = 0

    def add(self, other: Counts) -> None:
        """Add other counts to these."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


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
            # It was last accessed when its end was last calculated.
            interval = None if fixed_end(data) else data.get(EXPIRY_KEY) or cookie_age
            known = stored.expires is not None and interval is not None
            seen = min(now, stored.expires - interval) if known else now  # type: ignore[operator]
            times = Times(seen, seen)
        calculated = "" if stored.expires is None else str(round(stored.expires))
        if stored.times is not None:
            calculated = repr(stored.times)
        return cls(stored.digest, texts, times, fingerprint(texts, calculated))


def fingerprint(texts: Texts, times: str = "") -> str:
    """Return a digest of attributes, and of times."""
    whole = mapping.to_document(texts) + times
    return blake2b(whole.encode(), digest_size=DIGEST_SIZE).hexdigest()


@dataclass
class Plan:
    """What to do with the sessions of a batch."""

    copies: dict[str, Original] = field(default_factory=dict)
    updates: dict[str, Original] = field(default_factory=dict)
    #: What the new engine has already, and the memory does not know well.
    as_they_are: dict[str, Original] = field(default_factory=dict)
    #: What the memory and the new engine have of the sessions.
    known: Mapping[str, MigratedSession] = field(default_factory=dict)
    found: Mapping[str, StoredData] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)

    def add(self, original: Original) -> None:
        """Decide what to do with a session."""
        row, stored = self.known.get(original.digest), self.found.get(original.digest)
        if stored is None:
            if row is None:
                self.copies[original.digest] = original
            else:
                # The new engine ended it.
                self.counts.skipped += 1
            return
        is_same = fingerprint(original.texts) == fingerprint(stored.texts)
        is_copy = is_same if row is None else is_as_written(stored, row)
        if not is_copy:
            self.counts.skipped += 1
        elif is_same and original.times.accessed - stored.times.accessed < JITTER:
            self.counts.unchanged += 1
            self.as_they_are[original.digest] = original
        else:
            self.updates[original.digest] = original


def is_as_written(stored: StoredData, row: MigratedSession) -> bool:
    """Return whether the new engine still has what it was given."""
    return fingerprint(stored.texts) in (row.content, row.pending)


class Transfer:
    """One run of copying sessions."""

    def __init__(
        self,
        origin: str,
        target: EngineBase,
        *,
        now: float,
        plain: bool = False,
        dry_run: bool = False,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Copy from the engine at the path ``origin``; ``now`` is in seconds since the epoch.

        With ``plain``, also what may be encrypted there. With ``dry_run``, only count; memory then
        grows by the digest of each session. InspectionError if the sessions can't be listed,
        MayBeEncrypted if they may be encrypted.
        """
        from .models import MigratedSession

        self.counts = Counts()
        #: The digests of sessions that JSON can't hold, and why.
        self.refusals: list[tuple[str, str]] = []
        self.inspector = Inspector(origin)
        self._origin = origin
        self._target = target
        target.grace = GRACE
        self._into = type(target).__module__
        self._now = now
        self._dry_run = dry_run
        self._wait = wait
        #: In a dry run, what would be marked as seen.
        self._seen: set[str] = set()
        self._memory: Any = MigratedSession
        self._using = router.db_for_write(MigratedSession)
        self._cookie_age = self.inspector.store_class().get_session_cookie_age()
        odd = None if plain else self._odd_serializer()
        if odd is not None:
            raise MayBeEncrypted(
                f"{odd} is neither Django's JSON serializer nor pickle, so what {origin} stores "
                f"may be encrypted. {self._into} stores plain JSON: nothing was copied. To copy "
                "the sessions in plain text, use --plain."
            )

    def _odd_serializer(self) -> str | None:
        store_class = self.inspector.store_class
        return None if issubclass(store_class, EngineBase) else odd_serializer_of(store_class)

    def run(self, watch: Watch = iter) -> None:
        """Copy all sessions that are to be copied; ``watch`` is given them and passes them on."""
        live = self.inspector.sessions(Selection(state="active"), now=self._now)
        for batch in _batches(watch(live)):
            self._patiently(self._copy, batch)
        # Only now that the old engine was read to its end, what it no longer has is known.
        for rows in self._gone():
            self._patiently(self._end, rows)

    def _patiently(self, work: Callable[[Any], None], batch: Any) -> None:
        waited = 0.0
        while True:
            try:
                return work(batch)
            except OperationalError as error:
                # SQLite's only: other databases wait by themselves.
                if "is locked" not in str(error) or waited >= PATIENCE:
                    raise
            self._wait(PAUSE)
            waited += PAUSE

    # Copying.

    def _copy(self, batch: list[StoredSession]) -> None:
        plan = self._planned(batch)
        if self._dry_run:
            self._seen.update(stored.digest for stored in batch)
            plan.counts.copied += len(plan.copies)
            plan.counts.updated += len(plan.updates)
        elif self._target.is_transactional:
            with self._transaction():
                self._write(plan)
        else:
            self._write_in_steps(plan)
        self.counts.add(plan.counts)

    def _planned(self, batch: list[StoredSession]) -> Plan:
        refusals: list[tuple[str, str]] = []
        unreadable = sum(stored.state == "unreadable" for stored in batch)
        originals = [self._original(stored, refusals) for stored in batch]
        # Redis may give one twice.
        by_digest = {one.digest: one for one in originals if one and one.digest not in self._seen}
        rows = self._rows().in_bulk(list(by_digest))
        known = {digest: row for digest, row in rows.items() if self._is_of_use(row)}
        plan = Plan(known=known, counts=Counts(unreadable=unreadable))
        open_ones = []
        for digest, original in by_digest.items():
            row = known.get(digest)
            if row is not None and row.source == original.source and not row.pending:
                plan.counts.unchanged += row.seen < self._now
            else:
                open_ones.append(original)
        plan.found = self._found([original.digest for original in open_ones], known)
        for original in open_ones:
            plan.add(original)
        self.refusals += refusals
        return plan

    def _original(self, stored: StoredSession, refusals: list[tuple[str, str]]) -> Original | None:
        if stored.state == "unreadable":
            return None
        try:
            original = Original.of(stored, cookie_age=self._cookie_age, now=self._now)
            end = self._target.end_of(stored.data or {}, original.times)
        except UNFIT as error:
            refusals.append((stored.digest, str(error)))
            return None
        # Times that were derived may be over by a limit that the old engine can't apply.
        return None if end is not None and end <= self._now else original

    def _is_of_use(self, row: MigratedSession) -> bool:
        """Return whether it is about these two engines."""
        if not row.target:
            # Of version 1.0: the origin has to do.
            return row.origin in (self._origin, self._into)
        is_way_back = (row.origin, row.target) == (self._into, self._origin)
        return row.target == self._into or is_way_back

    def _found(
        self, digests: list[str], known: Mapping[str, MigratedSession]
    ) -> dict[str, StoredData]:
        """Return what the new engine has, once copies are published that a stop left staged."""
        found = self._target._read_many(digests) if digests else {}
        staged = [d for d in digests if d in known and known[d].pending and d not in found]
        if staged and not self._dry_run:
            found |= self._target._read_many(self._target._publish(staged))
        return found

    def _transaction(self) -> ExitStack:
        stack = ExitStack()
        # What is left last is committed last: the memory.
        stack.enter_context(transaction.atomic(using=self._using))
        model_class = getattr(self._target, "get_model_class", None)
        using = self._using if model_class is None else router.db_for_write(model_class())
        if using != self._using:
            stack.enter_context(transaction.atomic(using=using))
        return stack

    def _write(self, plan: Plan) -> None:
        """Do what is planned, in a transaction."""
        staged = self._stage(plan)
        updated = self._replace(plan)
        written = {d: plan.copies[d] for d in staged} | {d: plan.updates[d] for d in updated}
        self._remember(plan, written | plan.as_they_are)
        plan.counts.copied += len(staged)
        plan.counts.updated += len(updated)

    def _write_in_steps(self, plan: Plan) -> None:
        """Do what is planned in a store that has no part in a transaction."""
        staged = {digest: plan.copies[digest] for digest in self._stage(plan)}
        self._remember(plan, plan.as_they_are, staged | plan.updates)
        published = self._target._publish(staged) if staged else set()
        updated = self._replace(plan)
        written = {d: plan.copies[d] for d in published} | {d: plan.updates[d] for d in updated}
        self._remember(plan, written)
        plan.counts.copied += len(published)
        plan.counts.updated += len(updated)

    def _stage(self, plan: Plan) -> set[str]:
        copies = {digest: (one.texts, one.times) for digest, one in plan.copies.items()}
        staged = self._target._stage(copies) if copies else set()
        plan.counts.skipped += len(copies) - len(staged)
        return staged

    def _replace(self, plan: Plan) -> set[str]:
        replacements = {}
        for digest, original in plan.updates.items():
            found = plan.found[digest]
            times = mapping.merged_times(found.times, original.times, found.times)
            replacements[digest] = (found, original.texts, times)
        replaced = self._target._replace_many(replacements) if replacements else set()
        plan.counts.skipped += len(replacements) - len(replaced)
        return replaced

    # Remembering.

    def _rows(self) -> Any:
        return self._memory.objects.using(self._using)

    def _remember(
        self, plan: Plan, done: Mapping[str, Original], begun: Mapping[str, Original] | None = None
    ) -> None:
        """Remember what the new engine has, and what it is about to have."""
        rows = [self._row(original, plan) for original in done.values()]
        for digest, original in (begun or {}).items():
            row, known = self._row(original, plan), plan.known.get(digest)
            row.pending = row.content
            if known is not None:
                row.source, row.content = known.source, known.content
            rows.append(row)
        with transaction.atomic(using=self._using, savepoint=False):
            # Beginning with a write: SQLite lets no transaction write that read before others did.
            seen = self._rows().filter(digest__in=list(plan.known), seen__lte=self._now)
            seen.update(origin=self._origin, target=self._into, seen=self._now, pending="")
            self._rows().filter(digest__in=[row.digest for row in rows])._raw_delete(self._using)
            self._rows().bulk_create(rows)

    def _row(self, original: Original, plan: Plan) -> MigratedSession:
        """Return what to remember of a session once the new engine has it."""
        known = plan.known.get(original.digest)
        accessed = original.times.accessed
        if known is not None:
            is_written = original.digest not in plan.as_they_are
            # What a cache's expiry tells of the last access may go back a little.
            accessed = max(accessed, known.accessed) if is_written else known.accessed
        row: MigratedSession = self._memory(
            digest=original.digest,
            origin=self._origin,
            target=self._into,
            source=original.source,
            content=fingerprint(original.texts),
            accessed=accessed,
            seen=self._now,
        )
        return row

    # What the old engine no longer has.

    def _gone(self) -> Iterator[list[MigratedSession]]:
        there = Q(target__in=("", self._into), origin=self._origin)
        back = Q(target=self._origin, origin=self._into)
        rows = self._rows().filter(there | back, seen__lt=self._now).order_by("digest")
        page = list(rows[:BATCH])
        while page:
            yield [row for row in page if row.digest not in self._seen]
            page = list(rows.filter(digest__gt=page[-1].digest)[:BATCH])

    def _end(self, rows: list[MigratedSession]) -> None:
        """End the copies that nobody used, and forget them all."""
        digests = [row.digest for row in rows]
        found = self._target._read_many(digests)
        unused = {
            row.digest: found[row.digest]
            for row in rows
            if row.digest in found and _is_unused(found[row.digest], row)
        }
        ended = len(unused)
        if not self._dry_run:
            with self._transaction() if self._target.is_transactional else ExitStack():
                ended = len(self._target._remove_many(unused))
                self._rows().filter(digest__in=digests)._raw_delete(self._using)
        self.counts.ended += ended


def _is_unused(stored: StoredData, row: MigratedSession) -> bool:
    return stored.times.accessed <= row.accessed and is_as_written(stored, row)


def _batches(sessions: Iterable[StoredSession]) -> Iterator[list[StoredSession]]:
    batch: list[StoredSession] = []
    size = 0
    for stored in sessions:
        batch.append(stored)
        size += stored.size
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
