"""A session's data as this request sees it, and the changes that are not stored yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, MutableMapping, Set
from functools import partial
from typing import Any

from dirigible_session.stored import from_json

from . import mapping
from .mapping import Confidential, Delta
from .operations import StoredData

_MISSING: Any = object()


class SessionData(MutableMapping[str, Any]):
    """A session's data. A single attribute can be looked up without parsing the others.

    The data does not change when other requests store something. A save has to store every
    attribute that was set, and every attribute whose text differs from the loaded text.
    """

    def __init__(self, stored: StoredData, values: dict[str, Any] | None = None) -> None:
        """Hold the data of a stored session; ``values`` are its parsed attributes, if known."""
        self.stored = stored
        #: The attributes that were looked up or set.
        self._values: dict[str, Any] = {} if values is None else values
        #: The loaded texts of the attributes that were looked up. Once all attributes have been
        #: read, the next save adds the texts of the rest.
        self._texts: dict[str, str] = {}
        self._rest = None if values is None else stored
        #: The names that were set, even to the same value: another request may have set another.
        self._set: set[str] = set()
        self._is_whole = values is not None
        self._is_damaged = False
        self._lock = threading.Lock()

    def get(self, name: Any, default: Any = None) -> Any:
        """Return an attribute, or ``default``."""
        value = self._values.get(name, _MISSING)
        if value is _MISSING and not self._is_whole and isinstance(name, str):
            value = self._look_up(name)
        return default if value is _MISSING else value

    def __getitem__(self, name: str) -> Any:
        value = self.get(name, _MISSING)
        if value is _MISSING:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return self.get(name, _MISSING) is not _MISSING

    def _look_up(self, name: str) -> Any:
        try:
            text = self.stored.text_of(name)
            value = _MISSING if text is None else from_json(text)
        except ValueError:
            # If one attribute is damaged, all of them count as damaged.
            self.read()
            return self._values.get(name, _MISSING)
        with self._lock:
            # Another thread may have looked it up or set it meanwhile.
            if text is not None and not self._is_whole and name not in self._values:
                self._values[name] = value
                self._texts[name] = text
            return self._values.get(name, _MISSING)

    def read(self) -> None:
        """Parse all attributes."""
        with self._lock:
            if self._is_whole:
                return
            try:
                values = self.stored.parsed()
            except ValueError:
                values, self._is_damaged = {}, True
                self._values = {name: self._values[name] for name in self._set}
                log_damage()
            # New attributes come after the stored attributes.
            self._values = values | self._values if self._values else values
            self._rest, self._is_whole = self.stored, True

    def __setitem__(self, name: str, value: Any) -> None:
        with self._lock:
            self._values[name] = value
            if isinstance(name, str):
                self._set.add(name)

    def __delitem__(self, name: str) -> None:
        self.read()
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        self.read()
        return iter(self._values)

    def __len__(self) -> int:
        self.read()
        return len(self._values)

    def __repr__(self) -> str:
        # Error reports show this, so it includes no values.
        return f"<session data: {', '.join(map(repr, self)) or 'nothing'}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def delta(self) -> Delta:
        """Return the changes; TypeError or ValueError if a value can't be encoded as JSON."""
        with self._lock:
            if self._rest is not None:
                self._texts, self._rest = Confidential(self._rest.texts) | self._texts, None
            values, anew, before = Confidential(self._values), frozenset(self._set), self._texts
            is_whole = self._is_whole
        after = mapping.texts_since(before, values)
        if self._is_damaged:
            return Delta(after, clears=True, anew=anew)
        if is_whole:
            return mapping.delta(before, after, anew)
        changed = mapping.changed_texts(before, after, anew)
        return Delta(changed, anew=anew, before=mapping.dicts_before(before, changed))

    def saved(self, delta: Delta, stored: StoredData) -> Callable[[], None]:
        """Note that the changes are stored now; return a function that takes this back."""
        with self._lock:
            take_back = partial(
                self._not_saved, self.stored, self._texts, delta.anew, self._is_damaged
            )
            self.stored, self._is_damaged = stored, False
            kept = {} if delta.clears else self._texts
            self._texts = Confidential(
                (name, kept[name]) for name in kept if name not in delta.removed
            )
            self._texts |= delta.changed
            self._set -= delta.anew
            return take_back

    def _not_saved(
        self, stored: StoredData, texts: dict[str, str], anew: Set[str], is_damaged: bool
    ) -> None:
        with self._lock:
            self.stored, self._texts, self._is_damaged = stored, texts, is_damaged
            self._set |= anew


def log_damage() -> None:
    """Log, as Django's own engines do, that stored data can't be decoded."""
    logging.getLogger("django.security.SuspiciousSession").warning("Session data corrupted")
