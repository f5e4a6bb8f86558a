"""Attributes: their names, their values as they will come back, and what changed of them."""

from __future__ import annotations

import pickle
from cmath import isfinite
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.sessions.serializers import JSONSerializer

from dirigible_session import signals
from dirigible_session.exceptions import AttributeNotSerializable, ReservedAttributeName
from dirigible_session.stored import IMMUTABLE, RESERVED

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase


LARGE = 2**63

#: A value that is nested deeper could pass the serializer now and fail when it is stored, where
#: the stack is deeper; or, worse, be stored now and fail when it is loaded.
MAX_DEPTH = 512

CONTAINERS = (list, tuple, dict, set, frozenset)


def checked_name(name: object) -> str:
    """Return the name under which an attribute comes back from the store.

    TypeError or ReservedAttributeName unless ``name`` can name one.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"dirigible_session: an attribute's name is a str, not {name!r} "
            f"({type(name).__name__})."
        )
    if name.startswith(RESERVED):
        raise ReservedAttributeName(name)
    # JSON, and UTF-16, make one character of a pair of surrogates.
    utf_16 = ("utf-16", "surrogatepass")
    return name if name.isascii() else name.encode(*utf_16).decode(*utf_16)


def survives_json(value: object) -> bool:
    """Return whether JSON is known to give ``value`` back as it is, without trying."""
    kind = type(value)
    if kind is str:
        # Not of every str: a pair of surrogates comes back as one character.
        return value.isascii()  # type: ignore[attr-defined, no-any-return]
    # Not of every int: json refuses those of very many digits.
    return kind is bool or (kind is int and -LARGE < value < LARGE)  # type: ignore[operator]


def as_stored(session: SessionBase, name: str, value: object) -> tuple[Any, Snapshot | None]:
    """Return ``value`` as the next request will read it, and what it is now.

    That is ``value`` itself where the session's serializer gives an equal one of the same types
    back. The snapshot is None for a value that can't be changed in place. Raises
    AttributeNotSerializable.
    """
    if session.serializer is JSONSerializer and survives_json(value):
        return value, None
    serializer = session.serializer()
    try:
        # A serializer is promised the dict of a session's data, and may count on it.
        state = serializer.dumps({name: value})
        (stored,) = serializer.loads(state).values()
    except Exception as error:
        # The serializer is the project's choice, and so is what it raises.
        raise AttributeNotSerializable(
            name, value, error, place=find_place(serializer, value)
        ) from error
    if is_same(value, stored):
        # A pickle keeps what JSON could not, and so do its equals.
        flaw = None if type(serializer) is JSONSerializer else find_flaw(value)
        stored = value
    else:
        # The serializer may hide a flaw: JSON turns a key that is NaN into a str.
        flaw = find_flaw(value) or find_flaw(stored)
    if flaw:
        raise AttributeNotSerializable(name, value, flaw.reason, place=flaw.place)
    if type(stored) in IMMUTABLE:
        return stored, None
    return stored, Snapshot(serializer, {name: stored}, state)


def is_same(one: object, other: object) -> bool:
    """Return whether two values are equal, of the same types at every depth, and finite.

    False also where they are nested too deep to be stored.
    """
    level: list[tuple[Any, Any]] = [(one, other)]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[tuple[Any, Any]] = []
        for mine, theirs in level:
            kind = type(mine)
            if kind is not type(theirs):
                return False
            if kind is list:
                if len(mine) != len(theirs):
                    return False
                deeper.extend(zip(mine, theirs, strict=True))
            elif kind is dict:
                if list(mine) != list(theirs) or any(type(key) is not str for key in mine):
                    return False
                deeper.extend(zip(mine.values(), theirs.values(), strict=True))
            elif kind not in IMMUTABLE or mine != theirs or (kind is float and not isfinite(mine)):
                return False
        if not deeper:
            return True
        level = deeper
    return False


class Flaw(NamedTuple):
    """Why a value can't be stored, and where in it that is, as one would index it."""

    reason: str
    place: str


def find_flaw(value: object) -> Flaw | None:
    """Return why ``value`` can't be stored although the serializer took it; None if it can."""
    pending = [(value, 0, "")]
    while pending:
        item, depth, place = pending.pop()
        if isinstance(item, (float, complex)):
            if not isfinite(item):
                return Flaw("NaN and infinities are not JSON", place)
        elif isinstance(item, CONTAINERS):
            if depth == MAX_DEPTH:
                return Flaw(f"it is nested more than {MAX_DEPTH} deep", "")
            if isinstance(item, dict):
                pending.extend((key, depth + 1, place) for key in item)
            pending.extend((part, depth + 1, place + index) for index, part in parts_of(item))
    return None


