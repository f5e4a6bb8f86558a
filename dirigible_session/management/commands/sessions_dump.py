"""``manage.py sessions_dump``: who is there, and what their sessions hold."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import IO, Any, TypeVar, cast

from django_rich.management import RichCommand
from rich.console import Console
from rich.progress import track

from dirigible_session.inspection import Inspector, SessionRecord, Summary, formats
from dirigible_session.inspection import display as texts
from dirigible_session.management import options as shared
from dirigible_session.management.output import write_out, written_file
from dirigible_session.management.table import Table, summary_lines

T = TypeVar("T")

FORMATS = ("table", "json", "jsonl", "csv")


class Command(RichCommand):
    """Shows stored sessions."""

    help = "Shows stored sessions: whose they are, how old, and what they hold."
    # A look at a site that is not well must not be stopped by its being unwell.
    requires_system_checks: list[str] = []  # noqa: RUF012

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--format",
            default="table",
            metavar="{" + ",".join(FORMATS) + "}",
            help="table by default.",
        )
        parser.add_argument(
            "--output",
            metavar="FILE",
            help="to a file that appears whole or not at all, readable by its owner only.",
        )
        parser.add_argument(
            "--summary", action="store_true", help="counts instead of sessions, of all states."
        )
        parser.add_argument(
            "--reveal", action="store_true", help="session keys and secret values in full."
        )
        shared.add_filters(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Show them."""
        if options["format"] not in FORMATS:
            raise shared.wrong_usage(
                f"--format {options['format']!r}: choose from {', '.join(FORMATS)}"
            )
        with shared.reasons():
            filters = shared.chosen_filters(options)
            selection = shared.selection_from(filters, options["limit"])
            inspector = Inspector(options["engine"])
            now = time.time()

            def watch(sessions: Iterable[T]) -> Iterable[T]:
                return self._with_progress(sessions, inspector, options)

            if options["summary"]:
                summary = inspector.summary(selection.of_all_states(), now=now, watch=watch)
                self._write([self._summary(summary, now, options["format"])], options["output"])
                return
            records = inspector.records(selection, reveal=options["reveal"], now=now)
            noted = Noted(watch(records))
            parts = self._formatted(noted, now, options)
            if self._write(parts, options["output"]):
                self._add_notes(noted, inspector, options)

    def _write(self, parts: Iterable[str], path: str | None) -> bool:
        if path is None:
            return write_out(self.stdout, parts)
        with written_file(path) as write:
            for part in parts:
                write(part)
        return True

    def _summary(self, summary: Summary, now: float, name: str) -> str:
        if name == "table":
            return summary_lines(summary, datetime.fromtimestamp(now, timezone.utc))
        return formats.SUMMARY_FORMATS[name](summary)

    def _formatted(
        self, records: Iterable[SessionRecord], now: float, options: dict[str, Any]
    ) -> Iterator[str]:
        reveal = options["reveal"]
        if options["format"] != "table":
            return formats.FORMATS[options["format"]](records, reveal=reveal)
        moment = datetime.fromtimestamp(now, timezone.utc)
        if options["output"] is not None:
            return Table(now=moment, reveal=reveal).lines(records)
        return Table.on_stdout(self, now=moment, reveal=reveal).lines(records)

    def _with_progress(
        self, sessions: Iterable[T], inspector: Inspector, options: dict[str, Any]
    ) -> Iterable[T]:
        is_silent = options["output"] is None and self.stdout.isatty()
        if is_silent or not self.stderr.isatty():
            return sessions
        return track(
            sessions,
            "Reading sessions",
            total=inspector.count(),
            # Past Django's wrapper, which ends each write with a new line.
            console=Console(file=cast("IO[str]", getattr(self.stderr, "_out", self.stderr))),
            transient=True,
        )

    def _note(self, text: str) -> None:
        self.stderr.write(text, str)

    def _add_notes(self, noted: Noted, inspector: Inspector, options: dict[str, Any]) -> None:
        if options["verbosity"] == 0:
            return
        if options["format"] == "table" or options["output"] is not None:
            total = inspector.count()
            shown = f"{noted.count} of {total}" if total is not None else str(noted.count)
            self._note(f"{shown} session{'' if (total or noted.count) == 1 else 's'}")
        for reason, count in noted.reasons.most_common():
            self._note(f"{count} unreadable: {texts.harmless(reason)}")


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
