"""What visitors may put into a session."""

from __future__ import annotations

from typing import Any


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


ATTRIBUTES: dict[str, dict[str, Any]] = {
    "escapes": {"\x1b]0;owned\x07": "\x1b[2J\x1b[31mred", "c1": "\x9b31m", "bell": "\x07\x08"},
    "lines": {"a\nb": "one\ntwo\r\nthree\u2028four\x0bfive\x0csix\x85seven\u2029"},
    "directions": {"\u202egnp": "\u202eevil\u2066\u2069\u200f\u061c", "soft\u00adhyphen": "\ufeff"},
    "html": {"<script>alert(1)</script>": "<img src=x onerror=alert(1)>\"'&{{ 7|add:7 }}"},
    "markup": {"[red]": "[bold]x[/bold] [link=http://evil] :smile: [/]"},
    "formulas": {"=cmd": "=cmd|' /C calc'!A0", "plus": "+1+1", "minus": "-1+1", "at": "@SUM(1)"},
    "nul": {"n\0ul": "a\0b", "surrogate": "\ud800", "emoji": "😀\u200d", "wide": "漢字" * 50},
    "large": {"text": "x" * 5_000_000},
    "many": {f"name{n}": n for n in range(10_000)},
    "deep": {"deep": nested(500)},
    "numbers": {"huge": 10**300, "float": 1e308, "none": None, "yes": True},
    "combining": {"zalgo": "e" + "\u0301" * 5000},
    "separators": {"a,b": 'x","y', "tab": "\t", "quote": '"'},
    "empty": {"": "", "list": [], "dict": {}},
}
