"""What a reader gives: a session as stored, and a session as shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from dirigible_session.backends.listing import StoredSession
from dirigible_session.lifecycle import Times

RecordState = Literal["active", "expired", "unreadable"]

#: The keys of a record in json, the columns of csv, in this order.
COLUMNS = (
    "handle",
    "state",
    "user_id",
    "username",
    "created",
    "last_accessed",
    "expires",
    "max_inactive_interval",
    "size",
    "attributes",
)
REVEALED_COLUMNS = (*COLUMNS, "session_key")


@dataclass(frozen=True, init=False)
class KeyedSession(StoredSession):
    """A stored session of an engine that keeps session keys, as the stock engines do.

    Whoever holds the key holds the session: it is for tools that copy or end sessions, and not to
    be shown.
    """

    session_key: str = field(default="", repr=False)

    def __init__(
        self,
        digest: str,
        data: Mapping[str, Any] | None,
        times: Times | None,
        expires: float | None,
        size: int,
        error: str,
        session_key: str,
    ) -> None:
        # What a dataclass writes for a frozen class takes three times as long, for each of many.
        fields = self.__dict__
        fields["digest"] = digest
        fields["data"] = data
        fields["times"] = times
        fields["expires"] = expires
        fields["size"] = size
        fields["error"] = error
        fields["session_key"] = session_key


@dataclass(slots=True)
class SessionRecord:
    """One stored session, fit to be shown: its key hidden and its secrets as stars.

    ``session_key`` is None, and values whose names look secret are stars, unless the reader was
    told to reveal them. Datetimes are aware and in UTC, None where unknown; an ``expires`` of None
    also says that the session never times out.
    """

    #: The whole digest of the session's key; the handle is its beginning.
    digest: str
    handle: str
    state: RecordState
    user_id: str | None
    username: str | None
    created: datetime | None
    last_accessed: datetime | None
    expires: datetime | None
    #: Seconds; zero or less: never times out.
    max_inactive_interval: int | None
    #: Bytes as stored.
    size: int
    #: Without Django's own names, which begin with an underscore.
    attributes: dict[str, Any]
    session_key: str | None = None
    #: Why the session is unreadable.
    error: str = ""
