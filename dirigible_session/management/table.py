"""A table for people: a line a session, as wide as the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django_rich.management import RichCommand
from rich.cells import cell_len, set_cell_size
from rich.style import Style

from dirigible_session.inspection import SessionRecord, Summary
from dirigible_session.inspection import display as texts

GAP = "  "

#: As wide as the attributes get where no terminal sets a limit.
WIDEST_ATTRIBUTES = 200
NARROWEST_ATTRIBUTES = 24

#: Of the names of attributes in a summary.
LONGEST_NAME = 30
MOST_NAMES = 20

#: Of a terminal that does not say how wide it is.
DEFAULT_WIDTH = 80

HEADING = Style(bold=True)
STYLES = {
    "active": Style(color="green"),
    "expired": Style(dim=True),
    "unreadable": Style(color="red"),
}


@dataclass(frozen=True)
class Column:
    """A column of the table; one of a higher rank is left out earlier where it gets narrow."""

    title: str
    width: int
    rank: int
    cell: Callable[[SessionRecord, datetime], str]


def _user(record: SessionRecord, now: datetime) -> str:
    if record.user_id is None:
        return ""
    return texts.harmless(record.username or f"#{record.user_id}")


COLUMNS = (
    Column("HANDLE", 12, 0, lambda record, now: record.handle),
    Column("STATE", 10, 0, lambda record, now: record.state),
    Column("USER", 16, 0, _user),
    Column("CREATED", 10, 4, lambda record, now: texts.ago(record.created, now)),
    Column("ACCESSED", 10, 2, lambda record, now: texts.ago(record.last_accessed, now)),
    Column("EXPIRES", 10, 3, lambda record, now: _expires(record, now)),
    Column("SIZE", 8, 5, lambda record, now: texts.in_bytes(record.size)),
)
KEY_COLUMN = Column("SESSION KEY", 32, 0, lambda record, now: _key(record))


def _key(record: SessionRecord) -> str:
    return texts.harmless(record.session_key or "")


def _expires(record: SessionRecord, now: datetime) -> str:
    interval = record.max_inactive_interval
    if record.expires is None and interval is not None and interval <= 0:
        return "never"
    return texts.ago(record.expires, now)


class Table:
    """Lays lines out, for one width."""

    def __init__(
        self,
        *,
        now: datetime,
        reveal: bool = False,
        width: int | None = None,
        is_coloured: bool = False,
    ) -> None:
        """``width`` is that of the terminal, None where there is none."""
        self._is_coloured = is_coloured
        self._now = now
        self._reveal = reveal
        columns: tuple[Column, ...] = (*COLUMNS, KEY_COLUMN) if reveal else COLUMNS
        while width is not None and _taken(columns) + NARROWEST_ATTRIBUTES > width:
            least = max(columns, key=lambda column: column.rank)
            if least.rank == 0:
                break
            columns = tuple(column for column in columns if column is not least)
        self._columns = columns
        # What is to be revealed is not cut.
        self._width = None if reveal else width
        self._attributes = WIDEST_ATTRIBUTES if width is None else max(width - _taken(columns), 0)
        if reveal:
            self._attributes = sys.maxsize

    @classmethod
    def on_stdout(cls, command: RichCommand, *, now: datetime, reveal: bool = False) -> Table:
        """Return a table for the stdout of a command, coloured where that can show colours."""
        console = command.console
        return cls(
            now=now,
            reveal=reveal,
            width=_terminal_width(is_terminal=command.stdout.isatty()),
            is_coloured=console.color_system is not None and not console.no_color,
        )

    def lines(self, records: Iterable[SessionRecord]) -> Iterator[str]:
        """Give a line for the titles, if there is a session, and a line for each session."""
        is_first = True
        for record in records:
            if is_first:
                yield self._heading()
                is_first = False
            yield self._line(record)

    def _heading(self) -> str:
        cells = [(column.title, column.width) for column in self._columns]
        return self._rendered(cells, "ATTRIBUTES", HEADING)

    def _line(self, record: SessionRecord) -> str:
        cells = [(column.cell(record, self._now), column.width) for column in self._columns]
        attributes = texts.harmless(record.error) or texts.attributes_in_short(
            record.attributes, self._attributes
        )
        return self._rendered(cells, attributes, STYLES[record.state])

    def _rendered(self, cells: list[tuple[str, int]], rest: str, style: Style) -> str:
        shown = GAP.join(_fitted(text, width) for text, width in cells) + GAP + rest
        if self._width is not None and cell_len(shown) > self._width:
            shown = set_cell_size(shown, self._width)
        shown = shown.rstrip()
        return (style.render(shown) if self._is_coloured else shown) + "\n"


def _terminal_width(*, is_terminal: bool) -> int | None:
    """Return how wide a table may be; None where no terminal sets a limit."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return (shutil.get_terminal_size().columns or DEFAULT_WIDTH) if is_terminal else None


def _taken(columns: Iterable[Column]) -> int:
    return sum(column.width + len(GAP) for column in columns)


def _fitted(text: str, width: int) -> str:
    """Return ``text`` in as many cells of the terminal as ``width`` says."""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def summary_lines(summary: Summary, now: datetime) -> str:
    """Return a summary, a count a line, and the most frequent names of attributes."""
    counts = (
        ("active", str(summary.active)),
        ("expired", str(summary.expired)),
        ("unreadable", str(summary.unreadable)),
        ("authenticated", str(summary.authenticated)),
        ("anonymous", str(summary.anonymous)),
        ("users", str(summary.users)),
        ("bytes", str(summary.bytes)),
        ("largest", texts.in_bytes(summary.largest)),
        ("oldest", texts.ago(summary.oldest, now, unknown="unknown")),
        ("attributes", str(len(summary.attributes))),
    )
    names = (
        (f"  {texts.shortened(name, LONGEST_NAME)}", str(count))
        for name, count in islice(summary.attributes.items(), MOST_NAMES)
    )
    return "".join(
        f"{_fitted(name, LONGEST_NAME)}{GAP}{count}\n" for name, count in [*counts, *names]
    )
