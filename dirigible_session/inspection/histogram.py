"""How many sessions were created, or last accessed, when."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone

from dirigible_session.lifecycle import is_seconds

#: The maximum number of buckets in a histogram.
MOST_BUCKETS = 40

_MINUTE, _HOUR, _DAY = 60, 60 * 60, 24 * 60 * 60
#: The widths that a bucket may have, in seconds: each is a multiple of the one before.
WIDTHS = (
    *(_MINUTE, 5 * _MINUTE, 15 * _MINUTE),
    *(_HOUR, 3 * _HOUR, 6 * _HOUR),
    *(_DAY, 7 * _DAY, 28 * _DAY, 364 * _DAY, 3640 * _DAY),
)


@dataclass(frozen=True)
class Bucket:
    """A span of time and how many moments are in it."""

    #: In UTC; ``end`` is that of the next bucket's start.
    start: datetime
    end: datetime
    count: int


@dataclass(frozen=True)
class Histogram:
    """Buckets of equal width without gaps, the earliest first; none if no moment is known."""

    buckets: tuple[Bucket, ...] = ()
    #: How many moments are unknown, or can't be true.
    unknown: int = 0


class Tally:
    """Counts moments in one pass and bounded memory: buckets are merged as the span grows."""

    def __init__(self, now: float) -> None:
        """Moments that are more than a day after ``now`` count as unknown."""
        self._latest = now + _DAY
        self._widths = iter(WIDTHS)
        self._width = next(self._widths)
        self._counts: Counter[int] = Counter()
        self._unknown = 0

    def add(self, moment: float | None) -> None:
        """Count a moment, in seconds since the epoch; None: it is unknown."""
        if not is_seconds(moment) or not 0 <= moment <= self._latest:
            self._unknown += 1
            return
        place = int(moment // self._width)
        is_new = place not in self._counts
        self._counts[place] += 1
        while is_new and max(self._counts) - min(self._counts) >= MOST_BUCKETS:
            width = next(self._widths)
            merged: Counter[int] = Counter()
            for place, count in self._counts.items():
                merged[place * self._width // width] += count
            self._counts, self._width = merged, width

    def histogram(self) -> Histogram:
        """Return the counts as a histogram."""
        if not self._counts:
            return Histogram((), self._unknown)
        places = range(min(self._counts), max(self._counts) + 1)
        buckets = (
            Bucket(self._moment(place), self._moment(place + 1), self._counts[place])
            for place in places
        )
        return Histogram(tuple(buckets), self._unknown)

    def _moment(self, place: int) -> datetime:
        return datetime.fromtimestamp(place * self._width, timezone.utc)
