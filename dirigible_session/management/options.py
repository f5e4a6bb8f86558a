"""The options that sessions_dump and sessions_invalidate share, and what is wrong with them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
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


def chosen_filters(options: dict[str, Any]) -> dict[str, Any]:
    """Return the filters that were given, read, by their names in code.

    Code may give what no command line can: what chooses nothing is not given. CommandError with
    exit code 2 if one makes no sense.
    """
    given = {name: options.get(name) for name in FILTERS}
    given["anonymous"] = True if given["anonymous"] else None
    given["attribute"] = _attributes(given["attribute"]) or None
    given["idle_over"] = _duration(options, "idle_over")
    given["idle_under"] = _duration(options, "idle_under")
    if given["state"] not in (None, *STATES):
        raise wrong_usage(f"--state {given['state']!r}: choose from {', '.join(STATES)}")
    return {name: value for name, value in given.items() if value is not None}


def selection_from(filters: dict[str, Any], limit: Any = None) -> Selection:
    """Return what the filters choose; CommandError with exit code 2 if they exclude each other."""
    session, user = filters.get("session"), filters.get("user")
    if user is not None and "anonymous" in filters:
        raise wrong_usage("--user and --anonymous exclude each other")
    idle_over, idle_under = filters.get("idle_over"), filters.get("idle_under")
    if idle_over is not None and idle_under is not None and idle_over >= idle_under:
        raise wrong_usage("--idle-over must be less than --idle-under: no session matches both")
    most = _limit(limit)
    return Selection(
        state=filters.get("state") or ("all" if session is not None else "active"),
        user_id=None if user is None else find_user_id(str(user)),
        anonymous="anonymous" in filters,
        session=None if session is None else str(session),
        attributes=filters.get("attribute", ()),
        idle_over=idle_over,
        idle_under=idle_under,
        limit=most,
    )


def as_written(name: str) -> str:
    """Return an option as it is written on a command line."""
    return f"--{name.replace('_', '-')}"


def _duration(options: dict[str, Any], name: str) -> float | None:
    text = options.get(name)
    if text is None:
        return None
    try:
        return parsed_duration(str(text))
    except ValueError as error:
        raise wrong_usage(f"{as_written(name)}: {error}") from error


def _attributes(arguments: Any) -> tuple[AttributeFilter, ...]:
    if arguments is None:
        return ()
    is_one = isinstance(arguments, (str, Mapping)) or not isinstance(arguments, Iterable)
    listed = [arguments] if is_one else list(arguments)
    for argument in listed:
        if not isinstance(argument, str):
            raise wrong_usage(f"--attribute: {argument!r} is no text; write NAME or NAME=VALUE")
    try:
        return tuple(map(AttributeFilter.parse, listed))
    except ValueError as error:
        raise wrong_usage(f"--attribute: {error}") from error


def _limit(value: Any) -> int | None:
    if value is None:
        return None
    try:
        limit = int(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong_usage(f"--limit {value!r} is no number") from None
    if limit < 0:
        raise wrong_usage(f"--limit {limit} is less than 0")
    return limit
