"""The plan for a batch of sessions, which :class:`~.Transfer` carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from dirigible_session.backends import mapping
from dirigible_session.backends.mapping import Texts
from dirigible_session.handles import DIGEST_SIZE
from dirigible_session.lifecycle import EXPIRY_KEY, TIMES_KEY, Times, fixed_end
from dirigible_session.stored import StoredSession

if TYPE_CHECKING:
    from dirigible_session.backends.operations import StoredData
    from dirigible_session.models import MigratedSession

#: The last access that is derived from the expiry in a cache varies by some seconds.
JITTER = 5


@dataclass
class Counts:
    """Counts of the sessions by the result."""

    copied: int = 0
    #: Changed in the old engine since they were copied, and copied again.
    updated: int = 0
    #: Unused copies whose originals were ended.
    ended: int = 0
    #: Unchanged since they were copied.
    unchanged: int = 0
    #: Written or ended by the new engine since they were copied, or not copied from the old one.
    skipped: int = 0
    unreadable: int = 0

    def add(self, other: Counts) -> None:
        """Add other counts to these."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True)
class Original:
    """A session of the old engine as the new one would store it."""

    digest: str
    texts: Texts
    times: Times
    source: str

    @classmethod
    def of(cls, stored: StoredSession, *, cookie_age: int, now: float) -> Original:
        """Return the original. Raises one of UNFIT if JSON can't represent it."""
        data = {name: value for name, value in (stored.data or {}).items() if name != TIMES_KEY}
        texts = mapping.to_texts(data)
        times = stored.times
        if times is None:
            # It was last accessed when its expiry was last calculated.
            interval = None if fixed_end(data) else data.get(EXPIRY_KEY) or cookie_age
            known = stored.expires is not None and interval is not None
            seen = min(now, stored.expires - interval) if known else now  # type: ignore[operator]
            times = Times(seen, seen)
        calculated = "" if stored.expires is None else str(round(stored.expires))
        if stored.times is not None:
            calculated = repr(stored.times)
        return cls(stored.digest, texts, times, fingerprint(texts, calculated))


def fingerprint(texts: Texts, times: str = "") -> str:
    """Return a digest of the attributes and times."""
    whole = mapping.to_document(texts) + times
    return blake2b(whole.encode(), digest_size=DIGEST_SIZE).hexdigest()


@dataclass
class Plan:
    """The sessions of a batch, by what to do with them."""

    copies: dict[str, Original] = field(default_factory=dict)
    updates: dict[str, Original] = field(default_factory=dict)
    #: Equal sessions in the new engine that the memory does not have correctly.
    as_they_are: dict[str, Original] = field(default_factory=dict)
    #: The rows of the memory and the sessions of the new engine, by digest.
    known: Mapping[str, MigratedSession] = field(default_factory=dict)
    found: Mapping[str, StoredData] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    #: The digests of sessions that JSON can't represent, with the reasons.
    refusals: list[tuple[str, str]] = field(default_factory=list)

    def add(self, original: Original) -> None:
        """Decide what to do with a session."""
        row, stored = self.known.get(original.digest), self.found.get(original.digest)
        if stored is None:
            if row is None:
                self.copies[original.digest] = original
            else:
                # The new engine has ended it.
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
    """Return whether the session in the new engine still equals its copy."""
    return fingerprint(stored.texts) in (row.content, row.pending)
