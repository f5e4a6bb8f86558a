"""What every test of a command needs."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the width of the terminal that pytest runs in: a test that needs one sets it."""
    monkeypatch.delenv("COLUMNS", raising=False)
