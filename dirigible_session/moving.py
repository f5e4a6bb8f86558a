"""Taking the live sessions of one engine over into another, one of ours.

It can be stopped at any moment and run again, and it is meant to be: before the site changes
engines, to take over most, and right after, to take over the rest. What it copied it remembers in
:class:`~.models.MigratedSession`. A session that the new engine wrote, or ended, is the new
engine's from then on: it is told by that it is no longer what was copied. A copy that nobody used
is ended when its original was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import router, transaction

from .backends import mapping
from .backends.base import EngineBase, Query, StoredSession
from .backends.mapping import Texts
from .handles import DIGEST_SIZE
from .inspection import Inspector
from .inspection.reporting import Judged, Reporter
from .lifecycle import EXPIRY_KEY, TIMES_KEY, Times, fixed_end

if TYPE_CHECKING:
    from .models import MigratedSession

#: Sessions that are copied in one transaction.
BATCH = 100
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
    #: The new engine wrote or ended them since.
    left: int = 0
    #: Their originals were ended, and nobody had used the copies.
    ended: int = 0
    unreadable: int = 0
    #: They hold what JSON can't.
    refused: int = 0


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
        self._now = now
        self._inspector = Inspector(origin)
        store = self._inspector.store_class()
        self._cookie_age = store.get_session_cookie_age()
        self._reporter = Reporter(store, now=now, reveal=False)
        self._memory: Any = MigratedSession.objects
        self._using = router.db_for_write(MigratedSession)

    def run(self) -> None:
        """Take over all that is there to take over."""
        stored = self._inspector.stored(Query(now=self._now, state="active"))
        judged = map(self._reporter.judged, stored)
        for batch in _batches(one for one in judged if one.state != "expired"):
            self._take_over(batch)
        # Only now that the old engine was walked to its end is it known what it no longer has.
        gone = self._memory.using(self._using).filter(origin=self._origin, seen__lt=self._now)
        for batch_gone in _batches(gone.order_by("digest").iterator()):
            self._let_go(batch_gone)

    def _take_over(self, batch: list[Judged]) -> None:
        with transaction.atomic(using=self._using):
            digests = [judged.stored.digest for judged in batch]
            memory = self._memory.using(self._using)
            known = memory.select_for_update().in_bulk(digests)
            # A table may be named by another path each time: it is the last one that counts.
            memory.filter(digest__in=digests, seen__lte=self._now).update(
                seen=self._now, origin=self._origin
            )
            for judged in batch:
                original = self._original(judged)
                if original is not None:
                    self._take(original, known.get(original.digest))

    def _original(self, judged: Judged) -> Original | None:
        stored = judged.stored
        if judged.state == "unreadable":
            self.counts.unreadable += 1
            return None
        try:
            original = Original.of(stored, cookie_age=self._cookie_age, now=self._now)
            end = self._target.end_of(stored.data or {}, original.times)
        except UNFIT as error:
            self.counts.refused += 1
            self.refusals.append((stored.digest, str(error)))
            return None
        # Times that had to be reckoned may be over by a limit that the old engine can't apply.
        return None if end is not None and end <= self._now else original

    def _take(self, original: Original, known: MigratedSession | None) -> None:
        if known is not None and known.source == original.source:
            self.counts.unchanged += 1
        elif known is not None:
            self._take_again(original, known)
        elif self._target._insert(original.digest, original.texts, original.times) is not None:
            self.counts.copied += 1
            self._remember(original)
        else:
            # The new engine has it, and nobody remembers how: it is the new engine's.
            self.counts.left += 1

    def _take_again(self, original: Original, known: MigratedSession) -> None:
        found = self._target._read(original.digest)
        if found is None or fingerprint(found.texts) != known.content:
            self.counts.left += 1
            return
        is_as_copied = fingerprint(original.texts) == known.content
        if is_as_copied and original.times.accessed - known.accessed < JITTER:
            self.counts.unchanged += 1
            return
        times = mapping.merged_times(found.times, original.times, found.times)
        if self._target._replace(original.digest, found, original.texts, times):
            self.counts.renewed += 1
            self._remember(original)
        else:
            self.counts.left += 1

    def _remember(self, original: Original) -> None:
        self._memory.using(self._using).update_or_create(
            digest=original.digest,
            defaults={
                "origin": self._origin,
                "source": original.source,
                "content": fingerprint(original.texts),
                "accessed": original.times.accessed,
                "seen": self._now,
            },
        )

    def _let_go(self, batch: list[MigratedSession]) -> None:
        """Forget what the old engine no longer has; end the copies that nobody used."""
        with transaction.atomic(using=self._using):
            for known in batch:
                found = self._target._read(known.digest)
                if found is not None and _is_untouched(found, known):
                    self._target._remove(known.digest)
                    self.counts.ended += 1
            digests = [known.digest for known in batch]
            self._memory.using(self._using).filter(digest__in=digests).delete()


def _is_untouched(found: Any, known: MigratedSession) -> bool:
    return bool(
        found.times.accessed <= known.accessed and fingerprint(found.texts) == known.content
    )


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
