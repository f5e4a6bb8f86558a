"""Reading the table of the ``db`` and ``cached_db`` engines, and of those that derive from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections
from django.utils.timezone import is_naive, make_aware, make_naive

from dirigible_session import handles
from dirigible_session.inspection.errors import answering, guarded
from dirigible_session.lifecycle import TIMES_KEY, Times
from dirigible_session.stored import StoredSession

from .decoding import Data, Decoder, Undecodable

if TYPE_CHECKING:
    from django.contrib.sessions.backends.db import SessionStore
    from django.db.models import QuerySet

    from dirigible_session.stored import Query

#: Rows that are in memory at a time.
CHUNK = 200

Decode = Callable[[str], Data]


class DatabaseReader:
    """The sessions in a table. ``CHUNK`` rows of it are in memory at a time."""

    def __init__(self, store_class: type[SessionStore]) -> None:
        self._store_class = store_class
        self._table: Any = store_class.get_model_class()
        self._what = f"The table {self._table._meta.db_table}"

    def count(self) -> int | None:
        """Return how many sessions are stored."""
        with answering(self._what):
            return int(self._table.objects.count())

    def keys(self) -> Iterator[str]:
        """Walk the session keys."""
        rows = guarded(self._what, self._walked(self._table.objects.all(), ("session_key",)))
        return (row[0] for row in rows)

    def by_keys(self, keys: Iterable[str]) -> Iterator[StoredSession]:
        """Give the sessions of these keys that are there."""
        remaining = iter(keys)
        while batch := list(islice(remaining, CHUNK)):
            yield from self._read(self._table.objects.filter(session_key__in=batch))

    def walk(self, query: Query) -> Iterator[StoredSession]:
        """Walk the sessions; by their expiry in the table, where the query asks for it."""
        rows = self._table.objects.all()
        if query.state == "active":
            rows = rows.filter(expire_date__gt=_as_column(query.now))
        return self._read(rows)

    def _read(self, rows: QuerySet[Any]) -> Iterator[StoredSession]:
        decode = Decoder(self._store_class()).decode
        columns = ("session_key", "session_data", "expire_date")
        for key, text, expires in guarded(self._what, self._walked(rows, columns)):
            yield _session(decode, key, text, expires)

    def _walked(self, rows: QuerySet[Any], columns: tuple[str, ...]) -> Iterator[Any]:
        if _can_stream(rows.db):
            yield from rows.values_list(*columns).iterator(chunk_size=CHUNK)
            return
        page = rows.order_by("session_key").values_list(*columns)[:CHUNK]
        while read := list(page):
            yield from read
            after = rows.filter(session_key__gt=read[-1][0])
            page = after.order_by("session_key").values_list(*columns)[:CHUNK]


def _session(decode: Decode, key: str, text: str, expires: datetime | None) -> StoredSession:
    data, reason = None, ""
    try:
        data = decode(text)
    except Undecodable as error:
        reason = str(error)
    return StoredSession(
        handles.digest(key),
        data,
        None if data is None else Times.from_record(data.get(TIMES_KEY)),
        None if expires is None else _timestamp(expires),
        len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")),
        reason,
        key,
    )


def _can_stream(alias: str) -> bool:
    """Return whether ``iterator()`` gets the rows from the server as they are needed.

    MySQL's drivers, and PostgreSQL's without server-side cursors, load a whole result at once.
    """
    connection = connections[alias]
    if connection.vendor == "postgresql":
        return not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    return connection.vendor in ("sqlite", "oracle")


def _timestamp(moment: datetime) -> float:
    return (make_aware(moment) if is_naive(moment) else moment).timestamp()


def _as_column(timestamp: float) -> datetime:
    moment = datetime.fromtimestamp(timestamp, timezone.utc)
    return moment if settings.USE_TZ else make_naive(moment)
