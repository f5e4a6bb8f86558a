"""``manage.py sessions_migrate``: copies the sessions of another engine."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from dirigible_session.backends.base import EngineBase
from dirigible_session.handles import HANDLE_LENGTH
from dirigible_session.inspection.display import harmless, sessions
from dirigible_session.inspection.errors import opening_errors_as, store_errors_as
from dirigible_session.inspection.readers import store_class_of
from dirigible_session.management.base import INTERRUPTED
from dirigible_session.management.options import as_command_errors
from dirigible_session.management.output import write_out
from dirigible_session.management.progress import with_progress
from dirigible_session.stored import StoredSession
from dirigible_session.transfer import Transfer
from dirigible_session.transfer.plan import Counts


class Command(BaseCommand):
    """Copies the live sessions of another engine into SESSION_ENGINE."""

    help = (
        "Copies the live sessions of another engine into SESSION_ENGINE, an engine of "
        "dirigible_session. It can be stopped and run again: it copies what was written since, "
        "overwrites nothing that the new engine wrote, and brings back nothing that was ended."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--from",
            dest="origin",
            metavar="PATH",
            required=True,
            help="The engine to copy from, such as 'django.contrib.sessions.backends.db'.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Show what it would do, and change nothing."
        )
        parser.add_argument(
            "--plain",
            action="store_true",
            help="Also copy, in plain text, sessions that may be encrypted in the old engine.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        origin, dry_run = options["origin"], options["dry_run"]
        with as_command_errors(), store_errors_as("The sessions", "can't be copied"):
            transfer = Transfer(
                origin,
                _target(origin),
                now=time.time(),
                plain=options["plain"],
                dry_run=dry_run,
            )
            try:
                transfer.run(lambda stored: self._with_progress(stored, transfer))
            except KeyboardInterrupt:
                raise CommandError(
                    f"Stopped. {_described(transfer.counts, dry_run=dry_run)} "
                    "Run the command again to go on.",
                    returncode=INTERRUPTED,
                ) from None
        write_out(self.stdout, [f"{_described(transfer.counts, dry_run=dry_run)}\n"])
        for digest, reason in transfer.refusals:
            self.stderr.write(f"{digest[:HANDLE_LENGTH]} was not copied: {harmless(reason)}")
        if transfer.refusals:
            count = sessions(len(transfer.refusals))
            raise CommandError(f"Not copied, because JSON can't represent their data: {count}.")

    def _with_progress(
        self, stored: Iterable[StoredSession], transfer: Transfer
    ) -> Iterable[StoredSession]:
        if not self.stderr.isatty():
            return stored
        total = transfer.inspector.count()
        return with_progress("Copying sessions", stored, total, self.stderr)


def _target(origin: str) -> EngineBase:
    path = settings.SESSION_ENGINE
    if origin == path:
        raise CommandError(f"--from names {path!r}, which is SESSION_ENGINE already.")
    with opening_errors_as(f"The store of {path}"):
        target = store_class_of(path)()
    if not isinstance(target, EngineBase):
        raise CommandError(
            f"SESSION_ENGINE is {path!r}, but sessions can only be copied into an engine of "
            "dirigible_session. Set SESSION_ENGINE to 'dirigible_session.backends.db' or "
            "'dirigible_session.backends.redis' first."
        )
    return target


def _described(counts: Counts, *, dry_run: bool) -> str:
    if dry_run:
        return (
            f"Would copy {counts.copied}, update {counts.updated}, end {counts.ended}, leave "
            f"{counts.unchanged} unchanged, skip {counts.skipped} (changed in the new engine); "
            f"unreadable {counts.unreadable}."
        )
    return (
        f"Copied {counts.copied}, updated {counts.updated}, ended {counts.ended}, unchanged "
        f"{counts.unchanged}, skipped {counts.skipped} (changed in the new engine), unreadable "
        f"{counts.unreadable}."
    )
