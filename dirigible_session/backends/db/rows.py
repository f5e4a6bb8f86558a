"""The rows of the db engine's table: what their columns hold, and say, of one session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import Q

from dirigible_session.backends import mapping
from dirigible_session.backends.mapping import Texts
from dirigible_session.lifecycle import EXPIRY_KEY, LAST_DATE, Times
from dirigible_session.stored import from_document, from_json

#: The columns of a :class:`Row`, in its order.
COLUMNS = (
    "session_data",
    "created",
    "accessed",
    "interval",
    "authenticated",
    "expires",
    "version",
)

DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Row:
    """What the table holds of one session."""

    document: str
    times: Times
    expires: float | None
    version: int

    @classmethod
    def of(
        cls,
        document: str,
        created: float,
        accessed: float,
        interval: int | None,
        authenticated: float | None,
        expires: float | None,
        version: int,
    ) -> Row:
        """Return the row with these columns."""
        return cls(document, Times(created, accessed, interval, authenticated), expires, version)

    @classmethod
    def holding(
        cls,
        texts: Texts,
        times: Times,
        expires: float | None,
        version: int,
    ) -> Row:
        """Return a row to store these attributes."""
        row = cls(mapping.to_document(texts), times, expires, version)
        vars(row)["texts"] = texts
        return row

    @cached_property
    def texts(self) -> Texts:
        """The JSON text of each attribute; none if they can't be decoded."""
        try:
            return mapping.to_texts(self.parsed())
        except ValueError:
            return {}

    @property
    def expiry(self) -> Mapping[str, Any]:
        """The expiry that was set, if one was, by its name; without parsing most rows."""
        return value_of(self.texts, EXPIRY_KEY) if f'"{EXPIRY_KEY}"' in self.document else {}

    def text_of(self, name: str) -> str | None:
        """Return the JSON text of an attribute, None where there is none; ValueError if damaged."""
        return mapping.to_texts(self.parsed()).get(name)

    def parsed(self) -> dict[str, Any]:
        """Return the attributes, parsed afresh; ValueError if they can't be decoded."""
        return from_document(self.document)


def day_of(moment: float) -> int:
    """Return the day (UTC, counted from the epoch) of a moment."""
    return int(min(max(moment, 0), LAST_DATE) // DAY)


def ends(expires: float | None) -> dict[str, Any]:
    """Return the columns that say when a session ends."""
    return {
        "expires": expires,
        "expires_day": None if expires is None else day_of(expires),
    }


def is_over(now: float) -> Q:
    """Return the condition of a row to be over, in a form that the index on the day serves."""
    return Q(expires_day__lte=day_of(now), expires__lte=now)


def value_of(texts: Texts, name: str) -> Mapping[str, Any]:
    """Return one attribute, if it is there."""
    return {name: from_json(texts[name])} if name in texts else {}
