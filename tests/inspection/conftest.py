"""Fixtures: sessions in a store, and their records."""

from __future__ import annotations

from typing import Any

import pytest

from dirigible_session.inspection import Inspector, Selection, SessionRecord


@pytest.fixture
def store(store_class: Any) -> Any:
    """Give a function that stores a session of the engine in use and returns it."""

    def store(data: dict[str, Any] | None = None, **attributes: Any) -> Any:
        session = store_class()
        session.update(data or {})
        session.update(attributes)
        session.create()
        return session

    return store


@pytest.fixture
def read() -> Any:
    """Give a function that reads the records of the engine in use."""

    def read(*, reveal: bool = False, **selection: Any) -> list[SessionRecord]:
        selection.setdefault("state", "all")
        return list(Inspector().records(Selection(**selection), reveal=reveal))

    return read
