"""``manage.py sessions_migrate``: takes the sessions of another engine over."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from dirigible_session.backends.base import EngineBase
from dirigible_session.handles import HANDLE_LENGTH
from dirigible_session.inspection.display import harmless, sessions
from dirigible_session.inspection.errors import opening_errors_as, store_errors_as
from dirigible_session.inspection.readers import store_class_of
from dirigible_session.management.options import reasons
from dirigible_session.management.output import write_out
from dirigible_session.transfer import Counts, Move


class Command(BaseCommand):
    """Copies the live sessions of another engine into SESSION_ENGINE."""

    help = (
        "Copies the live sessions of another engine into SESSION_ENGINE, one of dirigible_session. "
        "Can be stopped and run again: it takes over what was written since, overwrites nothing "
        "that the new engine wrote, and brings back nothing that was ended."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--from",
            dest="origin",
            metavar="PATH",
            required=True,
            help="the engine to copy from, 'django.contrib.sessions.backends.db' for one.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Copy them."""
        origin = options["origin"]
        with reasons(), store_errors_as("The sessions", "can't be copied"):
            move = Move(origin, _target(origin), now=time.time())
            move.run()
        write_out(self.stdout, [f"{_described(move.counts)}\n"])
        for digest, reason in move.refusals:
            self.stderr.write(f"{digest[:HANDLE_LENGTH]} was not copied: {harmless(reason)}")
        if move.refusals:
            count = sessions(len(move.refusals))
            raise CommandError(f"Not copied, since JSON can't hold what they hold: {count}.")


def _target(origin: str) -> EngineBase:
    path = settings.SESSION_ENGINE
    if origin == path:
        raise CommandError(f"--from names {path!r}, which SESSION_ENGINE names already.")
    with opening_errors_as(f"The store of {path}"):
        target = store_class_of(path)()
    if not isinstance(target, EngineBase):
        raise CommandError(
            f"SESSION_ENGINE is {path!r}: sessions are copied into an engine of dirigible_session "
            "only. Set SESSION_ENGINE to 'dirigible_session.backends.db' or "
            "'dirigible_session.backends.redis' first."
        )
    return target


def _described(counts: Counts) -> str:
    return (
        f"Copied {sessions(counts.copied)}, took over {counts.renewed} again, "
        f"ended {counts.ended}; {counts.unchanged} were unchanged, {counts.left} are the new "
        f"engine's, {counts.unreadable} could not be read."
    )
