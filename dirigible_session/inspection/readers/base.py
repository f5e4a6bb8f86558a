"""The methods that the readers of all stores have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from dirigible_session import handles
from dirigible_session.inspection.errors import each
from dirigible_session.stored import Query, StoredSession


class Reader(ABC):
    """Reads the stored sessions of an engine, and ends some of them."""

    def __init__(self, store_class: type[Any]) -> None:
        self.store_class = store_class

    def count(self) -> int | None:
        """Return how many sessions are stored; None if only a walk could tell."""
        return None

    @abstractmethod
    def walk(self, query: Query) -> Iterator[StoredSession]:
        """Walk the stored sessions that ``query`` asks for.

        A reader without an index for the state or the user ignores them and returns more sessions.
        """

    @abstractmethod
    def by_key(self, session_key: str) -> StoredSession | None:
        """Return the session with this key; None if there is none."""

    @abstractmethod
    def end(self, sessions: Iterable[StoredSession]) -> Iterator[tuple[StoredSession, bool]]:
        """Delete these sessions; iterate over those that this call deleted or could not delete.

        Each comes with True if this call deleted it, False if the store still has it.
        """


class OwnReader(Reader):
    """Reads an engine that lists its sessions itself, see ``stored.Listable``."""

    def __init__(self, store_class: type[Any]) -> None:
        super().__init__(store_class)
        self._what = f"The store of {store_class.__module__}"

    def walk(self, query: Query) -> Iterator[StoredSession]:
        """Walk the stored sessions that ``query`` asks for."""
        return each(self._what, self.store_class.list_stored(query))

    def by_key(self, session_key: str) -> StoredSession | None:
        """Return the session with this key; None if there is none."""
        return next(self.walk(Query(now=0, digest_prefix=handles.digest(session_key))), None)

    def end(self, sessions: Iterable[StoredSession]) -> Iterator[tuple[StoredSession, bool]]:
        """Delete these sessions in one call to the engine."""
        by_digest = {stored.digest: stored for stored in sessions}
        ended = self.store_class.end_stored(list(by_digest))
        yield from ((stored, True) for digest, stored in by_digest.items() if digest in ended)


class KeyedReader(Reader):
    """Reads an engine whose store is found by session key, as Django's are."""

    @abstractmethod
    def pages(self, query: Query) -> Iterator[dict[str, str]]:
        """Walk the session keys, a page of them at a time, each with its position.

        In a walk in pages it raises Paused after the page in which the time was over.
        """

    @abstractmethod
    def read(self, keys: Iterable[str]) -> Iterator[StoredSession]:
        """Read the sessions with these keys that are still there."""

    @abstractmethod
    def delete(self, session_key: str) -> bool:
        """Delete the session with this key from the store; return whether this call did it."""

    def walk(self, query: Query) -> Iterator[StoredSession]:
        """Walk the sessions; of those that are not asked for by their digest, no data is read."""
        for positions in self.pages(query):
            for stored in self.read(filter(query.names_key, positions)):
                stored.position = positions.get(stored.session_key or "", "")
                yield stored

    def by_key(self, session_key: str) -> StoredSession | None:
        """Return the session with this key; None if there is none."""
        return next(self.read([session_key]), None)

    def end(self, sessions: Iterable[StoredSession]) -> Iterator[tuple[StoredSession, bool]]:
        """Delete these sessions, and flush their stores, which may have a cached copy."""
        for stored in sessions:
            store = self.store_class(stored.session_key)
            # Django's engines do not accept a key that is too short to be safe.
            is_ended = store.session_key is not None and self.delete(store.session_key)
            store.flush()
            if self.store_class().exists(stored.session_key):
                yield stored, False
            elif is_ended:
                yield stored, True
