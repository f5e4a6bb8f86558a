"""Attributes: valid names, values as the store returns them, and changes in place."""

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
    """Return the name as it comes back from the store.

    Raises TypeError or ReservedAttributeName if ``name`` can't be the name of an attribute.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"dirigible_session: the name of an attribute must be a str, not {name!r} "
            f"({type(name).__name__})."
        )
    if name.startswith(RESERVED):
        raise ReservedAttributeName(name)
    # JSON turns a pair of surrogates into one character, as UTF-16 does.
    utf_16 = ("utf-16", "surrogatepass")
    return name if name.isascii() else name.encode(*utf_16).decode(*utf_16)


def survives_json(value: object) -> bool:
    """Return whether JSON certainly returns ``value`` unchanged."""
    kind = type(value)
    if kind is str:
        # A str may have a pair of surrogates, which comes back as one character.
        return value.isascii()  # type: ignore[attr-defined, no-any-return]
    # The json module refuses an int of very many digits.
    return kind is bool or (kind is int and -LARGE < value < LARGE)  # type: ignore[operator]


def as_stored(session: SessionBase, name: str, value: object) -> tuple[Any, Snapshot | None]:
    """Return ``value`` as the next request will read it, and a snapshot of it.

    That is ``value`` itself if the session's serializer returns an equal one of the same types.
    The snapshot is None for a value that can't be changed in place. Raises
    AttributeNotSerializable.
    """
    if session.serializer is JSONSerializer and survives_json(value):
        return value, None
    serializer = session.serializer()
    try:
        # Serializers get the dict of a session's data, and may rely on a dict.
        state = serializer.dumps({name: value})
        (stored,) = serializer.loads(state).values()
    except Exception as error:
        # A serializer of the project may raise anything.
        raise AttributeNotSerializable(
            name, value, error, place=find_place(serializer, value)
        ) from error
    if is_same(value, stored):
        # Pickle and the like keep values that JSON can't have.
        flaw = None if type(serializer) is JSONSerializer else find_flaw(value)
        stored = value
    else:
        # A serializer may hide a flaw: JSON turns a NaN key into a str.
        flaw = find_flaw(value) or find_flaw(stored)
    if flaw:
        raise AttributeNotSerializable(name, value, flaw.reason, place=flaw.place)
    if type(stored) in IMMUTABLE:
        return stored, None
    return stored, Snapshot(serializer, {name: stored}, state)


def is_same(one: object, other: object) -> bool:
    """Return whether two values are equal, of the same types at every depth, and finite.

    Also False if they are nested too deep to be stored.
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
    """Why a value can't be stored, and the index of the part that is at fault."""

    reason: str
    place: str


def find_flaw(value: object) -> Flaw | None:
    """Return why ``value`` can't be stored although the serializer accepts it; None if it can."""
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
    """Return the index of the innermost part of ``value`` that the serializer refuses."""
    place = ""
    for _ in range(MAX_DEPTH):
        refused = (part for part in parts_of(value) if not _accepts(serializer, part[1]))
        index, value = next(refused, ("", None))
        place += index
    return place


def _accepts(serializer: Any, value: object) -> bool:
    try:
        serializer.dumps({"": value})
    except Exception:
        return False
    return True


def parts_of(value: object) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a container, each with its index as written in Python."""
    if isinstance(value, dict):
        yield from ((f"[{key!r:.40}]", part) for key, part in list(value.items()))
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("", part) for part in value)


class Snapshot:
    """The serialized state of some data, to detect changes in place."""

    __slots__ = ("_serializer", "_state", "data")

    def __init__(self, serializer: Any, data: dict[str, Any], state: Any) -> None:
        self._serializer = serializer
        self._state = state
        self.data = data

    @classmethod
    def of(cls, session: SessionBase, data: dict[str, Any]) -> Snapshot:
        """Return a snapshot of ``data``."""
        # The session's serializer may refuse a value that was set through request.session.
        for serializer in (session.serializer(), pickle):
            with suppress(Exception):
                return cls(serializer, data, serializer.dumps(data))
        # Nothing can serialize it, so saving the session will raise.
        return cls(None, data, None)

    def changed(self) -> bool:
        """Return whether the data has changed."""
        if self._serializer is None:
            return False
        try:
            state = self._serializer.dumps(self.data)
            # The output of a serializer that salts or encrypts differs each time.
            return state != self._state and self._canonical(state) != self._canonical(self._state)
        except Exception:
            # It could be serialized before, so it has changed into something that can't be.
            return True

    def _canonical(self, state: Any) -> bytes:
        # Unlike ==, pickles distinguish 1 from True and 1.0.
        return pickle.dumps(self._serializer.loads(state))

    def before(self) -> dict[str, Any]:
        """Return the data as of the snapshot."""
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
            # The old value costs a run of the serializer, so only receivers pay for it.
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
        """Remove an attribute and return its value; None if there is none."""
        if name not in self._session:
            return None
        old_value = self._before(name)
        value = self._session.pop(name)
        self._outbox.note(signals.attribute_removed, name=name, old_value=old_value)
        return value

    def watch(self, name: str, value: Any) -> None:
        """Take a snapshot of ``value``, to detect a change in place."""
        if type(value) in IMMUTABLE:
            return
        known = self._snapshots.get(name)
        if known is not None and known.data[name] is not value:
            self._snapshots.pop(name, None)
            known = None
        if known is None:
            # If two threads read it at once, the first snapshot counts: the other thread may have
            # changed the value since.
            self._snapshots.setdefault(name, Snapshot.of(self._session, {name: value}))

    def keep_changes_in_place(self) -> None:
        """Set the values that were changed in place. Raises AttributeNotSerializable."""
        session = self._session
        changed = {
            name: snapshot
            for name, snapshot in list(self._snapshots.items())
            if session.get(name) is snapshot.data[name] and snapshot.changed()
        }
        # All or none: if one value can't be stored, the session is not saved.
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
