"""Copy the live sessions of an engine into another one, an engine of this package.

A run can be stopped at any moment and repeated. It is meant to run once before the site changes
engines, to copy most sessions, and again right after, to copy the rest. It remembers its copies in
:class:`~dirigible_session.models.MigratedSession`. If the new engine has written or ended a session
since, the session differs from its copy, and later runs leave it alone. An unused copy is ended
when its original was ended.

A row of the memory belongs to two engines, and is used between these two in either direction. If a
session is copied on to a third engine, the memory has its last copy only.

**Interruptions.** If the new engine keeps its sessions in a database, a batch is one transaction:
either the whole batch is copied and remembered, or nothing. (If the memory is in another database,
its transaction commits directly after.) A store such as Redis does not take part in transactions,
so

- a copy is first staged, hidden from requests. Then the memory has it as ``content``, and also as
  ``pending``, because it is not published yet. Then it is published, and ``pending`` is cleared.
  After an interruption, the next run publishes the staged copies. A pending copy that is neither
  staged nor published was published, and ended by the new engine.
- before a copy is replaced, the memory has the new content as ``pending``. After an interruption,
  the next run compares the session with ``pending`` (it was replaced) and ``content`` (it was not).
  If it equals neither, the new engine has written it.

The memory is written only after the new engine has responded, so no session is lost if the store
can't be reached. Ending a copy and forgetting it are two steps; repeating the first one is
harmless. A copy that expires unused stays stored, to tell it from a copy that was ended: in the
database until ``clearsessions``, in Redis for :data:`GRACE`.
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

#: The number of sessions in a batch, and the number of their bytes as stored.
BATCH = 100
BATCH_BYTES = 1_000_000
#: Seconds that Redis keeps an expired copy.
GRACE = 7 * 24 * 60 * 60
#: Seconds to wait in total for a locked SQLite database, and between two attempts.
PATIENCE = 60.0
PAUSE = 1.0
#: The errors for data that JSON can't represent: a type, a value, a large number, deep nesting.
UNFIT = (TypeError, ValueError, OverflowError, RecursionError)

Watch = Callable[[Iterable[StoredSession]], Iterable[StoredSession]]


class MayBeEncrypted(InspectionError):
    """The serializer of the old engine is neither Django's JSON nor pickle."""


