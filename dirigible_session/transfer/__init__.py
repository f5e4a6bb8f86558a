"""Copying the live sessions of one engine into another, one of this package.

It can be stopped at any moment and run again, and it is meant to be: once before the site changes
engines, to copy most sessions, and again right after, to copy the rest. What it copied it
remembers in :class:`~dirigible_session.models.MigratedSession`. A session that the new engine wrote
or ended is no longer what was copied, and is left alone from then on. A copy that nobody used is
ended when its original was.

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
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, router, transaction
from django.db.models import Q

from dirigible_session.backends import mapping
from dirigible_session.backends.base import EngineBase
from dirigible_session.inspection import Inspector
from dirigible_session.inspection.errors import InspectionError, StoreFailed
from dirigible_session.inspection.records import Reporter
from dirigible_session.inspection.serializers import unknown_serializer_of
from dirigible_session.stored import Query, StoredSession, in_batches

from .plan import Counts, Original, Plan, fingerprint, is_as_written

if TYPE_CHECKING:
    from dirigible_session.backends.operations import StoredData
    from dirigible_session.models import MigratedSession

#: So many sessions, or so many bytes of them as stored, are copied together.
BATCH = 100
BATCH_BYTES = 1_000_000
#: Seconds that Redis keeps a copy once it is over.
GRACE = 7 * 24 * 60 * 60
#: Seconds to wait for a SQLite database that another process has locked, and between two tries.
PATIENCE = 60.0
PAUSE = 1.0
#: What is raised for a session that JSON can't hold: a type, a value, a number too large, a depth.
UNFIT = (TypeError, ValueError, OverflowError, RecursionError)

Watch = Callable[[Iterable[StoredSession]], Iterable[StoredSession]]


class MayBeEncrypted(InspectionError):
    """The old engine stores sessions in a way that is neither Django's JSON nor pickle."""


class Patience:
    """A context manager that waits if SQLite's database is locked; then enter it again.

    Other databases wait by themselves.
    """

    def __init__(self, wait: Callable[[float], None]) -> None:
        self._wait = wait
        #: Seconds. When it is PATIENCE, the error is raised.
        self.waited = 0.0

    def __enter__(self) -> None:
        """Try."""

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        """Wait, and return whether it is worth another try."""
        is_lock = isinstance(error, (OperationalError, StoreFailed)) and "is locked" in str(error)
        if not is_lock or self.waited >= PATIENCE:
            return False
        self._wait(PAUSE)
        self.waited += PAUSE
        return True


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
        from dirigible_session.models import MigratedSession

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
        store_class = self.inspector.store_class
        self._cookie_age = store_class().get_session_cookie_age()
        is_plain = plain or issubclass(store_class, EngineBase)
        serializer = None if is_plain else unknown_serializer_of(store_class)
        if serializer is not None:
            raise MayBeEncrypted(
                f"{serializer} is neither Django's JSON serializer nor pickle, so the sessions of "
                f"{origin} may be encrypted. {self._into} stores plain JSON: nothing was copied. "
                "To copy them in plain text, use --plain."
            )

    def run(self, watch: Watch = iter) -> None:
        """Copy all sessions that are to be copied; ``watch`` is given them and passes them on."""
        for batch in in_batches(watch(self._live()), BATCH, BATCH_BYTES):
            self._patiently(self._copy, batch)
        # Only now that the old engine was read to its end, what it no longer has is known.
        for rows in self._gone():
            self._patiently(self._end, rows)

    def _live(self) -> Iterator[StoredSession]:
        """Walk the sessions of the old engine that are not over."""
        reporter = Reporter(cookie_age=self._cookie_age, now=self._now)
        query = Query(now=self._now, state="active")
        patience = Patience(self._wait)
        while True:
            with patience:
                for stored in self.inspector.stored(query):
                    patience.waited, query = 0.0, replace(query, after=stored.position or None)
                    if reporter.judge(stored).state != "expired":
                        yield stored
                return

    def _patiently(self, work: Callable[[Any], None], batch: Any) -> None:
        patience = Patience(self._wait)
        while True:
            with patience:
                return work(batch)

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
        self.refusals += plan.refusals

    def _planned(self, batch: list[StoredSession]) -> Plan:
        # Redis may give one twice.
        there = {stored.digest: stored for stored in batch if stored.digest not in self._seen}
        rows = self._rows().in_bulk(list(there))
        plan = Plan(known={digest: row for digest, row in rows.items() if self._is_of_use(row)})
        changed = []
        for original in filter(None, [self._original(one, plan) for one in there.values()]):
            row = plan.known.get(original.digest)
            if row is None or row.source != original.source or row.pending:
                changed.append(original)
            elif row.seen < self._now:
                plan.counts.unchanged += 1
        plan.found = self._found([original.digest for original in changed], plan.known)
        for original in changed:
            plan.add(original)
        return plan

    def _original(self, stored: StoredSession, plan: Plan) -> Original | None:
        """Return the session as it would be copied; None if it can't be, or is over."""
        if stored.state == "unreadable":
            plan.counts.unreadable += 1
            return None
        try:
            original = Original.of(stored, cookie_age=self._cookie_age, now=self._now)
            end = self._target.end_of(stored.data or {}, original.times)
        except UNFIT as error:
            plan.refusals.append((stored.digest, str(error)))
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
        if not staged and not plan.updates:
            return
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
