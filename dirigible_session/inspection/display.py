"""Text for people: visitors' text made harmless and short, and times as "3 min ago"."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .nested import Children, contents

_SPANS = (
    (365 * 86400, "y"),
    (30 * 86400, "mo"),
    (86400, "d"),
    (3600, "h"),
    (60, "min"),
    (1, "s"),
)
_UNITS = ("B", "kB", "MB", "GB", "TB")


def as_text(value: object) -> str:
    """Return any value as text, whatever its class does to prevent it."""
    try:
        return str(value)
    except Exception as error:
        # Whatever a class of the project does in its __str__.
        return f"<{type(value).__name__}: {type(error).__name__}>"


def name_as_text(name: object) -> str:
    """Return a name as text: in pickled data, any hashable value can be a name."""
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else as_text(name)


def harmless(text: str) -> str:
    """Return ``text`` with every character that is not printable as an escape.

    Control characters, line ends, the format characters that turn the direction of text, lone
    surrogates: whatever could move a cursor, break a line, or show as something else.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def shortened(text: str, length: int) -> str:
    """Return at most ``length`` characters of ``text``, made harmless."""
    shown = harmless(text[: length + 1])
    return shown if len(shown) <= length else shown[: max(length - 1, 0)] + "…"


def attributes_in_short(attributes: Mapping[str, Any], length: int) -> str:
    """Return the attributes on one line of at most ``length`` characters.

    It looks at no more of them than fits: a session may hold megabytes.
    """
    shown = ""
    for name, value in attributes.items():
        before = ", " if shown else ""
        shown += f"{before}{shortened(name, length)}={value_in_short(value, length)}"
        if len(shown) > length:
            return shown[: max(length - 1, 0)] + "…"
    return shown


def value_in_short(value: Any, length: int) -> str:
    """Return a value as it may be written in JSON, in at most some ``length`` characters."""
    shown = ""
    for piece in _pieces(value, length):
        shown += piece
        if len(shown) > length:
            return shown[: max(length - 1, 0)] + "…"
    return shown


def _pieces(value: Any, length: int) -> Iterator[str]:
    pending: list[Any] = [iter((_Item(value),))]
    while pending:
        piece = next(pending[-1], None)
        if piece is None:
            pending.pop()
        elif isinstance(piece, str):
            yield piece
        elif (opened := contents(piece.value)) is None:
            yield _scalar(piece.value, length)
        elif isinstance(opened[0], dict):
            pending.append(_in_dict(opened[1], length))
        else:
            pending.append(_in_list(opened[1]))


class _Item:
    """A value that is yet to be written."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _in_dict(items: Children, length: int) -> Iterator[str | _Item]:
    before = "{"
    for key, item in items:
        yield f"{before}{_scalar(name_as_text(key), length)}: "
        yield _Item(item)
        before = ", "
    yield "{}" if before == "{" else "}"


def _in_list(items: Children) -> Iterator[str | _Item]:
    before = "["
    for _, item in items:
        yield before
        yield _Item(item)
        before = ", "
    yield "[]" if before == "[" else "]"


def _scalar(value: Any, length: int) -> str:
    if isinstance(value, str):
        return f'"{shortened(value, length)}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shortened(as_text(value), length)


def ago(
    moment: datetime | None, now: datetime, *, unknown: str = "", to_nearest: bool = False
) -> str:
    """Return how long before ``now``, or after it, a moment is: "3 min ago", "in 2 h"."""
    if moment is None:
        return unknown
    seconds = (now - moment).total_seconds()
    span = in_units(abs(seconds), to_nearest=to_nearest)
    if span == "0 s":
        return "now"
    return f"{span} ago" if seconds > 0 else f"in {span}"


def in_units(seconds: float, *, to_nearest: bool = False) -> str:
    """Return a length of time in its largest unit, rounded down or to the nearest."""
    if to_nearest:
        # To the nearest of its unit, which may make it one of the next unit: 59.9 min are 1 h.
        unit = next((length for length, _ in _SPANS if seconds >= length), 1)
        seconds = math.floor(seconds / unit + 0.5) * unit
    for length, name in _SPANS:
        if seconds >= length:
            return f"{int(seconds // length)} {name}"
    return "0 s"


def in_bytes(size: int) -> str:
    """Return a size such as 312 B or 4.9 kB."""
    amount, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            break
        amount /= 1000
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def sessions(count: int) -> str:
    """Return a count of sessions in words: "1 session", "3 sessions"."""
    return "1 session" if count == 1 else f"{count} sessions"
