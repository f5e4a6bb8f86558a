"""Between a session and the fields of its hash: pure functions, see ``redis_scripts``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth import SESSION_KEY

from dirigible_session import lifecycle
from dirigible_session.lifecycle import COOKIE_LIFETIME, EXPIRY_KEY, LAG, Times

from . import mapping
from .mapping import Texts

#: Returns when a session with this data and these times ends; None: never.
EndOf = Callable[[Mapping[str, Any], Times], "float | None"]
Fields = Mapping[bytes, bytes]
Pairs = list["bytes | str"]

ATTRIBUTE = b"a:"

#: The fields that tell whose a session is and when it ends.
HEAD = (
    b"created",
    b"accessed",
    b"interval",
    b"serial",
    b"listed",
    ATTRIBUTE + EXPIRY_KEY.encode(),
    ATTRIBUTE + SESSION_KEY.encode(),
)


@dataclass(slots=True)
class StoredHash:
    """What Redis holds of one session."""

    times: Times
    #: When the session ends, in seconds since the epoch; None: never.
    expires: float | None
    #: The JSON text of each attribute, in order; none if they can't be decoded.
    texts: Texts = field(default_factory=dict)
    #: Grows with every change, so the same serial means the same attributes.
    serial: str = "0"
    #: Until when the index of the user's sessions knows this one; 0: it does not.
    listed: float = 0.0
    #: Why the texts are none.
    error: str = ""

    def parsed(self) -> dict[str, Any]:
        """Return the attributes, parsed afresh; ValueError if they can't be decoded."""
        if self.error:
            raise ValueError(self.error)
        # All in one go, since that is much faster than one by one.
        values = json.loads("[" + ",".join(self.texts.values()) + "]")
        return dict(zip(self.texts, values, strict=True))

    @property
    def user(self) -> str | None:
        """What the session's user is found by; None: nobody is logged in."""
        return user_of(self.texts.get(SESSION_KEY))


def user_of(text: str | bytes | None) -> str | None:
    """Return what a user is found by whose id has this JSON text; None: there is no user."""
    if not text:
        return None
    try:
        return mapping.user_of({SESSION_KEY: json.loads(text)})
    except ValueError:
        # Damaged, as a reader of the session is told: whoever it was, it loads as nobody.
        return None


def field_of(name: str) -> bytes:
    """Return the field of an attribute."""
    # Any str can name one, half a surrogate pair too.
    return ATTRIBUTE + name.encode("utf-8", "surrogatepass")


def fields_of(answer: Fields | list[bytes]) -> Fields:
    """Return the fields of an answer, which may give them as one list."""
    if isinstance(answer, list):
        return dict(zip(answer[::2], answer[1::2], strict=True))
    return answer


def parse(fields: Fields, end_of: EndOf) -> StoredHash | None:
    """Return what a hash holds; None if it holds no session."""
    accessed = fields.get(b"accessed")
    if accessed is None:
        return None
    try:
        texts = _texts(fields)
        interval = fields.get(b"interval")
        times = Times(
            float(fields[b"created"]), float(accessed), None if interval is None else int(interval)
        )
        return StoredHash(
            times=times,
            expires=end(texts, times, end_of),
            texts=texts,
            serial=fields.get(b"serial", b"0").decode(),
            listed=float(fields.get(b"listed", 0)),
        )
    except (KeyError, ValueError) as error:
        # Shown to operators, and without what a visitor may have stored.
        reason = f"damaged: {type(error).__name__}"
        return StoredHash(Times(0.0, 0.0), expires=None, error=reason)


def size_of(fields: Fields) -> int:
    """Return the bytes of all fields and values."""
    return sum(map(len, fields)) + sum(map(len, fields.values()))


def _texts(fields: Fields) -> dict[str, str]:
    placed = []
    for name, value in fields.items():
        if name[:2] == ATTRIBUTE:
            place, _, text = value.partition(b" ")
            placed.append((int(place), name[2:].decode("utf-8", "surrogatepass"), text.decode()))
    placed.sort()
    return {name: text for _, name, text in placed}


def end(texts: Texts, times: Times, end_of: EndOf) -> float | None:
    """Return when a session with these texts ends; None: never."""
    return end_of(_expiry(texts), times)


def _expiry(texts: Texts) -> dict[str, Any]:
    text = texts.get(EXPIRY_KEY)
    return {} if text is None else {EXPIRY_KEY: json.loads(text)}


def kept_until(end: float | None, times: Times) -> float:
    """Return when Redis may forget a session that ends then: one that never does, as its cookie."""
    return times.accessed + COOKIE_LIFETIME if end is None else end


def listed_until(kept_until: float, now: float) -> float:
    """Return until when the index shall know a session that Redis keeps until then.

    A little longer, so that not every access has to be noted there.
    """
    return kept_until + max(0.0, kept_until - now) / LAG


def pairs_of(texts: Texts) -> Pairs:
    """Return fields and values that store these attributes."""
    pairs: Pairs = []
    for name, text in texts.items():
        pairs += (field_of(name), text)
    if EXPIRY_KEY in texts:
        until = lifecycle.fixed_end(_expiry(texts))
        if until is not None:
            pairs += ("until", repr(until))
    return pairs
