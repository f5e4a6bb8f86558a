"""The base of the commands on stored sessions."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from django.core.management import BaseCommand
from django.core.management.color import supports_color

from .table import Table

#: The exit code of a program that Ctrl-C ended.
INTERRUPTED = 130

#: The width of a terminal that does not report one.
DEFAULT_WIDTH = 80


class SessionCommand(BaseCommand):
    """A command on stored sessions. It runs no system checks, so that they can't stop it."""

    requires_system_checks: list[str] = []  # noqa: RUF012
    _is_coloured_by_option: bool | None = None

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from the command line; Ctrl-C ends it with one line."""
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            self.stderr.write("Interrupted.")
            sys.exit(INTERRUPTED)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Note --force-color and --no-color, and run."""
        if options.get("force_color") or options.get("no_color"):
            self._is_coloured_by_option = bool(options.get("force_color"))
        return super().execute(*args, **options)

    def note(self, line: str) -> None:
        """Write a line to stderr. A closed stderr is not an error."""
        if vars(self.stderr)["_out"] is None:
            # Python's own stderr, closed before Python started.
            return
        with suppress(BrokenPipeError):
            self.stderr.write(line, str)

    @property
    def is_coloured(self) -> bool:
        """Whether stdout takes colours."""
        if self._is_coloured_by_option is not None:
            return self._is_coloured_by_option
        return self.stdout.isatty() and supports_color() and not os.environ.get("NO_COLOR")

    def table(self, now: float, *, reveal: bool = False) -> Table:
        """Return a table for stdout, which tells times as of ``now``."""
        moment = datetime.fromtimestamp(now, timezone.utc)
        return Table(now=moment, reveal=reveal, width=self.width, is_coloured=self.is_coloured)

    @property
    def width(self) -> int | None:
        """How wide lines on stdout may be; None if no terminal sets a limit."""
        columns = os.environ.get("COLUMNS", "")
        if columns.isdecimal() and int(columns) > 0:
            return int(columns)
        if not self.stdout.isatty():
            return None
        return shutil.get_terminal_size().columns or DEFAULT_WIDTH
