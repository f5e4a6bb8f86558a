"""Attributes: their names, their values as they will come back, and what changed of them."""

from __future__ import annotations

import pickle
from cmath import isfinite
from contextlib import suppress
from typing import TYPE_CHECKING, Any

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


def as_stored(session: SessionBase, name: str, value: object) -> Any:
    """Return ``value`` as the session's serializer will give it back to the next request."""
    if session.serializer is JSONSerializer and survives_json(value):
        return value
    serializer = session.serializer()
    try:
        # A serializer is promised the dict of a session's data, and may count on it.
        (stored,) = serializer.loads(serializer.dumps({name: value})).values()
    except Exception as error:
        # The serializer is the project's choice, and so is what it raises.
        raise AttributeNotSerializable(name, value, error) from error
    # The serializer may hide a flaw: JSON turns a key that is NaN into a str.
    flaw = find_flaw(value) or find_flaw(stored)
    if flaw:
        raise AttributeNotSerializable(name, value, flaw)
    return stored


def find_flaw(value: object) -> str:
    """Return why ``value`` can't be stored although the serializer took it; "" if it can."""
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, (float, complex)):
            if not isfinite(item):
                return "NaN and infinities are not JSON"
        elif isinstance(item, (list, tuple, dict, set, frozenset)):
            if depth == MAX_DEPTH:
                return f"it is nested more than {MAX_DEPTH} deep"
            inner = (*item.keys(), *item.values()) if isinstance(item, dict) else item
            pending.extend((part, depth + 1) for part in inner)
    return ""


class Snapshot:
    """What some data of a session was, to tell whether it was changed in place."""

    __slots__ = ("_serializer", "_state", "data")

    def __init__(self, session: SessionBase, data: dict[str, Any]) -> None:
        self.data = data
        # What was put there through request.session need not pass the session's serializer.
        for serializer in (session.serializer(), pickle):
            self._serializer: Any = serializer
            with suppress(Exception):
                self._state = serializer.dumps(data)
                return
        # No engine can store it: Django says so when it saves the session, unless it is gone then.
        self._serializer = None

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

    __slots__ = ("_notices", "_session", "_snapshots")

    def __init__(self, session: SessionBase, notices: signals.Outbox) -> None:
        self._session = session
        self._notices = notices
        self._snapshots: dict[str, Snapshot] = {}

    def put(self, name: str, value: object) -> Any:
        """Set an attribute and return its stored value."""
        session = self._session
        stored = as_stored(session, name, value)
        if name in session:
            old_value = self._before(name)
            session[name] = stored
            self._notices.note(
                signals.attribute_replaced, name=name, value=stored, old_value=old_value
            )
        else:
            session[name] = stored
            self._notices.note(signals.attribute_added, name=name, value=stored)
        self.watch(name, stored)
        return stored

    def remove(self, name: str) -> Any:
        """Remove an attribute and return its value, None if it is not there."""
        if name not in self._session:
            return None
        old_value = self._before(name)
        value = self._session.pop(name)
        self._notices.note(signals.attribute_removed, name=name, old_value=old_value)
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
            self._snapshots.setdefault(name, Snapshot(self._session, {name: value}))

    def settle(self) -> None:
        """Keep what was changed in place; AttributeNotSerializable if it can't be stored."""
        session = self._session
        snapshots, self._snapshots = self._snapshots, {}
        changed = {
            name: snapshot
            for name, snapshot in snapshots.items()
            if self._is_changed(name, snapshot)
        }
        # All or none: where one can't be stored, the session is not.
        stored = {
            name: as_stored(session, name, snapshot.data[name])
            for name, snapshot in changed.items()
        }
        for name, value in stored.items():
            session[name] = value
            old_value = changed[name].before()[name]
            self._notices.note(
                signals.attribute_replaced, name=name, value=value, old_value=old_value
            )

    def _is_changed(self, name: str, snapshot: Snapshot) -> bool:
        value = snapshot.data[name]
        return self._session.get(name) is value and snapshot.changed()

    def _before(self, name: str) -> Any:
        value = self._session[name]
        snapshot = self._snapshots.get(name)
        return snapshot.before()[name] if snapshot and snapshot.data[name] is value else value
