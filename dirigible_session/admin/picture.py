"""The SVG picture of a histogram: the positions of its bars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dirigible_session.inspection.histogram import Histogram

from .rows import local

#: In units of the picture, which is scaled to the page.
WIDTH = 600
HEIGHT = 120
GAP = 2
#: With fewer bars, each is as wide as if there were this many.
FEWEST = 20


@dataclass(frozen=True)
class Bar:
    """A bar: its place in the picture, and its time span and count."""

    x: float
    y: float
    width: float
    height: float
    start: datetime | None
    end: datetime | None
    count: int


@dataclass(frozen=True)
class Picture:
    """A histogram, for the template to draw, and to repeat as a table."""

    #: The prefix of the ids of its HTML elements.
    id: str
    title: Any
    histogram: Histogram

    width = WIDTH
    height = HEIGHT

    @property
    def highest(self) -> int:
        """Return the count of the highest bar."""
        return max((bucket.count for bucket in self.histogram.buckets), default=0)

    @property
    def start(self) -> datetime | None:
        """Return the time at which the first bar begins."""
        return local(self.histogram.buckets[0].start)

    @property
    def end(self) -> datetime | None:
        """Return the time at which the last bar ends."""
        return local(self.histogram.buckets[-1].end)

    def bars(self) -> Iterator[Bar]:
        """Iterate over the bars. A bar with a count above 0 is high enough to be seen."""
        buckets = self.histogram.buckets
        step = WIDTH / max(len(buckets), FEWEST)
        for number, bucket in enumerate(buckets):
            height = max(HEIGHT * bucket.count / self.highest, 1) if bucket.count else 0
            yield Bar(
                x=round(number * step + GAP / 2, 2),
                y=round(HEIGHT - height, 2),
                width=round(step - GAP, 2),
                height=round(height, 2),
                start=local(bucket.start),
                end=local(bucket.end),
                count=bucket.count,
            )
