"""Attributes: their names, their values as they will come back, and what changed of them."""

from __future__ import annotations

import pickle
from math import isfinite
from typing import TYPE_CHECKING, Any

from . import signals
from .exceptions import AttributeNotSerializable, ReservedAttributeName

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

    from .notices import Notices

RESERVED = "_"

#: Types whose values can't be changed in place.
IMMUTABLE = frozenset({str, int, float, bool, type(None)})


def check_name(name: object) -> None:
    """Raise TypeError or ReservedAttributeName unless ``name`` can name an attribute."""
    if not isinstance(name, str):
        raise TypeError(
            f"dirigible_session: an attribute's name is a str, not {name!r} "
            f"({type(name).__name__})."
        )
    if name.startswith(RESERVED):
        raise ReservedAttributeName(name)


def as_stored(session: SessionBase, name: str, value: object) -> Any:
    """Return ``value`` as the session's serializer will give it back to the next request."""
    serializer = session.serializer()
    try:
        stored = serializer.loads(serializer.dumps(value))
    except Exception as error:
        # The serializer is the project's choice, and so is what it raises.
        raise AttributeNotSerializable(name, value, error) from error
    if not all_finite(stored):
        raise AttributeNotSerializable(name, value, "NaN and infinities are not JSON")
    return stored


def all_finite(value: object) -> bool:
    """Return whether no float in ``value``, at any depth, is NaN or an infinity."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float):
            if not isfinite(item):
                return False
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(item.values())
    return True


class Snapshot:
    """What a value was when the facade gave it out, to tell whether it was changed in place."""

    __slots__ = ("_serializer", "_state", "value")

    def __init__(self, session: SessionBase, value: Any) -> None:
        self.value = value
        self._serializer: Any = session.serializer()
        try:
            self._state = self._serializer.dumps(value)
        except Exception:
            # Put there through request.session on an engine that pickles: what the serializer
            # refuses now, it would refuse again at the end of the request.
            self._serializer = pickle
            self._state = pickle.dumps(value)

    def changed(self) -> bool:
        """Return whether the value is another than it was."""
        try:
            return bool(self._serializer.dumps(self.value) != self._state)
        except Exception:
            # It could be serialized once, so it was changed into something that can't be.
            return True

    def before(self) -> Any:
        """Return the value as it was."""
        return self._serializer.loads(self._state)


class Attributes:
    """The attributes of one loaded session, changed through the facade."""

    __slots__ = ("_notices", "_session", "_snapshots")

    def __init__(self, session: SessionBase, notices: Notices) -> None:
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
        if known is None or known.value is not value:
            self._snapshots[name] = Snapshot(self._session, value)

    def settle(self) -> None:
        """Keep what was changed in place; AttributeNotSerializable if it can't be stored."""
        snapshots, self._snapshots = self._snapshots, {}
        for name, snapshot in snapshots.items():
            if self._session.get(name) is snapshot.value and snapshot.changed():
                stored = as_stored(self._session, name, snapshot.value)
                self._session[name] = stored
                self._notices.note(
                    signals.attribute_replaced,
                    name=name,
                    value=stored,
                    old_value=snapshot.before(),
                )

    def _before(self, name: str) -> Any:
        value = self._session[name]
        snapshot = self._snapshots.get(name)
        return snapshot.before() if snapshot and snapshot.value is value else value
