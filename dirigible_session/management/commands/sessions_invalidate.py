"""``manage.py sessions_invalidate``: ends stored sessions."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from django.core.management import CommandError

from dirigible_session.inspection import Inspector, Selection, Summary
from dirigible_session.inspection.display import sessions
from dirigible_session.management import options as shared
from dirigible_session.management.base import SessionCommand
from dirigible_session.management.output import write_out

#: Sessions that are shown before it asks.
SHOWN = 10

NOT_INTERACTIVE = (
    "Input is not interactive, so nothing was ended. Use --no-input to end them without asking."
)


class Command(SessionCommand):
    """Ends stored sessions."""

    help = "Ends stored sessions, after asking for confirmation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--all", action="store_true", help="All sessions, in any state.")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Show how many sessions it would end, and end none.",
        )
        parser.add_argument(
            "--no-input", "--noinput", action="store_false", dest="interactive", help="Don't ask."
        )
        shared.add_filters(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """End them."""
        given = shared.chosen_filters(options)
        if options["all"] and given:
            first = shared.as_written(next(iter(given)))
            raise shared.wrong_usage(f"--all and {first} exclude each other")
        if not options["all"] and not given:
            raise shared.wrong_usage(
                "No filter says which sessions to end: give a filter such as --user, or --all"
            )
        with shared.as_command_errors():
            selection = shared.selection_from(given, options["limit"])
            if options["all"]:
                selection = selection.of_all_states()
            inspector = Inspector(options["engine"])
            now = time.time()
            if options["dry_run"]:
                summary = inspector.summary(selection, now=now)
                self._say(f"Would end {_described(summary)}.")
                return
            if options["interactive"] and not self._is_confirmed(inspector, selection, now):
                self._say(f"Ended {sessions(0)}.")
                return
            ended = inspector.invalidate(selection, now=now)
        self._say(f"Ended {sessions(ended)}.")

    def _say(self, line: str) -> None:
        write_out(self.stdout, [f"{line}\n"])

    def _is_confirmed(self, inspector: Inspector, selection: Selection, now: float) -> bool:
        summary = inspector.summary(selection, now=now)
        if not _count(summary):
            return False
        if not write_out(self.stdout, self._announced(summary, inspector, selection, now)):
            raise CommandError(NOT_INTERACTIVE)
        try:
            answer = input("End them? [y/N] ")
        except KeyboardInterrupt:
            self._say("")
            return False
        except (EOFError, RuntimeError):
            # RuntimeError is what Python raises if stdin is closed.
            raise CommandError(NOT_INTERACTIVE) from None
        return answer.strip().lower() in ("y", "yes")

    def _announced(
        self, summary: Summary, inspector: Inspector, selection: Selection, now: float
    ) -> Iterator[str]:
        count = _count(summary)
        yield f"This ends {_described(summary)}:\n"
        first = replace(selection, limit=min(count, SHOWN))
        yield from self.table(now).lines(inspector.records(first, now=now))
        if count > SHOWN:
            yield f"and {count - SHOWN} more.\n"


def _count(summary: Summary) -> int:
    return summary.active + summary.expired + summary.unreadable


def _described(summary: Summary) -> str:
    counts = {
        "active": summary.active,
        "expired": summary.expired,
        "unreadable": summary.unreadable,
    }
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return sessions(_count(summary)) + (f" ({states})" if states else "")
