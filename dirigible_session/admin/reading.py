"""A stand-in until the reader has pages of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from dirigible_session.inspection import (
    AmbiguousHandle,
    Inspector,
    NoSuchSession,
    Selection,
    SessionRecord,
)


@dataclass
class Page:
    """A page."""

    records: list[SessionRecord] = field(default_factory=list)
    next: str | None = None
    read: int = 0


def page(
    inspector: Inspector,
    selection: Selection,
    *,
    after: str | None = None,
    limit: int = 50,
    seconds: float | None = None,
    digests: Any = None,
) -> Page:
    """Return a page."""
    found = Page()
    try:
        for record in inspector.records(selection):
            found.read += 1
            if digests is not None and record.digest not in digests:
                continue
            if after and record.digest <= after:
                continue
            found.records.append(record)
    except NoSuchSession:
        return found
    except AmbiguousHandle as error:
        for digest in error.digests:
            found.records += page(inspector, replace(selection, session=digest)).records
    found.records.sort(key=lambda record: record.digest)
    if len(found.records) > limit:
        found.records = list(islice(found.records, limit))
        found.next = found.records[-1].digest
    return found


@dataclass
class Ended:
    """What was ended."""

    records: list[SessionRecord]
    next: str | None
    read: int


def end_page(
    inspector: Inspector, selection: Selection, digests: Any = None, **options: Any
) -> Ended:
    """End a page."""
    found = page(inspector, selection, digests=digests, **options)
    ended = [
        record
        for record in found.records
        if inspector.invalidate(Selection(state="all", session=record.digest))
    ]
    return Ended(ended, found.next, found.read)
