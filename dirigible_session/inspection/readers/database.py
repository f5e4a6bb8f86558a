"""Reading the table of the ``db`` and ``cached_db`` engines, and of engines with such a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone, tzinfo
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, ProgrammingError, connections
from django.db.models import Case, DateTimeField, ExpressionWrapper, F, Field, TextField, When
from django.db.models.functions import Length
from django.utils.timezone import make_aware, make_naive

from dirigible_session import handles
from dirigible_session.inspection.errors import store_errors_as
from dirigible_session.lifecycle import TIMES_KEY, Times
from dirigible_session.stored import Query, StoredSession, read_undecoded

from .base import KeyedReader
from .decoding import Decoder, Undecodable

if TYPE_CHECKING:
    from django.db.models import Model

#: The columns of a table of sessions.
COLUMNS = {"session_key", "session_data", "expire_date"}

#: Rows that are read at a time: few at first, since few may be wanted.
FIRST_CHUNK = 100
CHUNK = 2000
#: Data of up to SHORT characters is read with its row. Longer data is read afterwards, up to LONG
#: characters at a time, or a single row if that is longer.
SHORT = 2500
LONG = 5_000_000
#: Session keys that are read at a time.
KEYS = 5000

#: Raised for a row whose columns hold values of other types, which SQLite allows.
_UNREADABLE = (ValueError, TypeError, OverflowError, DatabaseError)

_EPOCH = datetime(1970, 1, 1)

#: A query for rows. The table may be the project's own.
Rows = Any

#: A row: the session key, the data (None if it is long), the expiry, and the length of the data.
Row = tuple[Any, Any, Any, Any]


def table_of(store_class: type[Any]) -> type[Model] | None:
    """Return the model whose table an engine keeps its sessions in, if it is shaped like Django's.

    A store that does not derive from Django's, such as that of django-user-sessions, has no method
    for it. Its model is then the only model of its app that has the columns.
    """
    if hasattr(store_class, "get_model_class"):
        table: type[Model] = store_class.get_model_class()
        return table
    app = apps.get_containing_app_config(store_class.__module__)
    models = [] if app is None else list(app.get_models())
    models = [
        model
        for model in models
        if {field.name for field in model._meta.concrete_fields} >= COLUMNS
    ]
    return models[0] if len(models) == 1 else None


class DatabaseReader(KeyedReader):
    """The sessions in a table, in the order of their keys.

    At a time, up to 2000 rows are in memory, with up to 2500 characters of data each, and up to
    5,000,000 characters of longer rows, or one row that is longer than that. Each page is a
    statement of its own, so that no lock is held between them.
    """

    def __init__(self, store_class: type[Any], table: type[Model]) -> None:
        super().__init__(store_class)
        self._rows: Any = table._default_manager
        self._what = f"The table {table._meta.db_table}"

    def count(self) -> int | None:
        """Return how many sessions are stored."""
        with store_errors_as(self._what):
            return int(self._rows.count())

    def pages(self, query: Query) -> Iterator[dict[str, str]]:
        """Walk the session keys; the position of a session is its key."""
        keys = self._rows.values_list("session_key")
        for page in self._in_pages(keys, query.after, KEYS):
            keys = [key for key, *_ in page if isinstance(key, str)]
            yield dict(zip(keys, keys, strict=True))
            for last in keys[-1:]:
                query.pause(last)

    def walk(self, query: Query) -> Iterator[StoredSession]:
        """Walk the sessions, by their expiry in the table if the query asks for it."""
        if query.digest_prefix or query.digests is not None:
            yield from super().walk(query)
            return
        rows = self._rows.all()
        if query.state == "active":
            now = datetime.fromtimestamp(query.now, timezone.utc)
            rows = rows.filter(expire_date__gt=now if settings.USE_TZ else make_naive(now))
        decoder = Decoder(self.store_class())
        for page in self._in_pages(self._with_data(rows), query.after, CHUNK):
            yield from self._decoded(decoder, page)

    def read(self, keys: Iterable[str]) -> Iterator[StoredSession]:
        """Read the sessions with these keys that are still there."""
        decoder = Decoder(self.store_class())
        remaining = iter(keys)
        while some := list(islice(remaining, CHUNK)):
            rows = self._with_data(self._rows.filter(session_key__in=some))
            with store_errors_as(self._what):
                page, _ = self._fetched(rows.order_by("session_key"))
            yield from self._decoded(decoder, page)

    def delete(self, session_key: str) -> bool:
        """Delete the row with this key; return whether this call did it."""
        deleted, _ = self._rows.filter(session_key=session_key).delete()
        return bool(deleted)

    def _in_pages(self, rows: Rows, after: str | None, size: int) -> Iterator[list[Row]]:
        last, asked = after, min(FIRST_CHUNK, size)
        while True:
            with store_errors_as(self._what):
                following = rows.filter(session_key__gt=last) if last else rows
                page, count = self._fetched(following.order_by("session_key")[:asked])
            if page:
                yield page
            # Bytes can't be compared with the text of the next keys.
            keys = [key for key, *_ in page if isinstance(key, str)]
            if count < asked or not keys:
                return
            last, asked = keys[-1], min(2 * asked, size)

    def _fetched(self, rows: Rows) -> tuple[list[Row], int]:
        """Return rows, and how many were found; some of them may be gone since."""
        try:
            page = read_undecoded(rows.db, lambda: list(rows))
        except ProgrammingError:
            # No row's fault: the table is missing, or lacks a column.
            raise
        except _UNREADABLE:
            # Because of one row, perhaps: the others are read without it.
            keys = read_undecoded(rows.db, lambda: list(rows.values_list("session_key", flat=True)))
            return [row for key in keys for row in self._row(key)], len(keys)
        return page, len(page)

    def _row(self, key: Any) -> list[Row]:
        rows = self._rows.filter(session_key=key)
        try:
            return list(self._with_data(rows))
        except _UNREADABLE as error:
            # If the key can be read, the database answers, and it is this row.
            list(rows.values_list("session_key"))
            return [(key, Undecodable(f"row can't be read ({type(error).__name__})"), None, 0)]

    def _decoded(self, decoder: Decoder, page: list[Row]) -> Iterator[StoredSession]:
        # No row is found by a key that is not text.
        nameless = Undecodable("key is not text")
        page = [
            row if isinstance(row[0], str) else (repr(row[0]), nameless, None, 0) for row in page
        ]
        zone = connections[self._rows.db].timezone
        long = [(key, length) for key, data, _, length in page if data is None]
        read: dict[Any, Any] = {}
        for key, data, expires, _ in page:
            if data is None:
                if key not in read:
                    read = self._long(long)
                    del long[: len(read)]
                data = read.pop(key)
                if data is None:
                    # Gone since the page was read.
                    continue
            yield _session(decoder, key, data, expires, zone)

    def _with_data(self, rows: Rows) -> Rows:
        # Raw values, since Django's conversion of each value takes longer than reading the row.
        length = Length("session_data", output_field=Field())
        short = Case(When(length__lte=SHORT, then="session_data"), output_field=TextField())
        expires: Any = F("expire_date")
        if type(self._rows.model._meta.get_field("expire_date")) is DateTimeField:
            expires = ExpressionWrapper(expires, output_field=Field())
        return rows.annotate(length=length, short=short, expires=expires).values_list(
            "session_key", "short", "expires", "length"
        )

    def _long(self, rows: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Read the data of as many of these rows as may be in memory; None for one that is gone."""
        keys: list[Any] = []
        size = 0
        for key, length in rows:
            size += length or 0
            if keys and size > LONG:
                break
            keys.append(key)
        with store_errors_as(self._what):
            found = self._rows.filter(session_key__in=keys)
            pairs = found.values_list("session_key", "session_data")
            data = dict(read_undecoded(found.db, lambda: list(pairs)))
        return {key: data.get(key) for key in keys}


def _session(
    decoder: Decoder, key: Any, text: Any, expires: Any, zone: tzinfo | None
) -> StoredSession:
    data, times, expiry, reason, size = None, None, None, "", 0
    try:
        if isinstance(text, Undecodable):
            raise text
        if not isinstance(text, str):
            raise Undecodable("the data of the row is not text")
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if expires is not None:
            expiry = _timestamp(expires, zone)
        data = decoder.decode(text)
        times = Times.from_record(data.get(TIMES_KEY))
    except Undecodable as error:
        reason = str(error)
    except (ValueError, OverflowError, AttributeError) as error:
        # AttributeError: SQLite had a value that is not a date.
        reason = f"expiry can't be read ({type(error).__name__})"
    return StoredSession(handles.digest(key), data, times, expiry, size, reason, key, key)


def _timestamp(moment: datetime, zone: tzinfo | None) -> float:
    if moment.tzinfo is not None:
        return moment.timestamp()
    if zone is timezone.utc:
        # Faster than to make it aware.
        return (moment - _EPOCH).total_seconds()
    return make_aware(moment, zone).timestamp()
