"""The interface between engines and readers: queries, and the stored sessions that match them."""

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

#: The maximum length of a user's primary key, as text, in the index of sessions by user.
USER_ID_LENGTH = 255

#: Names in a session's data that begin with it are reserved for Django, as it documents.
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
    """Return the attributes in a session's data: all entries except Django's own.

    Keys that are not strings, which a pickled session may have, are left out too.
    """
    # The same as is_name(), without a function call for each name.
    return {
        name: value
        for name, value in data.items()
        if isinstance(name, str) and name[:1] != RESERVED
    }


def user_id_of(data: Mapping[str, Any] | None) -> str | None:
    """Return the primary key, as text, of the logged-in user; None if anonymous."""
    user_id = None if data is None else data.get(SESSION_KEY)
    return None if user_id is None else str(user_id)


def from_json(text: bytes | str) -> Any:
    """Return the value of a JSON text; ValueError if it is damaged or nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def from_document(document: bytes | str) -> dict[str, Any]:
    """Return the attributes in a JSON object; ValueError if the text is not a JSON object."""
    data = from_json(document)
    if not isinstance(data, dict):
        raise ValueError(f"a JSON object is expected, not {type(data).__name__}")
    return data


def read_undecoded(using: str, query: Callable[[], T]) -> T:
    """Execute a query and return its result; text on SQLite that is not UTF-8 comes as bytes.

    Python's driver raises an error for such text, so that the other rows can't be read either.
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
    """One stored session, as its engine returns it to a reader."""

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
    #: The key, on engines that store it; else None. It opens the session, so it is never shown;
    #: it is for tools that copy or end sessions.
    session_key: str | None = field(default=None, repr=False)
    #: The position of this session, to continue after it, see ``Query.after``. It is never shown:
    #: on Django's engines it may be the key.
    position: str = field(default="", repr=False)
    #: Set by the reader, not by engines: the state at the time of the query, the expiry (None:
    #: never, or unknown), and the interval in seconds.
    state: RecordState | None = None
    end: float | None = None
    interval: int | None = None


@dataclass(frozen=True)
class Query:
    """The filters of a reader, as far as a store can apply them by its indexes."""

    #: Seconds since the epoch.
    now: float
    state: State = "all"
    digest_prefix: str = ""
    #: Only sessions with these digests; None: any.
    digests: tuple[str, ...] | None = None
    user_id: str | None = None
    #: The position after which a list in pages continues, "" for its first page. Each session
    #: then has its ``position``. None: all sessions are listed, in the cheapest order.
    after: str | None = None
    #: Of a list in pages: the ``time.monotonic()`` at which :class:`Paused` is raised, for stores
    #: that may have to scan many records without finding a session.
    until: float | None = None

    def names_key(self, session_key: str) -> bool:
        """Return whether the filters by digest match a session key."""
        if not self.digest_prefix and self.digests is None:
            return True
        digest = handles.digest(session_key)
        is_listed = self.digests is None or digest in self.digests
        return is_listed and digest.startswith(self.digest_prefix)

    def pause(self, position: str) -> None:
        """Raise Paused if the list in pages has reached its time limit."""
        if self.until is not None and time.monotonic() > self.until:
            raise Paused(position)


class Paused(Exception):
    """A list in pages has reached its time limit; it continues after ``position``."""

    def __init__(self, position: str) -> None:
        super().__init__()
        self.position = position


class Listable(Protocol):
    """The methods of a store class with ``can_list = True`` that readers use."""

    can_list: bool

    @classmethod
    def list_stored(cls, query: Query) -> Iterator[StoredSession]:
        """Yield the stored sessions that match ``query``, in constant memory.

        The filters by digest and user are applied; the state may be ignored. If ``after`` is not
        None, each session has its ``position``, and a later call can continue after it.
        """

    @classmethod
    def by_digest(cls, digest: str) -> Any:
        """Return the loaded store of a session, to be read or flushed; LookupError if gone."""

    @classmethod
    def end_stored(cls, digests: Sequence[str]) -> set[str]:
        """Delete these sessions and return the digests of those that were still stored.

        If several callers end a session at once, exactly one of them gets its digest. It takes at
        most two statements or round trips for each batch.
        """


def in_batches(
    sessions: Iterable[StoredSession], count: int, size: int
) -> Iterator[list[StoredSession]]:
    """Yield sessions in batches of ``count``, or fewer if their data reaches ``size`` bytes."""
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
