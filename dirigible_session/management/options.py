"""The options that sessions_dump and sessions_invalidate share, and their errors."""

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
ORDERS = ("accessed", "created", "size")
WRONG_USAGE = 2

#: Options that choose sessions, by their names in code.
FILTERS = ("state", "user", "anonymous", "session", "attribute", "idle_over", "idle_under")


def add_filters(parser: ArgumentParser) -> None:
    """Add the options that choose sessions."""
    group = parser.add_argument_group("which sessions", "Every filter given must match.")
    group.add_argument(
        "--state",
        metavar="{" + ",".join(STATES) + "}",
        help="Default: active; with --session: all. Unreadable sessions match in any state, unless "
        "another filter needs to know their data.",
    )
    group.add_argument(
        "--user", metavar="USER", help="Sessions of a user: a username, or else a primary key."
    )
    group.add_argument(
        "--anonymous", action="store_true", help="Sessions in which nobody is logged in."
    )
    group.add_argument(
        "--session",
        metavar="HANDLE",
        help="One session: its handle, 4 to 40 digits of its digest, or its full key.",
    )
    group.add_argument(
        "--attribute",
        action="append",
        metavar="NAME[=VALUE]",
        help="Sessions that have an attribute; n=3 matches the number and the text. Can be given "
        "several times.",
    )
    group.add_argument(
        "--idle-over",
        metavar="DURATION",
        help="Sessions last accessed longer ago than this: 90s, 15m, 1h30m, 7d, 1w, or a number "
        "of seconds.",
    )
    group.add_argument(
        "--idle-under", metavar="DURATION", help="Sessions last accessed more recently than this."
    )
    group.add_argument("--limit", metavar="N", help="At most N sessions.")
    parser.add_argument(
        "--engine", metavar="PATH", help="The session engine to read. Default: SESSION_ENGINE."
    )


def wrong_usage(message: str) -> CommandError:
    """Return the error that ends a command with exit code 2."""
    return CommandError(message, returncode=WRONG_USAGE)


@contextmanager
def as_command_errors() -> Iterator[None]:
    """Raise CommandError, which ends a command with one line, if sessions can't be read."""
    try:
        yield
    except InspectionError as error:
        raise CommandError(str(error)) from error


def chosen_filters(options: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the filters that were given, by their names in code.

    ``call_command()`` may pass values that argparse would not; an empty filter counts as not
    given. CommandError with exit code 2 if one makes no sense.
    """
    given = {name: options.get(name) for name in FILTERS}
    given["anonymous"] = True if given["anonymous"] else None
    given["attribute"] = _attributes(given["attribute"]) or None
    given["idle_over"] = _duration(options, "idle_over")
    given["idle_under"] = _duration(options, "idle_under")
    if given["state"] is not None:
        _check_choice("--state", given["state"], STATES)
    return {name: value for name, value in given.items() if value is not None}


def selection_from(filters: dict[str, Any], limit: Any = None, sort: Any = None) -> Selection:
    """Return a Selection; CommandError with exit code 2 if two filters exclude each other."""
    session, user = filters.get("session"), filters.get("user")
    if user is not None and "anonymous" in filters:
        raise wrong_usage("--user and --anonymous exclude each other")
    idle_over, idle_under = filters.get("idle_over"), filters.get("idle_under")
    if idle_over is not None and idle_under is not None and idle_over >= idle_under:
        raise wrong_usage("--idle-over must be less than --idle-under: no session matches both")
    if sort is not None:
        _check_choice("--sort", sort, ORDERS)
    most = _limit(limit)
    return Selection(
        state=filters.get("state") or ("all" if session is not None else "active"),
        user_id=None if user is None else find_user_id(str(user)),
        anonymous="anonymous" in filters,
        session=None if session is None else str(session),
        attributes=filters.get("attribute", ()),
        idle_over=idle_over,
        idle_under=idle_under,
        sort=sort,
        limit=most,
    )


def as_written(name: str) -> str:
    """Return an option as it is written on a command line."""
    return f"--{name.replace('_', '-')}"


def _check_choice(option: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise wrong_usage(f"{option} {value!r}: choose from {', '.join(choices)}")


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
            raise wrong_usage(f"--attribute: {argument!r} is not text; write NAME or NAME=VALUE")
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
        raise wrong_usage(f"--limit {value!r} is not a number") from None
    if limit < 0:
        raise wrong_usage(f"--limit {limit} is less than 0")
    return limit