class Patience:
    """A context manager that waits if a SQLite database is locked. Then enter it again.

    Other databases wait themselves.
    """

    def __init__(self, wait: Callable[[float], None]) -> None:
        self._wait = wait
        #: The seconds waited so far. After PATIENCE, the error is raised.
        self.waited = 0.0

    def __enter__(self) -> None:
        """Start an attempt."""

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        """Wait after a lock error, and return whether to try again."""
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
        """Copy from the engine with the path ``origin``; ``now`` is in seconds since the epoch.

        ``plain`` also copies sessions that may be encrypted in the old engine. ``dry_run`` only
        counts, with the digests of all sessions in memory. Raises InspectionError if the engine
        can't list its sessions, and MayBeEncrypted.
        """
        from dirigible_session.models import MigratedSession

        self.counts = Counts()
        #: The digests of sessions that JSON can't represent, with the reasons.
        self.refusals: list[tuple[str, str]] = []
        self.inspector = Inspector(origin)
        self._origin = origin
        self._target = target
        target.grace = GRACE
        self._into = type(target).__module__
        self._now = now
        self._dry_run = dry_run
        self._wait = wait
        #: In a dry run, the digests of the sessions read so far.
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
        """Copy the sessions. ``watch`` may wrap an iterable of them, to show the progress."""
        for batch in in_batches(watch(self._live()), BATCH, BATCH_BYTES):
            self._patiently(self._copy, batch)
        # All sessions of the old engine have been read, so those not seen are gone.
        there = Q(target__in=("", self._into), origin=self._origin)
        back = Q(target=self._origin, origin=self._into)
        rows = self._rows().filter(there | back, seen__lt=self._now).order_by("digest")
        page = list(rows[:BATCH])
        while page:
            self._patiently(self._end, [row for row in page if row.digest not in self._seen])
            page = list(rows.filter(digest__gt=page[-1].digest)[:BATCH])

    def _live(self) -> Iterator[StoredSession]:
        """Yield the live sessions of the old engine."""
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
        # Redis may list a session twice.
        there = {stored.digest: stored for stored in batch if stored.digest not in self._seen}
        rows = self._rows().in_bulk(list(there))
        plan = Plan(known={digest: row for digest, row in rows.items() if self._is_ours(row)})
        changed = []
        for original in filter(None, [self._original(stored, plan) for stored in there.values()]):
            row = plan.known.get(original.digest)
            if row is None or row.source != original.source or row.pending:
                changed.append(original)
            elif row.seen < self._now:
                plan.counts.unchanged += 1
        plan.found = self._found([original.digest for original in changed], plan.known)
        for original in changed:
            plan.add(original)
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

    def _original(self, stored: StoredSession, plan: Plan) -> Original | None:
        """Return the session as it would be copied; None if it is unreadable, unfit or expired."""
        if stored.state == "unreadable":
            plan.counts.unreadable += 1
            return None
        try:
            original = Original.of(stored, cookie_age=self._cookie_age, now=self._now)
            end = self._target.end_of(stored.data or {}, original.times)
        except UNFIT as error:
            plan.refusals.append((stored.digest, str(error)))
            return None
        # By the derived times it may have passed a limit that the old engine does not apply.
        return None if end is not None and end <= self._now else original

    def _is_ours(self, row: MigratedSession) -> bool:
        """Return whether the row belongs to these two engines."""
        if not row.target:
            # Version 1.0 stored the origin only.
            return row.origin in (self._origin, self._into)
        is_way_back = (row.origin, row.target) == (self._into, self._origin)
        return row.target == self._into or is_way_back

    def _found(
        self, digests: list[str], known: Mapping[str, MigratedSession]
    ) -> dict[str, StoredData]:
        """Return the sessions in the new engine, after publishing those that are still staged."""
        found = self._target._read_many(digests) if digests else {}
        staged = [d for d in digests if d in known and known[d].pending and d not in found]
        if staged and not self._dry_run:
            found |= self._target._read_many(self._target._publish(staged))
        return found

    def _transaction(self) -> ExitStack:
        stack = ExitStack()
        # The memory is entered first, so it commits last.
        stack.enter_context(transaction.atomic(using=self._using))
        model_class = getattr(self._target, "get_model_class", None)
        using = self._using if model_class is None else router.db_for_write(model_class())
        if using != self._using:
            stack.enter_context(transaction.atomic(using=using))
        return stack

    def _write(self, plan: Plan) -> None:
        """Carry out the plan in a transaction."""
        staged = self._stage(plan)
        updated = self._replace(plan)
        written = {d: plan.copies[d] for d in staged} | {d: plan.updates[d] for d in updated}
        self._remember(plan, written | plan.as_they_are)
        plan.counts.copied += len(staged)
        plan.counts.updated += len(updated)

    def _write_in_steps(self, plan: Plan) -> None:
        """Carry out the plan in a store without transactions."""
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
        """Remember the copies that are ``done``, and those that have ``begun``."""
        rows = [self._row(original, plan) for original in done.values()]
        for digest, original in (begun or {}).items():
            row, known = self._row(original, plan), plan.known.get(digest)
            row.pending = row.content
            if known is not None:
                row.source, row.content = known.source, known.content
            rows.append(row)
        with transaction.atomic(using=self._using, savepoint=False):
            # The write comes first: SQLite refuses a write after a read if others wrote meanwhile.
            seen = self._rows().filter(digest__in=list(plan.known), seen__lte=self._now)
            seen.update(origin=self._origin, target=self._into, seen=self._now, pending="")
            self._rows().filter(digest__in=[row.digest for row in rows])._raw_delete(self._using)
            self._rows().bulk_create(rows)

    def _row(self, original: Original, plan: Plan) -> MigratedSession:
        """Return the row that remembers a copy."""
        known = plan.known.get(original.digest)
        accessed = original.times.accessed
        if known is not None:
            is_written = original.digest not in plan.as_they_are
            # A last access that is derived from a cache's expiry varies a little.
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

    # Originals that are gone.

    def _end(self, rows: list[MigratedSession]) -> None:
        """End the unused copies, and forget them all."""
        digests = [row.digest for row in rows]
        found = self._target._read_many(digests)
        unused = {}
        for row in rows:
            copy = found.get(row.digest)
            is_unaccessed = copy is not None and copy.times.accessed <= row.accessed
            if copy is not None and is_unaccessed and is_as_written(copy, row):
                unused[row.digest] = copy
        ended = len(unused)
        if not self._dry_run:
            with self._transaction() if self._target.is_transactional else ExitStack():
                ended = len(self._target._remove_many(unused))
                self._rows().filter(digest__in=digests)._raw_delete(self._using)
        self.counts.ended += ended
