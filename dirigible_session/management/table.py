"""A table for people: a line for each session, as wide as the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from dirigible_session.inspection import SessionRecord, Summary, display
from dirigible_session.inspection.histogram import Histogram

from .cells import cut, fitted, width_of

GAP = "  "

#: The width of the attributes without a terminal.
WIDEST_ATTRIBUTES = 200
NARROWEST_ATTRIBUTES = 24

#: The number, and the bytes, of the first sessions, which decide the width of the user column.
LOOKED_AT = 100
LOOKED_AT_BYTES = 1_000_000
WIDEST_USER = 40

#: The limits of attribute names in a summary: their length and their number.
LONGEST_NAME = 30
MOST_NAMES = 20

#: The maximum width of a bar in a histogram.
WIDEST_BAR = 50

#: The codes that set a colour, or another style, on a terminal.
HEADING = "1"
STYLES = {"active": "32", "expired": "2", "unreadable": "31"}


@dataclass(frozen=True)
class Column:
    """A column of the table. On a narrow terminal, columns of a higher rank are dropped first."""

    title: str
    width: int
    rank: int
    cell: Callable[[SessionRecord, datetime], str]


def _user(record: SessionRecord, now: datetime) -> str:
    if record.user_id is None:
        return ""
    return display.harmless(record.username or f"#{record.user_id}")


def _expires(record: SessionRecord, now: datetime) -> str:
    interval = record.max_inactive_interval
    if record.expires is None and interval is not None and interval <= 0:
        return "never"
    return display.ago(record.expires, now, to_nearest=True)


USER = Column("USER", 16, 0, _user)
COLUMNS = (
    Column("HANDLE", 12, 0, lambda record, now: record.handle),
    Column("STATE", 10, 0, lambda record, now: record.state),
    USER,
    Column("CREATED", 10, 4, lambda record, now: display.ago(record.created, now)),
    Column("ACCESSED", 10, 2, lambda record, now: display.ago(record.last_accessed, now)),
    Column("EXPIRES", 10, 3, _expires),
    Column("SIZE", 8, 5, lambda record, now: display.in_bytes(record.size)),
)
KEY = Column("SESSION KEY", 32, 0, lambda record, now: display.harmless(record.session_key or ""))


class Table:
    """Lays out lines."""

    def __init__(
        self,
        *,
        now: datetime,
        reveal: bool = False,
        width: int | None = None,
        is_coloured: bool = False,
    ) -> None:
        """``width`` is that of the terminal; None without a terminal."""
        self._now = now
        self._is_coloured = is_coloured
        # Revealed values are not cut.
        self._is_cut = width is not None and not reveal
        columns: tuple[Column, ...] = (*COLUMNS, KEY) if reveal else COLUMNS
        while width is not None and _taken(columns) + NARROWEST_ATTRIBUTES > width:
            least = max(columns, key=lambda column: column.rank)
            if least.rank == 0:
                break
            columns = tuple(column for column in columns if column is not least)
        self._columns = columns
        self._width = WIDEST_ATTRIBUTES + _taken(columns) if width is None else width
        if reveal:
            self._width = sys.maxsize

    def lines(self, records: Iterable[SessionRecord]) -> Iterator[str]:
        """Yield a line of titles, if there are sessions, and a line for each session."""
        remaining = iter(records)
        first: list[SessionRecord] = []
        for record in remaining:
            first.append(record)
            if len(first) == LOOKED_AT or sum(one.size for one in first) > LOOKED_AT_BYTES:
                break
        if not first:
            return
        self._fit_users(first)
        yield self._rendered((column.title for column in self._columns), "ATTRIBUTES", HEADING)
        while first:
            yield self._line(first.pop(0))
        for record in remaining:
            yield self._line(record)

    def _fit_users(self, records: list[SessionRecord]) -> None:
        """Widen the column of users for their names, if there is room."""
        longest = max(width_of(_user(record, self._now)) for record in records)
        room = self._width - _taken(self._columns) - NARROWEST_ATTRIBUTES
        width = min(longest, WIDEST_USER, USER.width + max(room, 0))
        self._columns = tuple(
            replace(column, width=max(width, USER.width)) if column is USER else column
            for column in self._columns
        )

    def _line(self, record: SessionRecord) -> str:
        cells = (column.cell(record, self._now) for column in self._columns)
        room = max(self._width - _taken(self._columns), 0)
        attributes = display.harmless(record.error) or display.attributes_in_short(
            record.attributes, room
        )
        return self._rendered(cells, attributes, STYLES[record.state])

    def _rendered(self, cells: Iterable[str], rest: str, style: str) -> str:
        columns = (
            fitted(cell, column.width) for cell, column in zip(cells, self._columns, strict=True)
        )
        line = (GAP.join(columns) + GAP + rest).rstrip()
        if self._is_cut:
            line = cut(line, self._width)
        return f"\x1b[{style}m{line}\x1b[0m\n" if self._is_coloured else f"{line}\n"


def _taken(columns: Iterable[Column]) -> int:
    return sum(column.width + len(GAP) for column in columns)


def summary_lines(summary: Summary, now: datetime) -> str:
    """Return a summary, a count on each line, and the most frequent names of attributes."""
    counts = (
        ("active", str(summary.active)),
        ("expired", str(summary.expired)),
        ("unreadable", str(summary.unreadable)),
        ("authenticated", str(summary.authenticated)),
        ("anonymous", str(summary.anonymous)),
        ("users", str(summary.users)),
        ("bytes", str(summary.bytes)),
        ("largest", display.in_bytes(summary.largest)),
        ("oldest", display.ago(summary.oldest, now, unknown="unknown")),
        ("attributes", str(len(summary.attributes))),
    )
    names = (
        (f"  {display.shortened(name, LONGEST_NAME)}", str(count))
        for name, count in islice(summary.attributes.items(), MOST_NAMES)
    )
    return "".join(
        f"{fitted(name, LONGEST_NAME)}{GAP}{count}\n" for name, count in [*counts, *names]
    )


def histogram_lines(title: str, histogram: Histogram, *, width: int, block: str) -> Iterator[str]:
    """Give a histogram as bars of ``block``, a line for each bucket, in ``width`` cells."""
    buckets = histogram.buckets
    if not buckets:
        return
    yield f"\n{title} (UTC)\n"
    starts = [f"{bucket.start:%Y-%m-%d %H:%M}" for bucket in buckets]
    if all(start.endswith(" 00:00") for start in starts):
        starts = [start.removesuffix(" 00:00") for start in starts]
    most = max(bucket.count for bucket in buckets)
    longest = min(width - len(starts[0]) - 2 * len(GAP) - len(str(most)), WIDEST_BAR)
    for start, bucket in zip(starts, buckets, strict=True):
        # A bucket that holds one session among thousands is not empty.
        length = max(bucket.count * max(longest, 1) // most, bucket.count > 0)
        yield (
            f"{start}{GAP}{block * length}{GAP if length else ''}{bucket.count or ''}".rstrip()
            + "\n"
        )
    if histogram.unknown:
        yield f"{'unknown':<{len(starts[0])}}{GAP}{histogram.unknown}\n"
