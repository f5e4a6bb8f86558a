"""A session's data as it was loaded: it remembers what the store holds, to tell what changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, cast

from dirigible_session.attributes import IMMUTABLE

from . import mapping
from .mapping import Delta, Texts
from .operations import StoredData

_MISSING = object()


class LoadedData(dict[str, Any]):
    """A session's data, and what it was in the store.

    Both belong together: where two threads of one request load the session at once, each with its
    own answer from the store, the one whose data is kept is the one that changes are told from.
    """

    stored: StoredData
    #: What was loaded, or given out.
    _values: dict[str, Any]
    #: What was set: that is stored even if it is what was loaded, since a rival may have set it.
    _set: set[str]
    #: Of the save that began last: what was set for it, and what there was. While a task waits for
    #: the store, another one may set and remove more.
    _saving: set[str]
    _taken: dict[str, Any]
    #: What rivals' values took the place of: the value, its text at that time, and its successor.
    _left_behind: Mapping[str, tuple[Any, str, Any]] = MappingProxyType({})
    #: Whether what is stored can't be decoded, so that a save has to put something in its place.
    _is_damaged = False

    def __init__(self, data: Mapping[str, Any], stored: StoredData) -> None:
        super().__init__(data)
        self._set, self._saving = set(), set()
        self._take(dict(self))
        self._remember(stored)

    @classmethod
    def of(cls, stored: StoredData) -> LoadedData:
        """Return what is stored; nothing if it is damaged, which is logged."""
        try:
            return cls(stored.parsed(), stored)
        except ValueError:
            data = cls({}, stored)
            data._is_damaged = True
            log_damage()
            return data

    def saved(self, stored: StoredData) -> None:
        """Tell changes from ``stored`` from now on, which holds what the data is now."""
        self._is_damaged = False
        self._remember(stored)

    def _take(self, values: dict[str, Any]) -> set[str]:
        """Begin a save; return what was set for it, or for one before it that failed."""
        self._taken = values
        self._saving |= self._set
        self._set = set()
        return self._saving

    def _remember(self, stored: StoredData) -> None:
        self.stored = stored
        self._values = self._taken
        self._saving = set()

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(name, str):
            self._set.add(name)
        super().__setitem__(name, value)

    def update(self, *args: Any, **named: Any) -> None:
        """Set many attributes."""
        for name, value in dict(*args, **named).items():
            self[name] = value

    def __ior__(self, other: Any) -> LoadedData:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return an attribute, which is set to ``default`` if it is not there."""
        if name not in self:
            self[name] = default
        return self[name]

    def read(self) -> None:
        """Parse all attributes, which they are."""

    def refresh(self, ours: Texts, stored: Texts) -> None:
        """Take over what rivals changed, and the order in which it is stored."""
        self.read()
        removed_since = self._taken.keys() - self.keys()
        set_since = {name: self[name] for name in self._set if name in self}
        values = {
            name: self[name] if name in self and ours.get(name) == text else mapping.from_text(text)
            for name, text in stored.items()
            if name not in removed_since
        } | set_since
        left_behind = {
            name: (value, ours[name], values.get(name, _MISSING))
            for name, value in self.items()
            if name in ours and type(value) not in IMMUTABLE and values.get(name) is not value
        }
        dict.clear(self)
        dict.update(self, values)
        self._left_behind = {**self._left_behind, **left_behind}

    def is_left_behind(self, name: str, value: object) -> bool:
        """Return whether a rival's value took the place of ``value``, which was changed since."""
        left, text, successor = self._left_behind.get(name, (None, "", None))
        if value is not left or self.get(name, _MISSING) is not successor:
            return False
        try:
            return mapping.to_text(value) != text
        except (TypeError, ValueError):
            return True

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _unpickled, (dict(self), vars(self))

    def delta(self) -> Delta:
        """Return what was changed; TypeError or ValueError if JSON can't hold it."""
        anew = self._take(dict(self))
        if self._is_damaged:
            return Delta(mapping.to_texts(self), clears=True)
        before, values = self.stored.texts, self._values
        after = {}
        for name, value in self.items():
            # The same object, and one that can't be changed in place, has the same text.
            if values.get(name) is value and type(value) in IMMUTABLE and name in before:
                after[name] = before[name]
            else:
                after.update(mapping.to_texts({name: value}))
        return mapping.delta(before, after, anew)


