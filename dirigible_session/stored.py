"""A stored session, as engines give it to readers: what readers ask for, and what they get."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from django.contrib.auth import SESSION_KEY
from django.db import OperationalError, connections

from . import handles
from .lifecycle import Times

#: The longest primary key of a user, as text, by which sessions are found.
USER_ID_LENGTH = 255

#: Names in a session's data that begin with it are Django's own, by its documented convention.
RESERVED = "_"

#: Types whose values can't be changed in place.
IMMUTABLE = frozenset({str, int, float, bool, type(None)})

T = TypeVar("T")

State = Literal["active", "expired", "all"]
RecordState = Literal["active", "expired", "unreadable"]


def is_name(name: object) -> bool:
    """Return whether ``name`` can name an attribute."""
    return isinstance(name, str) and not name.startswith(RESERVED)


def attributes_of(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the attributes in a session's data: all entries but Django's own.

    Keys that are not strings, which a cache may have pickled, are left out too.
    """
    # As is_name(), without a call for each name.
    return {
        name: value
        for name, value in data.items()
        if isinstance(name, str) and name[:1] != RESERVED
    }


def user_id_of(data: Mapping[str, Any] | None) -> str | None:
    """Return the primary key, as text, of who is logged in; None if nobody is."""
    user_id = None if data is None else data.get(SESSION_KEY)
    return None if user_id is None else str(user_id)


def from_json(text: bytes | str) -> Any:
    """Return the value of a JSON text; ValueError if it is damaged or nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def from_document(document: bytes | str) -> dict[str, Any]:
    """Return the attributes that a JSON object holds; ValueError if it does not hold any."""
    data = from_json(document)
    if not isinstance(data, dict):
        raise ValueError(f"a JSON object is expected, not {type(data).__name__}")
    return data


def read_undecoded(using: str, query: Callable[[], T]) -> T:
    """Run a query; where SQLite returns text that is not UTF-8, it is returned as bytes.

    Python's driver raises an error for such text, which would hide the other rows too.
    """
    try:
        return query()
    except OperationalError as error:
        if "decode to UTF-8" not in str(error):
            raise
    connection = connections[using].connection
    factory, connection.text_factory = connection.text_factory, _text_or_bytes
    try:
        return query()
    finally:
        connection.text_factory = factory


def _text_or_bytes(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


@dataclass(slots=True)
class StoredSession:
    """One stored session, as its engine gives it to a reader."""

    #: The digest of its key, see ``handles.digest``.
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
    #: The key, on engines that keep it; None elsewhere. Whoever holds it holds the session: it is
    #: for tools that copy or end sessions, and never shown.
    session_key: str | None = field(default=None, repr=False)
    #: Where a walk in pages goes on after this session, see ``Query.after``. Never shown: on
    #: Django's engines it may be the key.
    position: str = field(default="", repr=False)
    #: What the reader makes of it, which engines leave open: whether it is over at the moment of
    #: the walk, when it ends (None: never, or unknown), and its interval in seconds.
    state: RecordState | None = None
    end: float | None = None
    interval: int | None = None


@dataclass(frozen=True)
class Query:
    """Which stored sessions a reader wants, as far as a store can tell by its indexes."""

    #: Seconds since the epoch.
    now: float
    state: State = "all"
    digest_prefix: str = ""
    #: Only the sessions with these digests; None: any.
    digests: tuple[str, ...] | None = None
    user_id: str | None = None
    #: The position after which a walk in pages goes on, "" for its first page. Each session then
    #: has its ``position``. None: the walk is a whole one, in the order that is cheapest.
    after: str | None = None
    #: Of a walk in pages: when to raise :class:`Paused`, as ``time.monotonic()`` tells time. It is
    #: for stores that may look at much without finding a session.
    until: float | None = None

    def names_key(self, session_key: str) -> bool:
        """Return whether the digests that are asked for include that of a session key."""
        if not self.digest_prefix and self.digests is None:
            return True
        digest = handles.digest(session_key)
        is_listed = self.digests is None or digest in self.digests
        return is_listed and digest.startswith(self.digest_prefix)

    def pause(self, position: str) -> None:
        """Raise Paused if the walk in pages took as long as it may."""
        if self.until is not None and time.monotonic() > self.until:
            raise Paused(position)


class Paused(Exception):
    """A walk in pages took as long as it may; it goes on after ``position``."""

    def __init__(self, position: str) -> None:
        super().__init__()
        self.position = position


class Listable(Protocol):
    """What a store class with ``can_list = True`` offers to the readers."""

    can_list: bool

    @classmethod
    def list_stored(cls, query: Query) -> Iterator[StoredSession]:
        """Walk the stored sessions that ``query`` asks for, in constant memory.

        The digests and the user that it names are obeyed; the state may be ignored. If ``after``
        is not None, the order is one in which a later walk can go on, and each session has its
        ``position``.
        """

    @classmethod
    def by_digest(cls, digest: str) -> Any:
        """Return the loaded store of one session, to be read or flushed; LookupError if gone."""

    @classmethod
    def end_stored(cls, digests: Sequence[str]) -> set[str]:
        """Delete these sessions and return the digests of those that were still there.

        Of several callers that end one session at once, exactly one is given its digest. Takes at
        most two statements or round trips.
        """


def in_batches(
    sessions: Iterable[StoredSession], count: int, size: int
) -> Iterator[list[StoredSession]]:
    """Give sessions in batches of so many, or fewer where their data reaches ``size`` bytes."""
    batch: list[StoredSession] = []
    taken = 0
    for stored in sessions:
        batch.append(stored)
        taken += stored.size
        if len(batch) >= count or taken >= size:
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch
