"""A stored session and the fields of its hash, as pure functions. See :mod:`.scripts`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from django.contrib.auth import SESSION_KEY

from dirigible_session import lifecycle
from dirigible_session.backends import mapping
from dirigible_session.backends.mapping import NO_CHANGE, Delta, Texts
from dirigible_session.lifecycle import COOKIE_LIFETIME, EXPIRY_KEY, LAG, SMALLEST_INTERVAL, Times
from dirigible_session.stored import from_json

#: Returns when a session with this data and these times ends; None: never.
EndOf = Callable[[Mapping[str, Any], Times], "float | None"]
Fields = Mapping[bytes, bytes]
Pairs = list["bytes | str"]

ATTRIBUTE = b"a:"
#: Seconds after which an unfinished change of key counts as broken off.
HALF_DONE = 60
#: Lua counts to this number without rounding.
MOST_CHANGES = 2**52
#: Longer names of attributes are not cached: visitors may choose them.
LONGEST_KEPT_NAME = 100

#: The fields that determine the user and the end of a session.
HEAD = (
    b"created",
    b"accessed",
    b"left",
    b"moved_at",
    b"authenticated",
    b"interval",
    b"serial",
    b"listed",
    ATTRIBUTE + EXPIRY_KEY.encode(),
    ATTRIBUTE + SESSION_KEY.encode(),
)


#: Until when the index of a user's sessions names a session, and the JSON text of that user's id.
Listed = tuple[float, "str | None"]
#: Not in the index of any user.
UNLISTED: Listed = (0.0, None)


@dataclass(eq=False, repr=False)
class StoredHash:
    """A session as stored in Redis."""

    times: Times
    #: When the session ends, in seconds since the epoch; None: never.
    expires: float | None
    #: The hash. Attributes are decoded on access.
    fields: Fields = field(default_factory=dict)
    #: A version counter that grows with every change of an attribute, and the highest place.
    serial: int = 0
    #: The entry in the index as this process knows it.
    listed: Listed = UNLISTED
    #: The reason if the hash can't be decoded.
    error: str = ""

    @cached_property
    def _texts(self) -> Texts:
        if self.error:
            raise ValueError(self.error)
        placed = []
        for name, value in self.fields.items():
            if name[:2] == ATTRIBUTE:
                place, text = _place_and_text(value)
                placed.append((int(place), name_of(name), text))
        placed.sort()
        return {name: text for _, name, text in placed}

    @property
    def texts(self) -> Texts:
        """The JSON text of each attribute, in order; none if they can't be decoded."""
        try:
            return self._texts
        except ValueError:
            return {}

    def text_of(self, name: str) -> str | None:
        """Return the JSON text of one attribute, None if it is not set, without decoding others.

        ValueError if it can't be decoded.
        """
        if self.error:
            raise ValueError(self.error)
        value = self.fields.get(field_of(name))
        return None if value is None else _place_and_text(value)[1]

    def parsed(self) -> dict[str, Any]:
        """Return newly parsed attributes; ValueError if they can't be decoded."""
        texts = self._texts
        # To parse them together is much faster.
        values = from_json("[" + ",".join(texts.values()) + "]")
        return dict(zip(texts, values, strict=True))

    @property
    def user(self) -> str | None:
        """The index key of the user; None if no user is logged in, or the id is damaged."""
        return user_of(self.text_after(NO_CHANGE, SESSION_KEY))

    def text_after(self, delta: Delta, name: str) -> str | None:
        """Return the JSON text of an attribute after a change, without decoding others.

        None if it is not set, or can't be decoded.
        """
        if delta.clears or name in delta.removed or name in delta.changed:
            return delta.changed.get(name)
        try:
            return self.text_of(name)
        except ValueError:
            return None

    def after(
        self,
        delta: Delta,
        times: Times,
        expires: float | None,
        listed: Listed,
    ) -> StoredHash:
        """Return the session after a change, without the changes of other requests."""
        fields = {} if delta.clears else dict(self.fields)
        for name in delta.removed:
            fields.pop(field_of(name), None)
        serial = self.serial
        for name, text in delta.changed.items():
            key = field_of(name)
            old = fields.get(key)
            if old is None:
                serial += 1
            place = b"%d" % serial if old is None else old.partition(b" ")[0]
            fields[key] = place + b" " + text.encode()
        return StoredHash(times, expires, fields, serial, listed)


#: The stored session before its creation.
NOTHING = StoredHash(Times(0.0, 0.0), None)


def _place_and_text(value: bytes) -> tuple[bytes, str]:
    place, space, text = value.partition(b" ")
    if not (space and place.isdigit()):
        raise ValueError("no place")
    return place, text.decode()


def user_of(text: str | bytes | None) -> str | None:
    """Return the index key of a user, whose id is a JSON text; None if it is missing or damaged."""
    if not text:
        return None
    try:
        return mapping.user_of({SESSION_KEY: from_json(text)})
    except ValueError:
        # Readers of the session report the damage.
        return None


def field_of(name: str) -> bytes:
    """Return the field of an attribute."""
    return _kept_field(name) if len(name) <= LONGEST_KEPT_NAME else _field(name)


def _field(name: str) -> bytes:
    # The name may have a lone surrogate.
    return ATTRIBUTE + name.encode("utf-8", "surrogatepass")


_kept_field = lru_cache(maxsize=1024)(_field)


def name_of(field: bytes) -> str:
    """Return the attribute of a field."""
    return field[len(ATTRIBUTE) :].decode("utf-8", "surrogatepass")


def fields_of(answer: Fields | list[bytes]) -> Fields:
    """Return the fields of an answer, which may be a list of names and values."""
    if isinstance(answer, list):
        return dict(zip(answer[::2], answer[1::2], strict=True))
    return answer


def as_it_was(fields: Fields) -> Fields:
    """Return the fields of a session before an unfinished change of its key."""
    left = fields.get(b"left")
    return fields if left is None or b"accessed" in fields else {**fields, b"accessed": left}


def as_listed(fields: Fields, now: float) -> Fields:
    """Return the fields as readers of all sessions see them.

    During a change of key, readers see the session under its new key only. A change that began
    long ago has broken off, and the session waits for its client under its old key.
    """
    try:
        is_broken_off = float(fields.get(b"moved_at", b"inf")) < now - HALF_DONE
    except ValueError:
        is_broken_off = True
    return as_it_was(fields) if is_broken_off else fields


def parse(fields: Fields, end_of: EndOf) -> StoredHash | None:
    """Return the session in a hash; None if the hash is not a session."""
    accessed = fields.get(b"accessed")
    if accessed is None:
        return None
    try:
        interval, authenticated = fields.get(b"interval"), fields.get(b"authenticated")
        until, _, user_text = fields.get(b"listed", b"").partition(b" ")
        times = Times(
            _seconds(fields[b"created"]),
            _seconds(accessed),
            None if interval is None else _number(interval, -SMALLEST_INTERVAL),
            None if authenticated is None else _seconds(authenticated),
        )
        stored = StoredHash(
            times,
            None,
            fields,
            serial=_number(fields.get(b"serial", b"0"), MOST_CHANGES),
            listed=(float(until), user_text.decode()) if until else UNLISTED,
        )
        expiry = _expiry(stored.text_of(EXPIRY_KEY))
        if expiry:
            lifecycle.check_expiry(expiry)
        stored.expires = end_of(expiry, times)
    except (LookupError, OverflowError, ValueError) as error:
        return StoredHash(Times(0.0, 0.0), None, error=damage(error))
    return stored


def _seconds(value: bytes) -> float:
    seconds = float(value)
    if not abs(seconds) <= lifecycle.LAST_DATE:
        raise ValueError("not a time")
    return seconds


def _number(value: bytes, largest: int) -> int:
    number = int(value)
    if abs(number) > largest:
        raise ValueError("too large")
    return number


def damage(error: Exception) -> str:
    """Return a message for the operator, without any data of the visitor."""
    return f"damaged: {type(error).__name__}"


def size_of(fields: Fields) -> int:
    """Return the size of all fields and values in bytes."""
    return sum(map(len, fields)) + sum(map(len, fields.values()))


def end(expiry_text: str | None, times: Times, end_of: EndOf) -> float | None:
    """Return the end of a session with this JSON text as ``_session_expiry``; None: never."""
    return end_of(_expiry(expiry_text), times)


def _expiry(text: str | None) -> dict[str, Any]:
    return {} if text is None else {EXPIRY_KEY: from_json(text)}


def kept_until(end: float | None, times: Times) -> float:
    """Return the time until which Redis keeps a session. Without an end, its cookie decides."""
    return times.accessed + COOKIE_LIFETIME if end is None else end


def listed_until(kept_until: float, now: float) -> float:
    """Return the time until which the index names a session that is kept until ``kept_until``.

    It is a little later, so that not every access needs an update of the index.
    """
    return kept_until + max(0.0, kept_until - now) / LAG


def is_listed_too_long(listed: float, kept_until: float, now: float) -> bool:
    """Return whether the index would name a session long after its end."""
    return listed - kept_until > 2 * (listed_until(kept_until, now) - kept_until) + 1


def pairs_of(texts: Texts) -> Pairs:
    """Return the fields and values for these attributes."""
    pairs: Pairs = []
    for name, text in texts.items():
        pairs += (field_of(name), text)
    if EXPIRY_KEY in texts:
        until = lifecycle.fixed_end(_expiry(texts[EXPIRY_KEY]))
        if until is not None:
            pairs += ("until", repr(until))
    return pairs