def _unpickled(values: dict[str, Any], state: dict[str, Any]) -> LoadedData:
    data = LoadedData.__new__(LoadedData)
    dict.update(data, values)
    vars(data).update(state)
    return data


class Searchable(StoredData, Protocol):
    """What a store holds of one session, where one attribute can be found without the others."""

    def text_of(self, name: str) -> str | None:
        """Return the JSON text of an attribute, None where there is none; ValueError if damaged."""


_lock = threading.Lock()


class UnreadData(LoadedData):
    """Data of which single attributes are parsed when they are looked up.

    Most requests look up a few, and set one or two. Whatever else is done to it reads all, and
    from then on it is :class:`LoadedData` and no more. Threads of one request may share it.
    """

    stored: Searchable

    def __init__(self, stored: Searchable) -> None:
        # Not empty, since the json module takes a dict's word for that.
        dict.__init__(self, {"": None})
        self.stored = stored
        # What was given out must stay the same object. What was set is here, too.
        self._values, self._taken = {}, {}
        self._set, self._saving = set(), set()

    def _remember(self, stored: StoredData) -> None:
        self.stored = cast("Searchable", stored)
        self._saving = set()

    def delta(self) -> Delta:
        """Return what was changed; TypeError or ValueError if JSON can't hold it."""
        with _lock:
            is_unread = type(self) is UnreadData
            anew = self._take(self._values.copy()) if is_unread else set()
        if not is_unread:
            # Another thread has just read all of it.
            return LoadedData.delta(self)
        try:
            texts = mapping.to_texts(self._taken)
            return Delta(
                {
                    name: text
                    for name, text in texts.items()
                    if name in anew or text != self.stored.text_of(name)
                }
            )
        except ValueError:
            self.read()
            return self.delta()

    def __getitem__(self, name: str) -> Any:
        value = self.get(name, _MISSING)
        if value is _MISSING:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return self.get(name, _MISSING) is not _MISSING

    def get(self, name: Any, default: Any = None) -> Any:
        """Return an attribute, or ``default``."""
        if type(self) is UnreadData and type(name) is str:
            value = self._values.get(name, _MISSING)
            if value is not _MISSING:
                return value
            try:
                text = self.stored.text_of(name)
                # Of this class, since another thread may have changed that of the data by now.
                return default if text is None else UnreadData._parse(self, name, text, default)
            except ValueError:
                # All of it is damaged then, which is told when all of it is read.
                pass
        self.read()
        return dict.get(self, name, default)

    def _parse(self, name: str, text: str, default: Any) -> Any:
        with _lock:
            if type(self) is not UnreadData:
                # Another thread has just read all of it.
                return dict.get(self, name, default)
            if name not in self._values:
                self._values[name] = mapping.from_text(text)
            return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        with _lock:
            if type(self) is UnreadData and type(name) is str:
                self._values[name] = value
                self._set.add(name)
                return
        self.read()
        self[name] = value

    def read(self) -> None:
        """Parse all attributes."""
        with _lock:
            if type(self) is not UnreadData:
                return
            try:
                data = self.stored.parsed()
            except ValueError:
                data, self._is_damaged = {}, True
                self._values = {name: self._values[name] for name in self._saving | self._set}
            dict.clear(self)
            # What was set anew stands behind what was there.
            dict.update(self, data | self._values)
            self._values, self._taken = data, data | self._taken
            self.__class__ = LoadedData  # type: ignore[assignment]
        if self._is_damaged:
            log_damage()


def _after_reading(name: str) -> Callable[..., Any]:
    method = getattr(LoadedData, name)

    def call(self: UnreadData, *args: Any, **named: Any) -> Any:
        self.read()
        return method(self, *args, **named)

    return call


_REST = """
    __delitem__ __eq__ __iter__ __len__ __ne__ __or__ __reduce_ex__ __repr__ __reversed__ __ror__
    clear copy items keys pop popitem values
"""
for _name in _REST.split():
    setattr(UnreadData, _name, _after_reading(_name))


def log_damage() -> None:
    """Log, as Django's own engines do, that stored data can't be decoded."""
    logging.getLogger("django.security.SuspiciousSession").warning("Session data corrupted")
