"""Text for people."""

from __future__ import annotations

from collections import UserDict, deque
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.http import QueryDict

from dirigible_session.inspection import display as texts

from .hostile import ATTRIBUTES

NOW = datetime(2024, 2, 29, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ωä漢 text", "plain Ωä漢 text"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202eevil", r"\u202eevil"),
        ("\ud800", r"\ud800"),
        ("\0", r"\x00"),
    ],
)
def test_what_is_not_plainly_visible_is_escaped(text, shown):
    assert texts.harmless(text) == shown


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("length", [0, 1, 20, 200])
def test_attributes_fit_a_line(name, length):
    shown = texts.attributes_in_short(ATTRIBUTES[name], length)
    assert len(shown) <= max(length, 1)
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x", '"x"'),
        (5, "5"),
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ([1, "a", []], '[1, "a", []]'),
        ({"a": {"b": 1}, "c": {}}, '{"a": {"b": 1}, "c"…'),
        ("x" * 50, '"xxxxxxxxxxxxxxxxxx…'),
    ],
)
def test_a_value_is_short(value, shown):
    assert texts.value_in_short(value, 20) == shown


class Broken:
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({b"k": b"\x1b"}, "{\"k\": b'\\x1b'}"),
        ({(1, 2): {3}}, '{"(1, 2)": [3]}'),
        ({Broken(): Broken()}, '{"<Broken: ZeroDivisionError>": <Broken: ZeroDivisionError>}'),
        (UserDict(a=deque([1])), '{"a": [1]}'),
        (QueryDict("a=1&a=2"), '{"a": ["1", "2"]}'),
    ],
)
def test_whatever_was_pickled_is_shown_as_text(value, shown):
    assert texts.value_in_short(value, 100) == shown


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        ({"seconds": 0}, "now"),
        ({"seconds": 5}, "5 s ago"),
        ({"minutes": 3, "seconds": 20}, "3 min ago"),
        ({"hours": 5}, "5 h ago"),
        ({"days": 6}, "6 d ago"),
        ({"days": 65}, "2 mo ago"),
        ({"days": 800}, "2 y ago"),
        ({"hours": -2}, "in 2 h"),
    ],
)
def test_a_moment_is_so_long_ago(before: dict[str, Any], shown):
    assert texts.ago(NOW - timedelta(**before), NOW) == shown


def test_an_unknown_moment_is_nothing():
    assert texts.ago(None, NOW) == ""
    assert texts.ago(None, NOW, unknown="unknown") == "unknown"


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5_000_000, "5.0 MB"), (10**16, "10000.0 TB")],
)
def test_a_size_has_a_unit(size, shown):
    assert texts.in_bytes(size) == shown
