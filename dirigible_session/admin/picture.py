"""The picture of a histogram: where its bars stand in an SVG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dirigible_session.inspection.histogram import Histogram

from .rows import local

#: Of the picture, in its own units. It is scaled to the page.
WIDTH = 600
HEIGHT = 120
GAP = 2
#: Of so few bars or fewer, each is no wider than if there were so many.
FEWEST = 20


@dataclass(frozen=True)
class Bar:
    """A bar, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    start: datetime | None
    end: datetime | None
    count: int


@dataclass(frozen=True)
class Picture:
    """A histogram as the template draws it, and says it in a table."""

    #: In the page, to name the parts of the picture by.
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
        """Return where the first bar begins."""
        return local(self.histogram.buckets[0].start)

    @property
    def end(self) -> datetime | None:
        """Return where the last bar ends."""
        return local(self.histogram.buckets[-1].end)

    def bars(self) -> Iterator[Bar]:
        """Give the bars; one that stands for any session at all can be seen."""
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
