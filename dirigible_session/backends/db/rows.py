"""The rows of the db engine's table: one session each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from dirigible_session.backends import mapping
from dirigible_session.backends.mapping import Texts
from dirigible_session.lifecycle import EXPIRY_KEY, LAST_DATE, Times, check_expiry, is_seconds
from dirigible_session.stored import from_document, from_json

if TYPE_CHECKING:
    from .transactions import Uncertain

#: The columns of a :class:`Row`, in its order.
COLUMNS = (
    "session_data",
    "created",
    "accessed",
    "interval",
    "authenticated",
    "expires",
    "version",
    "first_digest",
)

DAY = 24 * 60 * 60
#: The largest number that the column of the version can hold.
LAST_VERSION = 2**31 - 1


@dataclass
class Row:
    """The stored state of one session."""

    document: str = field(repr=False)
    times: Times
    expires: float | None
    version: int
    first_digest: str | None = None
    #: Why the whole row is unusable; SQLite accepts any value in any column.
    error: str = ""
    #: The values of the columns that change with every write, to detect one.
    as_read: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: The transaction that stored the row, if it may still be rolled back.
    uncertain: Uncertain | None = field(default=None, compare=False)

    @classmethod
    def of(cls, columns: Sequence[Any]) -> Row:
        """Return the row with these columns."""
        document, created, accessed, interval, authenticated, expires, version, first = columns
        as_read = {"version": version, "accessed": accessed}
        is_sound = (
            isinstance(document, str)
            and is_seconds(created)
            and is_seconds(accessed)
            and (interval is None or type(interval) is int)
            and (authenticated is None or is_seconds(authenticated))
            and (expires is None or isinstance(expires, (int, float)))
            and type(version) is int
            and 0 <= version < LAST_VERSION
            and (first is None or isinstance(first, str))
        )
        if not is_sound:
            document = document.decode("latin-1") if isinstance(document, bytes) else str(document)
            error = "damaged: a column has a value of the wrong type"
            # Bytes may be text that is not UTF-8, and would not equal that text in a condition.
            as_read = {name: as_read[name] for name in as_read if type(as_read[name]) is not bytes}
            return cls(document, Times(0.0, 0.0), None, 0, None, error, as_read)
        times = Times(created, accessed, interval, authenticated)
        return cls(document, times, expires, version, first, "", as_read)

    @classmethod
    def holding(
        cls,
        texts: Texts,
        times: Times,
        expires: float | None,
        version: int = 0,
        first_digest: str | None = None,
    ) -> Row:
        """Return a row to store these attributes."""
        document = mapping.to_document(texts)
        as_read = {"version": version, "accessed": times.accessed}
        row = cls(document, times, expires, version, first_digest, "", as_read)
        vars(row)["texts"] = texts
        return row

    @cached_property
    def texts(self) -> Texts:
        """The JSON text of each attribute; empty if they can't be decoded."""
        try:
            texts = {} if self.error else mapping.texts_in(self.document)
            check_expiry(value_of(texts, EXPIRY_KEY))
        except (ValueError, RecursionError):
            return {}
        return texts

    @property
    def expiry(self) -> Mapping[str, Any]:
        """The ``_session_expiry`` in the data, if any. Most rows are not parsed for it."""
        return value_of(self.texts, EXPIRY_KEY) if f'"{EXPIRY_KEY}"' in self.document else {}

    def text_of(self, name: str) -> str | None:
        """Return the JSON text of an attribute, None if it is missing; ValueError if damaged."""
        return mapping.to_texts(self.parsed()).get(name)

    def parsed(self) -> dict[str, Any]:
        """Return a new dict of the attributes; ValueError if they can't be decoded."""
        if self.error:
            raise ValueError(self.error)
        data = from_document(self.document)
        check_expiry(data)
        return data


def day_of(moment: float) -> int:
    """Return the day of a time in seconds since the epoch: UTC, counted from the epoch."""
    return int(min(max(moment, 0), LAST_DATE) // DAY)


def ends(expires: float | None) -> dict[str, Any]:
    """Return the columns of a session's expiry."""
    return {
        "expires": expires,
        "expires_day": None if expires is None else day_of(expires),
    }


def is_over(now: float) -> Q:
    """Return the condition for an expired row, in a form that can use the index on the day."""
    return Q(expires_day__lte=day_of(now), expires__lte=now)


def value_of(texts: Texts, name: str) -> Mapping[str, Any]:
    """Return a dict of one attribute; it is empty if the attribute is missing."""
    return {name: from_json(texts[name])} if name in texts else {}
