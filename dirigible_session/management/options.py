"""The options that sessions_dump and sessions_invalidate share, and what is wrong with them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import CommandError

from dirigible_session.inspection import (
    AttributeFilter,
    InspectionError,
    Selection,
    find_user_id,
    parsed_duration,
)

STATES = ("active", "expired", "all")
WRONG_USAGE = 2

#: Options that choose sessions, by their names in code.
FILTERS = ("state", "user", "anonymous", "session", "attribute", "idle_over", "idle_under")


def add_filters(parser: ArgumentParser) -> None:
    """Add the options that choose sessions."""
    group = parser.add_argument_group("which sessions", "All that is given must hold.")
    group.add_argument(
        "--state",
        metavar="{" + ",".join(STATES) + "}",
        help="active by default; with --session, all. Unreadable records always show, unless "
        "another filter needs what is in them.",
    )
    group.add_argument("--user", metavar="USER", help="of a user: a username, else a primary key.")
    group.add_argument("--anonymous", action="store_true", help="in which nobody is logged in.")
    group.add_argument(
        "--session",
        metavar="HANDLE",
        help="one session: its handle, 4 to 40 digits of its digest, or its full key.",
    )
    group.add_argument(
        "--attribute",
        action="append",
        metavar="NAME[=VALUE]",
        help="that hold an attribute; n=3 finds the number and the text. Repeatable.",
    )
    group.add_argument(
        "--idle-over", metavar="DURATION", help="last accessed longer ago: 90s, 15m, 2h, 7d."
    )
    group.add_argument("--idle-under", metavar="DURATION", help="last accessed since then.")
    group.add_argument("--limit", metavar="N", help="at most N.")
    parser.add_argument(
        "--engine", metavar="PATH", help="another session engine than SESSION_ENGINE."
    )


def wrong_usage(message: str) -> CommandError:
    """Return the error that ends a command with exit code 2."""
    return CommandError(message, returncode=WRONG_USAGE)


@contextmanager
def reasons() -> Iterator[None]:
    """End the command with exit code 1 and one line of reason where sessions can't be read."""
    try:
        yield
    except InspectionError as error:
        raise CommandError(str(error)) from error


def chosen_filters(options: dict[str, Any]) -> list[str]:
    """Return the filters that were given, as they are written."""
    return [f"--{name.replace('_', '-')}" for name in FILTERS if _is_given(options.get(name))]


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value != []


def selection_from(options: dict[str, Any]) -> Selection:
    """Return what the options choose; CommandError with exit code 2 if they make no sense."""
    state, session, user = (options.get(name) for name in ("state", "session", "user"))
    if state not in (None, *STATES):
        raise wrong_usage(f"--state {state!r}: choose from {', '.join(STATES)}")
    if user is not None and options.get("anonymous"):
        raise wrong_usage("--user and --anonymous exclude each other")
    idle_over, idle_under = _duration(options, "idle_over"), _duration(options, "idle_under")
    if idle_over is not None and idle_under is not None and idle_over >= idle_under:
        raise wrong_usage("--idle-over must be less than --idle-under: no session matches both")
    attributes, limit = _attributes(options.get("attribute")), _limit(options.get("limit"))
    return Selection(
        state=state or ("all" if session is not None else "active"),
        user_id=None if user is None else find_user_id(str(user)),
        anonymous=bool(options.get("anonymous")),
        session=None if session is None else str(session),
        attributes=attributes,
        idle_over=idle_over,
        idle_under=idle_under,
        limit=limit,
    )


def _duration(options: dict[str, Any], name: str) -> float | None:
    text = options.get(name)
    if text is None:
        return None
    try:
        return parsed_duration(str(text))
    except ValueError as error:
        raise wrong_usage(f"--{name.replace('_', '-')}: {error}") from error


def _attributes(arguments: Any) -> tuple[AttributeFilter, ...]:
    try:
        return tuple(
            AttributeFilter.parse(argument)
            for argument in ([arguments] if isinstance(arguments, str) else arguments or ())
        )
    except ValueError as error:
        raise wrong_usage(f"--attribute: {error}") from error


def _limit(value: Any) -> int | None:
    if value is None:
        return None
    try:
        limit = int(value)
    except (TypeError, ValueError):
        raise wrong_usage(f"--limit {value!r} is no number") from None
    if limit < 0:
        raise wrong_usage(f"--limit {limit} is less than 0")
    return limit
