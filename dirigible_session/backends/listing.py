"""What readers of stored sessions ask of an engine, and what it gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dirigible_session.lifecycle import Times

State = Literal["active", "expired", "all"]


@dataclass(frozen=True)
class StoredSession:
    """One stored session, as its engine gives it to a reader."""

    #: The digest of its key, see ``handles.digest``; the engine keeps no key.
    digest: str
    #: All its data, Django's own names included; None if it can't be decoded.
    data: Mapping[str, Any] | None
    times: Times | None
    #: When it ends, in seconds since the epoch; None: never.
    expires: float | None
    #: Bytes as stored.
    size: int
    #: Why ``data`` is None.
    error: str = ""


@dataclass(frozen=True)
class Query:
    """Which stored sessions a reader wants, as far as a store can tell by its indexes."""

    #: Seconds since the epoch.
    now: float
    state: State = "all"
    digest_prefix: str = ""
    user_id: str | None = None


class Listable(Protocol):
    """What a store class with ``can_list = True`` offers to the readers."""

    can_list: bool

    @classmethod
    def list_stored(cls, query: Query) -> Iterator[StoredSession]:
        """Walk the stored sessions that ``query`` asks for, in constant memory."""

    @classmethod
    def by_digest(cls, digest: str) -> Any:
        """Return the loaded store of one session, to be read or flushed; LookupError if gone."""
