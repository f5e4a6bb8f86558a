"""Records in json, json lines and csv."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import UserDict, deque
from datetime import date, datetime, timezone
from typing import Any

import pytest
from django.http import QueryDict

from dirigible_session.inspection import COLUMNS, Redactor, SessionRecord, Summary, formats

from .hostile import ATTRIBUTES, nested

MOMENT = datetime(2024, 2, 29, 12, tzinfo=timezone.utc)


def record(**known: Any) -> SessionRecord:
    fields: dict[str, Any] = {
        "digest": "ab" * 20,
        "handle": "ab" * 6,
        "state": "active",
        "user_id": "7",
        "username": "ada",
        "created": MOMENT,
        "last_accessed": None,
        "expires": MOMENT,
        "max_inactive_interval": 300,
        "size": 12,
        "attributes": {"cart": [1]},
        "session_key": "k" * 32,
    }
    return SessionRecord(**(fields | known))


def test_json_has_the_keys_of_the_contract_in_their_order():
    (shown,) = json.loads("".join(formats.json_list([record()])))
    assert tuple(shown) == COLUMNS
    assert shown["created"] == "2024-02-29T12:00:00+00:00"
    assert shown["last_accessed"] is None
    (revealed,) = json.loads("".join(formats.json_list([record()], reveal=True)))
    assert tuple(revealed) == (*COLUMNS, "session_key")
    assert revealed["session_key"] == "k" * 32


@pytest.mark.parametrize("reveal", [True, False])
def test_json_has_every_value_of_a_name_that_has_several(reveal):
    attributes = {"form": [QueryDict("a=1&a=2")]}
    known = record(attributes=attributes if reveal else Redactor().redacted(attributes))
    shown = formats.as_dict(known, reveal=reveal)
    assert json.loads(formats.to_json(shown))["attributes"]["form"] == [{"a": ["1", "2"]}]


def test_json_of_no_session_is_an_empty_list():
    assert json.loads("".join(formats.json_list([]))) == []
    assert "".join(formats.json_lines([])) == ""


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_json_is_valid_whatever_is_in_a_session(name):
    records = [record(), record(attributes=ATTRIBUTES[name]), record()]
    lines = list(formats.json_lines(records))
    assert len(lines) == 3
    for line in lines:
        assert line.isascii()
        assert line.endswith("}\n")
        assert line[:-1].isprintable()
    assert json.loads(lines[1], parse_constant=refuse)["attributes"] == ATTRIBUTES[name]
    assert len(json.loads("".join(formats.json_list(records)))) == 3


class Broken:
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(math.nan, "nan", id="nan"),
        pytest.param([math.inf, 1.5], ["inf", 1.5], id="infinity"),
        pytest.param(date(2024, 2, 29), "2024-02-29", id="date"),
        pytest.param({1: 2, (1, 2): date.max}, {"1": 2, "(1, 2)": "9999-12-31"}, id="keys"),
        pytest.param({"a": (1, {2})}, {"a": [1, [2]]}, id="set"),
        pytest.param([b"x", "x", None, True], ["b'x'", "x", None, True], id="bytes"),
        pytest.param([b"x", QueryDict("a=1&a=2")], ["b'x'", {"a": ["1", "2"]}], id="form"),
        pytest.param({b"k": deque([UserDict(a=1)])}, {"k": [{"a": 1}]}, id="pickled"),
        pytest.param(Broken(), "<Broken: ZeroDivisionError>", id="broken"),
    ],
)
def test_what_json_cannot_hold_is_shown_as_text(value, shown):
    assert json.loads(formats.to_json({"a": value}), parse_constant=refuse) == {"a": shown}


def test_a_number_of_too_many_digits_is_no_reason_to_fail():
    json.loads(formats.to_json(10**5000), parse_int=str)


def test_what_is_nested_too_deep_or_in_itself_is_cut_off():
    assert '"…"'.encode("unicode_escape").decode() in formats.to_json(nested(50_000))
    ring: list[Any] = []
    ring.append({"ring": ring})
    assert json.loads(formats.to_json(ring)) == [{"ring": "…"}]


HOSTILE_TEXTS = ["\x1b[2J", "a\nb\r\nc", "\u202eevil", "\ud800", "\t=1", "\r=1", "\x00", "\x9b31m"]


def rows_of(records: list[SessionRecord], **options: Any) -> list[dict[str, str]]:
    csv.field_size_limit(10_000_000)
    text = "".join(formats.csv_lines(records, **options))
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_csv_reads_back_to_the_same_values(name):
    rows = rows_of([record(), record(attributes=ATTRIBUTES[name]), record()])
    assert len(rows) == 3
    assert tuple(rows[0]) == COLUMNS
    assert json.loads(rows[1]["attributes"]) == ATTRIBUTES[name]
    assert rows[1]["created"] == "2024-02-29T12:00:00+00:00"
    assert rows[1]["last_accessed"] == ""


def test_csv_has_the_key_where_it_is_revealed():
    assert rows_of([record()], reveal=True)[0]["session_key"] == "k" * 32


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(1)", "-", "+cmd|x", "\uff1d1"])
def test_a_cell_that_a_spreadsheet_would_run_is_defused(text):
    (row,) = rows_of([record(username=text)])
    assert row["username"] == f"'{text}"


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
@pytest.mark.parametrize("column", ["user_id", "username", "session_key"])
@pytest.mark.parametrize("name", formats.FORMATS)
def test_whatever_is_in_a_cell_stays_in_its_line(name, column, text):
    lines = "".join(formats.FORMATS[name]([record(**{column: text})], reveal=True)).splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(lines) == {"json": 3, "jsonl": 1, "csv": 2}[name]


@pytest.mark.parametrize("text", ["-5", "+4.5", "-1e9", "5", "a=b", "", "ada"])
def test_a_plain_number_is_no_formula(text):
    (row,) = rows_of([record(username=text)])
    assert row["username"] == text


def test_a_summary_has_each_format():
    summary = Summary(1, 2, 3, 4, 5, 6, 7, 8, MOMENT, {"=a": 2, "b": 1})
    shown = json.loads(formats.SUMMARY_FORMATS["json"](summary))
    assert shown == {
        "active": 1,
        "expired": 2,
        "unreadable": 3,
        "authenticated": 4,
        "anonymous": 5,
        "users": 6,
        "bytes": 7,
        "largest": 8,
        "oldest": "2024-02-29T12:00:00+00:00",
        "attributes": {"=a": 2, "b": 1},
    }
    assert json.loads(formats.SUMMARY_FORMATS["jsonl"](summary)) == shown
    (row,) = csv.DictReader(io.StringIO(formats.SUMMARY_FORMATS["csv"](summary), newline=""))
    assert row["bytes"] == "7"
    assert json.loads(row["attributes"]) == {"=a": 2, "b": 1}
