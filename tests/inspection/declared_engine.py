"""A tiny engine that declares that it can list its sessions, and keeps no keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    ended: list[list[str]] = field(default_factory=list)
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
        for digest, stored in sorted(shelf.stored.items()):
            is_named = query.digests is None or digest in query.digests
            if is_named and digest.startswith(query.digest_prefix) and digest > (query.after or ""):
                stored.position = digest
                yield stored

    @classmethod
    def end_stored(cls, digests: Sequence[str]) -> set[str]:
        shelf.ended.append(list(digests))
        return {digest for digest in digests if shelf.stored.pop(digest, None)}
