"""Records for machines: json, json lines, csv."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from . import display as texts
from .nested import contents, rebuilt
from .records import COLUMNS, REVEALED_COLUMNS, SessionRecord, Summary

#: Deeper than this, Python's encoder may not go.
DEEPEST = 600

#: The last four are the full-width forms, which Excel takes for the others in some languages.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)

#: Python writes no int of more bits in decimal.
LARGEST = 14_000

#: A circle is found by that it can't be encoded, and opened.
_encode = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def as_dict(record: SessionRecord, *, reveal: bool = False) -> dict[str, Any]:
    """Return a record with the keys of the json format, its values ready for JSON."""
    shown: dict[str, Any] = {
        "handle": record.handle,
        "state": record.state,
        "user_id": record.user_id,
        "username": record.username,
        "created": _iso(record.created),
        "last_accessed": _iso(record.last_accessed),
        "expires": _iso(record.expires),
        "max_inactive_interval": record.max_inactive_interval,
        "size": record.size,
        "attributes": record.attributes,
    }
    if reveal:
        # Redacting turns containers into dicts and lists. JSON would turn fewer, and otherwise.
        shown["attributes"] = rebuilt(record.attributes, lambda name, value: value)
        shown["session_key"] = record.session_key
    return shown


def _iso(moment: datetime | None) -> str | None:
    # In UTC, as all records are. isoformat() takes twice as long for an aware datetime.
    if moment is None:
        return None
    return datetime.combine(moment, moment.time()).isoformat() + "+00:00"


def to_json(value: Any) -> str:
    """Return ``value`` as JSON in ASCII on one line, whatever is in it.

    Values that JSON can't hold are shown as their ``str``; values nested too deep are left out.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError):
        return _encode(rebuilt(value, _plain, deepest=DEEPEST))


def _plain(name: Any, value: Any) -> Any:
    opened = contents(value)
    if opened is not None:
        empty, children = opened
        if isinstance(empty, dict):
            return {texts.name_as_text(key): item for key, item in children}
        return value
    if isinstance(value, (str, bool, type(None))):
        return value
    if isinstance(value, int) and value.bit_length() < LARGEST:
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    return texts.as_text(value)


Records = Iterable[SessionRecord]


def json_lines(records: Records, *, reveal: bool = False) -> Iterator[str]:
    """Yield a line of JSON for each session."""
    for record in records:
        yield to_json(as_dict(record, reveal=reveal)) + "\n"


def json_list(records: Records, *, reveal: bool = False) -> Iterator[str]:
    """Yield a JSON list of all sessions, one on each line."""
    before = "[\n"
    for record in records:
        yield before + to_json(as_dict(record, reveal=reveal))
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


#: The counts of a summary in json and csv, in this order.
COUNTS = (
    "active",
    "expired",
    "unreadable",
    "authenticated",
    "anonymous",
    "users",
    "bytes",
    "largest",
    "oldest",
    "attributes",
)


def summary_as_dict(summary: Summary) -> dict[str, Any]:
    """Return the counts of a summary, ready for JSON."""
    return {name: getattr(summary, name) for name in COUNTS} | {"oldest": _iso(summary.oldest)}


def _summary_in_json(summary: Summary) -> str:
    return to_json(summary_as_dict(summary)) + "\n"


def _summary_in_csv(summary: Summary) -> str:
    shown = summary_as_dict(summary)
    shown["attributes"] = to_json(shown["attributes"])
    write = csv.writer(_Echo()).writerow
    return f"{write(shown)}{write(map(defused, shown.values()))}"


class _Echo:
    """A file whose ``write`` returns its argument."""

    def write(self, text: str) -> str:
        return text


def csv_lines(records: Records, *, reveal: bool = False) -> Iterator[str]:
    """Yield csv with a line of titles, attributes as JSON, formulas defused."""
    write = csv.writer(_Echo()).writerow
    columns = REVEALED_COLUMNS if reveal else COLUMNS
    yield str(write(columns))
    for record in records:
        shown = as_dict(record, reveal=reveal)
        shown["attributes"] = to_json(shown["attributes"])
        yield str(write([defused(shown[column]) for column in columns]))


def defused(cell: Any) -> Any:
    """Return a cell that no terminal obeys, and no spreadsheet runs as a formula.

    A plain number is not a formula.
    """
    if not isinstance(cell, str):
        return cell
    shown = texts.harmless(cell)
    is_formula = shown.startswith(_FORMULA) and not _NUMBER.fullmatch(shown)
    return f"'{shown}" if is_formula else shown


Format = Callable[..., Iterator[str]]

#: A summary in each of the formats.
SUMMARY_FORMATS: Mapping[str, Callable[[Summary], str]] = {
    "json": _summary_in_json,
    "jsonl": _summary_in_json,
    "csv": _summary_in_csv,
}

#: The formats by their names.
FORMATS: Mapping[str, Format] = {"json": json_list, "jsonl": json_lines, "csv": csv_lines}