def find_place(serializer: Any, value: object) -> str:
    """Return where in ``value`` the innermost part is that the serializer can't take."""
    place = ""
    for _ in range(MAX_DEPTH):
        culprit = next(
            (found for found in parts_of(value) if not _takes(serializer, found[1])), None
        )
        if culprit is None:
            break
        index, value = culprit
        place += index
    return place


def _takes(serializer: Any, value: object) -> bool:
    try:
        serializer.dumps({"": value})
    except Exception:
        return False
    return True


def parts_of(value: object) -> Iterator[tuple[str, Any]]:
    """Give the parts of a list, dict or the like, each with its index as Python writes it."""
    if isinstance(value, dict):
        yield from ((f"[{key!r:.40}]", part) for key, part in list(value.items()))
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("", part) for part in value)


class Snapshot:
    """What some data of a session was, to tell whether it was changed in place."""

    __slots__ = ("_serializer", "_state", "data")

    def __init__(self, serializer: Any, data: dict[str, Any], state: Any) -> None:
        self._serializer = serializer
        self._state = state
        self.data = data

    @classmethod
    def of(cls, session: SessionBase, data: dict[str, Any]) -> Snapshot:
        """Return what ``data`` is now."""
        # What was put there through request.session need not pass the session's serializer.
        for serializer in (session.serializer(), pickle):
            with suppress(Exception):
                return cls(serializer, data, serializer.dumps(data))
        # Nothing can serialize it. Saving will raise, so we need not.
        return cls(None, data, None)

    def changed(self) -> bool:
        """Return whether the data is other than it was."""
        if self._serializer is None:
            return False
        try:
            state = self._serializer.dumps(self.data)
            # A serializer that salts or encrypts never says the same twice.
            return state != self._state and self._canonical(state) != self._canonical(self._state)
        except Exception:
            # It could be serialized once, so it was changed into something that can't be.
            return True

    def _canonical(self, state: Any) -> bytes:
        # A pickle tells 1 from True and from 1.0, which are equal.
        return pickle.dumps(self._serializer.loads(state))

    def before(self) -> dict[str, Any]:
        """Return the data as it was."""
        if self._serializer is None:
            return self.data
        data: dict[str, Any] = self._serializer.loads(self._state)
        return data


class Attributes:
    """The attributes of one loaded session, changed through the facade."""

    __slots__ = ("_outbox", "_session", "_snapshots")

    def __init__(self, session: SessionBase, outbox: signals.Outbox) -> None:
        self._session = session
        self._outbox = outbox
        self._snapshots: dict[str, Snapshot] = {}

    def put(self, name: str, value: object) -> Any:
        """Set an attribute and return its stored value."""
        session = self._session
        stored, snapshot = as_stored(session, name, value)
        if name not in session:
            session[name] = stored
            self._outbox.note(signals.attribute_added, name=name, value=stored)
        elif signals.attribute_replaced.receivers:
            # What it was takes another round trip through the serializer, so only for who asks.
            old_value = self._before(name)
            session[name] = stored
            self._outbox.note(
                signals.attribute_replaced, name=name, value=stored, old_value=old_value
            )
        else:
            session[name] = stored
        self._remember(name, snapshot)
        return stored

    def _remember(self, name: str, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            self._snapshots.pop(name, None)
        else:
            self._snapshots[name] = snapshot

    def remove(self, name: str) -> Any:
        """Remove an attribute and return its value, None if it is not there."""
        if name not in self._session:
            return None
        old_value = self._before(name)
        value = self._session.pop(name)
        self._outbox.note(signals.attribute_removed, name=name, old_value=old_value)
        return value

    def watch(self, name: str, value: Any) -> None:
        """Remember what ``value`` is now, so that a change in place is noticed."""
        if type(value) in IMMUTABLE:
            return
        known = self._snapshots.get(name)
        if known is not None and known.data[name] is not value:
            self._snapshots.pop(name, None)
            known = None
        if known is None:
            # Of two threads that read it at once, the other may have changed it by now: what
            # counts is the snapshot of the first.
            self._snapshots.setdefault(name, Snapshot.of(self._session, {name: value}))

    def keep_changes_in_place(self) -> None:
        """Set what was changed in place; AttributeNotSerializable if it can't be stored."""
        session = self._session
        changed = {
            name: snapshot
            for name, snapshot in list(self._snapshots.items())
            if session.get(name) is snapshot.data[name] and snapshot.changed()
        }
        # All or none: where one can't be stored, the session is not.
        stored = {
            name: as_stored(session, name, snapshot.data[name])
            for name, snapshot in changed.items()
        }
        for name, (value, snapshot) in stored.items():
            session[name] = value
            self._remember(name, snapshot)
            old_value = changed[name].before()[name]
            self._outbox.note(
                signals.attribute_replaced, name=name, value=value, old_value=old_value
            )

    def _before(self, name: str) -> Any:
        value = self._session[name]
        snapshot = self._snapshots.get(name)
        return snapshot.before()[name] if snapshot and snapshot.data[name] is value else value
