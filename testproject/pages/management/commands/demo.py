"""``manage.py demo``: serves the site, visits it, and shows the sessions."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import django
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from dirigible_session.inspection import NotListable, UnknownEngine
from dirigible_session.inspection.readers import store_class_of
from dirigible_session.management.output import write_out
from pages import serving, stories
from pages.visitors import Surprise, Visitor

INTERRUPTED = 130
#: Options that the dump at the end gets as the demo got them.
PASSED_ON = ("stdout", "stderr", "no_color", "force_color")


class Command(BaseCommand):
    """Runs the visits of ``stories`` on the site of ``serving``."""

    help = (
        "Serves the site on the loopback address with a temporary database, visits it as a few "
        "people would, and shows the stored sessions."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--serve", action="store_true", help="Keep the site running until Ctrl-C."
        )
        parser.add_argument(
            "--port", type=int, default=0, help="The port of the site; a free one by default."
        )
        parser.add_argument(
            "--engine",
            metavar="PATH",
            help="The session engine, as in SESSION_ENGINE; Django's by their last name, such as "
            "cached_db. What needs Redis gets a server that is thrown away, too.",
        )

    def handle(self, *, serve: bool, port: int, engine: str | None, **options: Any) -> None:
        """Run the visits; raise CommandError if a page shows something else."""
        try:
            with serving.sigterm_as_sigint(), serving.temporary_stores(_engine(engine)):
                self._run(serve, port, options)
        except KeyboardInterrupt:
            if not serve:
                raise CommandError("Interrupted.", returncode=INTERRUPTED) from None
        except Surprise as surprise:
            raise CommandError(f"Something went wrong: {surprise}") from surprise
        except (OSError, OverflowError) as error:
            raise CommandError(f"The site could not be served or reached: {error}") from error

    def _run(self, serve: bool, port: int, options: dict[str, Any]) -> None:
        users: Any = get_user_model().objects
        users.create_user(stories.USERNAME, password=stories.PASSWORD)
        users.create_superuser(stories.OPERATOR, password=stories.OPERATOR_PASSWORD)
        with serving.serving(port) as (address, server):
            self._tell(
                f"The site is at {address}/, with Django {django.get_version()} "
                f"and sessions in {settings.SESSION_ENGINE}."
            )
            stories.tell_all(lambda name: Visitor(name, address, self._tell), self._chapter)
            self._chapter("What they left, as `manage.py sessions_dump` shows it:")
            self._tell("")
            self._dump(options)
            if serve:
                self._chapter(
                    f"The admin is at {address}/admin/. "
                    f"Log in as {stories.OPERATOR} with the password {stories.OPERATOR_PASSWORD}."
                )
                self._chapter(
                    f"The site stays up at {address}/ until Ctrl-C. "
                    f"Log in as {stories.USERNAME} with the password {stories.PASSWORD}."
                )
                server.join()

    def _dump(self, options: dict[str, Any]) -> None:
        try:
            call_command("sessions_dump", **{name: options.get(name) for name in PASSED_ON})
        except CommandError as error:
            if not isinstance(error.__cause__, NotListable):
                raise
            # The chosen engine may be one that can't be listed. This is not an error.
            self._tell(str(error))

    def _chapter(self, title: str) -> None:
        self._tell(f"\n{self.style.MIGRATE_HEADING(title)}")

    def _tell(self, line: str) -> None:
        # Not buffered, for readers of a pipe. If the pipe is closed, the visits continue.
        write_out(self.stdout, [f"{line}\n"])


def _engine(name: str | None) -> str:
    """Return the path of an engine; raise CommandError if it does not exist."""
    if name is None:
        return settings.SESSION_ENGINE
    path = name if "." in name else f"django.contrib.sessions.backends.{name}"
    try:
        store_class_of(path)
    except UnknownEngine as error:
        raise CommandError(str(error)) from error
    return path
