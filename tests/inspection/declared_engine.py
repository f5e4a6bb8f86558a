"""A tiny engine that declares that it can list its sessions, and keeps no keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.contrib.sessions.backends.base import SessionBase

from dirigible_session.lifecycle import Times
from dirigible_session.stored import Query, StoredSession


@dataclass
class Shelf:
    """What is stored, what was asked for, and what goes wrong."""

    stored: dict[str, StoredSession] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    failure: Exception | None = None

    def put(self, digest: str, data: dict[str, Any] | None, **known: Any) -> None:
        times = Times(known.pop("created", 0.0), known.pop("accessed", 0.0))
        known = {"expires": None, "size": 10} | known
        self.stored[digest] = StoredSession(digest=digest, data=data, times=times, **known)


shelf = Shelf()


class SessionStore(SessionBase):
    can_list = True
    keeps_times = True

    @classmethod
    def list_stored(cls, query: Query) -> Iterator[StoredSession]:
        shelf.queries.append(query)
        if shelf.failure:
            raise shelf.failure
        for digest, stored in list(shelf.stored.items()):
            if digest.startswith(query.digest_prefix):
                yield stored

    @classmethod
    def by_digest(cls, digest: str) -> SessionStore:
        store = cls()
        store._session_cache = dict(shelf.stored[digest].data or {})
        store.digest = digest
        return store

    def flush(self) -> None:
        del shelf.stored[self.digest]
