"""Draws the pictures of the documentation: ``python docs/pictures.py``.

It needs the extra ``test``, and Chromium for the panel. ``tests/docs/givens.py`` has the sessions
that are shown.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
sys.path[:0] = [str(ROOT)]
os.environ.update(DJANGO_SETTINGS_MODULE="tests.settings", COLUMNS="126")

import django

django.setup()

from django.core.management import call_command
from django.template import Context, Template
from django.test.utils import override_settings, setup_databases
from freezegun import freeze_time
from rich.console import Console
from rich.text import Text

from dirigible_session import session
from dirigible_session.testing import session_request
from tests.docs import givens

STYLESHEET = ROOT / "dirigible_session" / "static" / "dirigible_session" / "session_info.css"
PAGE = """<!doctype html><meta charset="utf-8">
<style>body{{margin:24px;background:#fff}}{}</style>{}"""


class Terminal(io.StringIO):
    """Takes colours."""

    def isatty(self) -> bool:
        """Say that it is a terminal."""
        return True


def terminal_svg(command: str, *arguments: str) -> str:
    """Return what a command prints, as a picture of a terminal."""
    out = Terminal()
    with mock.patch.dict(os.environ, TERM="xterm-256color", COLORTERM="truecolor"):
        call_command(command, *arguments, stdout=out, stderr=out, force_color=True)
    console = Console(record=True, width=126, file=io.StringIO(), force_terminal=True)
    console.print(f"[bold]$[/bold] python manage.py {' '.join([command, *arguments])}")
    console.print(Text.from_ansi(out.getvalue()))
    svg = console.export_svg(title="sessions_dump", unique_id="sessions-dump")
    # No font from elsewhere: each reader's own monospaced one does.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return "".join(f"{line.rstrip()}\n" for line in svg.splitlines())


def panel_png(path: Path) -> None:
    """Draw ``{% session_info %}`` with Chromium."""
    attributes = {"cart": ["tea", "cake"], "language": "de", "api_token": "x"}
    with (
        givens.same_keys(),
        freeze_time(givens.NOW - timedelta(minutes=3)),
        session_request(attributes),
    ):
        session.get_id()
        html = Template("{% load dirigible_session %}{% session_info %}").render(Context())
    html = re.sub(r"<link[^>]*>", "", html)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "panel.html")
        page.write_text(PAGE.format(STYLESHEET.read_text(), html))
        subprocess.run(
            [
                "chromium",
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                "--force-device-scale-factor=2",
                "--window-size=640,372",
                f"--screenshot={path}",
                page.as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )


def main() -> None:
    """Draw all of them."""
    IMAGES.mkdir(exist_ok=True)
    setup_databases(verbosity=0, interactive=False)
    with override_settings(ROOT_URLCONF="tests.docs.urls"), givens.shop():
        (IMAGES / "sessions-dump.svg").write_text(terminal_svg("sessions_dump"))
    with override_settings(TIME_ZONE="UTC"):
        panel_png(IMAGES / "session-info.png")


if __name__ == "__main__":
    main()
