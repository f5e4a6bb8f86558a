"""Text in the cells of a terminal, of which some characters take two and some none."""

from __future__ import annotations

import unicodedata

ELLIPSIS = "…"

#: Categories of characters that are drawn onto the previous character.
_COMBINING = ("Mn", "Me", "Cf")


def width_of(text: str) -> int:
    """Return how many cells of a terminal ``text`` takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def cut(text: str, width: int) -> str:
    """Return ``text``, cut with "…" to at most ``width`` cells."""
    if len(text) <= width and text.isascii():
        return text
    taken = 0
    # The end of the text that leaves room for the ellipsis.
    fits = 0
    for place, character in enumerate(text):
        taken += _width(character)
        if taken > width:
            return text[:fits] + ELLIPSIS if width > 0 else ""
        if taken < width:
            fits = place + 1
    return text


def fitted(text: str, width: int) -> str:
    """Return ``text`` in exactly ``width`` cells: padded with spaces, or cut with "…"."""
    shown = cut(text, width)
    return shown + " " * (width - width_of(shown))


def _width(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.category(character) in _COMBINING or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
