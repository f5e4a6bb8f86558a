"""``manage.py sessions_dump``: shows stored sessions and their data."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from typing import Any, TypeVar

from dirigible_session.inspection import (
    Inspector,
    Selection,
    SessionRecord,
    Summary,
    display,
    formats,
)
from dirigible_session.management import options as shared
from dirigible_session.management.base import DEFAULT_WIDTH, SessionCommand
from dirigible_session.management.output import encodes, write_out, written_file
from dirigible_session.management.progress import with_progress
from dirigible_session.management.table import Table, histogram_lines, summary_lines

T = TypeVar("T")

FORMATS = ("table", "json", "jsonl", "csv")
READING = "Reading sessions"


class Command(SessionCommand):
    """Shows stored sessions."""

    help = "Shows stored sessions: whose they are, how old, and what they hold."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--format",
            default="table",
            metavar="{" + ",".join(FORMATS) + "}",
            help="Default: table.",
        )
        parser.add_argument(
            "--output",
            metavar="FILE",
            help="Write to a file, which appears whole or not at all and is readable by its "
            "owner only.",
        )
        parser.add_argument(
            "--sort",
            metavar="{" + ",".join(shared.ORDERS) + "}",
            help="Most recent, or largest, first. Keeps as many sessions in memory as --limit "
            "says, or all.",
        )
        parser.add_argument(
            "--summary",
            action="store_true",
            help="Show counts instead of sessions, of all states.",
        )
        parser.add_argument(
            "--reveal", action="store_true", help="Show session keys and secret values in full."
        )
        shared.add_filters(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Show them."""
        if options["format"] not in FORMATS:
            raise shared.wrong_usage(
                f"--format {options['format']!r}: choose from {', '.join(FORMATS)}"
            )
        now = time.time()
        with shared.as_command_errors():
            filters = shared.chosen_filters(options)
            selection = shared.selection_from(filters, options["limit"], options["sort"])
            inspector = Inspector(options["engine"])
            if options["summary"]:
                self._show_summary(inspector, selection.of_all_states(), now, options)
            else:
                self._show_sessions(inspector, selection, now, options)

    def _show_summary(
        self, inspector: Inspector, selection: Selection, now: float, options: dict[str, Any]
    ) -> None:
        is_drawn = self.stderr.isatty() and (options["output"] or not self.stdout.isatty())

        def watch(sessions: Iterable[T]) -> Iterable[T]:
            return with_progress(READING, sessions, inspector.count(), self.stderr)

        summary = inspector.summary(selection, now=now, watch=watch if is_drawn else None)
        self._write(self._summary_lines(summary, now, options), options["output"])

    def _show_sessions(
        self, inspector: Inspector, selection: Selection, now: float, options: dict[str, Any]
    ) -> None:
        records = inspector.records(selection, reveal=options["reveal"], now=now)
        # A bar beside the sessions themselves would be drawn into a pager.
        if options["output"] is not None and self.stderr.isatty():
            records = with_progress(READING, records, inspector.count(), self.stderr)
        noted = Noted(records)
        # A walk that is broken off ends here, and not when Python ends.
        with closing(records):
            is_read = self._write(self._lines(noted, now, options), options["output"])
        if is_read:
            self._add_notes(noted, options)

    def _write(self, lines: Iterable[str], path: str | None) -> bool:
        if path is None:
            return write_out(self.stdout, lines)
        with written_file(path) as write:
            for line in lines:
                write(line)
        return True

    def _summary_lines(
        self, summary: Summary, now: float, options: dict[str, Any]
    ) -> Iterator[str]:
        if options["format"] != "table":
            yield formats.SUMMARY_FORMATS[options["format"]](summary)
            return
        yield summary_lines(summary, datetime.fromtimestamp(now, timezone.utc))
        if options["output"] is None and self.stdout.isatty():
            width, block = self.width or DEFAULT_WIDTH, "█" if encodes(self.stdout, "█") else "#"
            for title, histogram in (
                ("created", summary.created),
                ("last accessed", summary.last_accessed),
            ):
                yield from histogram_lines(title, histogram, width=width, block=block)

    def _lines(
        self, records: Iterable[SessionRecord], now: float, options: dict[str, Any]
    ) -> Iterator[str]:
        reveal = options["reveal"]
        if options["format"] != "table":
            yield from formats.FORMATS[options["format"]](records, reveal=reveal)
            return
        table = Table(now=datetime.fromtimestamp(now, timezone.utc), reveal=reveal)
        if options["output"] is None:
            table = self.table(now, reveal=reveal)
        yield from table.lines(records)

    def _add_notes(self, noted: Noted, options: dict[str, Any]) -> None:
        if options["verbosity"] == 0:
            return
        if options["format"] == "table" or options["output"] is not None:
            self.note(display.sessions(noted.count))
        for reason, count in noted.reasons.most_common():
            self.note(f"{count} unreadable: {display.harmless(reason)}")


class Noted:
    """Passes records on and counts them."""

    def __init__(self, records: Iterable[SessionRecord]) -> None:
        self._records = records
        self.count = 0
        #: Why sessions are unreadable.
        self.reasons: Counter[str] = Counter()

    def __iter__(self) -> Iterator[SessionRecord]:
        for record in self._records:
            self.count += 1
            if record.error:
                self.reasons[record.error] += 1
            yield record
