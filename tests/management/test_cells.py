"""Text in the cells of a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from dirigible_session.management.cells import cut, fitted, width_of


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("漢字", 4, "漢字"),
        ("漢字", 3, "漢…"),
        ("漢字漢", 4, "漢…"),
        ("漢字漢", 5, "漢字…"),
        ("a漢", 2, "a…"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("", 0, ""),
    ],
)
def test_text_is_cut_with_an_ellipsis(text, width, shown):
    assert cut(text, width) == shown


@given(st.text("aé漢字e\u0301 ", max_size=20), st.integers(0, 30))
def test_fitted_text_is_as_wide_as_told(text, width):
    assert width_of(fitted(text, width)) == width
    assert width_of(text) == cell_len(text)
