"""The reference names every setting, check, option, signal and exception, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import load_command_class
from django.core.management.base import DjangoHelpFormatter
from django.dispatch import Signal

import dirigible_session
from dirigible_session import exceptions, signals
from dirigible_session.checks.settings import KNOWN_SETTINGS

from .blocks import DOCS

pytestmark = pytest.mark.slow

REFERENCE = DOCS / "reference"
PACKAGE = Path(dirigible_session.__file__).parent


def told(page: str, pattern: str) -> set[str]:
    """Return what stands in the first column of the page's tables and matches."""
    text = (REFERENCE / page).read_text()
    cells = re.findall(r"^\| ([^|\\]*(?:\\\|[^|\\]*)*) \|", text, re.M)
    return {match for cell in cells for match in re.findall(pattern, cell)}


def test_all_settings() -> None:
    assert told("settings.md", r"`(DIRIGIBLE_SESSION_\w+)`") == KNOWN_SETTINGS


def test_all_checks() -> None:
    known = set()
    for module in PACKAGE.rglob("*.py"):
        known |= set(re.findall(r"[\"'.]([EW]\d{3})[\"']", module.read_text()))
    assert told("checks.md", r"\b([EW]\d{3})\b") == known


@pytest.mark.parametrize("command", ["sessions_dump", "sessions_invalidate", "sessions_migrate"])
def test_all_options(command: str) -> None:
    parser = load_command_class("dirigible_session", command).create_parser("manage.py", command)
    known = {
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option not in DjangoHelpFormatter.show_last
    }
    section = (REFERENCE / "commands.md").read_text().partition(f"## `{command}`")[2]
    section = section.partition("\n## ")[0]
    options = set(re.findall(r"^\| `(--[\w-]+)", section, re.M))
    if command == "sessions_invalidate":
        # The filters are told of once.
        known -= told("commands.md", r"`(--[\w-]+)") - options
    assert options == known - {"--help", "--noinput"}


def test_all_signals() -> None:
    known = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    # For the limit of sessions of a user, and nobody else.
    known.discard("login_stored")
    assert told("signals.md", r"`([a-z_]+)`") == known
    assert told("signals.md", r"`([A-Z]+)`") == {reason.name for reason in signals.Reason}


def test_all_exceptions() -> None:
    known = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__ and name[0] != "_"
    }
    assert told("exceptions.md", r"`(\w+)`") == known
    troubleshooting = (DOCS / "troubleshooting.md").read_text()
    assert not [name for name in known if name not in troubleshooting]


def test_troubleshooting_quotes_the_messages() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    for error in (
        exceptions.NoCurrentRequest("get_id"),
        exceptions.MiddlewareMissing("get_id"),
        exceptions.ReservedAttributeName("_x"),
        exceptions.SessionConflict(50),
    ):
        quoted = re.findall(rf"^\*\*`([^`]+)`\*\*.*`{type(error).__name__}`", text, re.M)
        assert quoted, error
        for part in filter(None, map(str.strip, quoted[0].replace("'", "").split("…"))):
            assert part in str(error).replace("'", ""), part
