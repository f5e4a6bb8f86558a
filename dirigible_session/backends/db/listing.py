"""Listing the sessions in the table, and deleting many of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import Case, Q, QuerySet, TextField, When
from django.db.models.functions import Length

from dirigible_session.backends import mapping
from dirigible_session.stored import Query, StoredSession, read_undecoded

from . import statements
from .rows import COLUMNS, Row, is_over
from .transactions import tried_again

if TYPE_CHECKING:
    from dirigible_session.models import AbstractSession

#: The number of rows that a reader gets at once, and that ``clear_expired`` deletes at once.
PAGE = 500
BATCH = 1000
#: Documents of more bytes are read one by one.
LARGE = 16_000


class DatabaseListing(ABC):
    """The methods for readers and ``clearsessions``; all are sync and use bounded memory."""

    @classmethod
    @abstractmethod
    def get_model_class(cls) -> type[AbstractSession]:
        """Return the model of the table."""

    @classmethod
    @abstractmethod
    def _using(cls) -> str:
        """Return the database that sessions are written to."""

    @classmethod
    @abstractmethod
    def _rows(cls) -> QuerySet[AbstractSession]:
        """Return all rows of that database."""

    @abstractmethod
    def _read(self, digest: str) -> Row | None:
        """Return the row of a session."""

    @classmethod
    def list_stored(cls, query: Query) -> Iterator[StoredSession]:
        """Yield the stored sessions that match ``query``, in pages, in the order of their digests.

        No cursor is held open: on MySQL it would keep all rows in memory, on PostgreSQL it would
        keep old row versions from being removed. A page takes at most 8 MB, or the size of the
        largest session: documents of more than 16 kB are read one by one.
        """
        document = Case(When(size__lte=LARGE, then="session_data"), output_field=TextField())
        rows = (
            _asked_for(cls._rows(), query)
            .annotate(size=Length("session_data"), document=document)
            .order_by("digest")
            .values_list("digest", "document", *COLUMNS[1:])
        )
        page_of_rows = rows[:PAGE]
        while True:
            page: list[Any] = read_undecoded(cls._using(), partial(list, page_of_rows))
            for digest, *columns in page:
                row = Row.of(columns) if columns[0] is not None else cls()._read(digest)
                if row is not None:
                    yield _stored_session(digest, row)
            digests = [digest for digest, *_ in page if isinstance(digest, str)]
            if len(page) < PAGE or not digests:
                return
            page_of_rows = rows.filter(digest__gt=digests[-1])[:PAGE]

    @classmethod
    @tried_again
    def end_stored(cls, digests: Sequence[str]) -> set[str]:
        """Delete these sessions and return the digests of those that were still stored.

        It executes one statement, or two on MySQL, for every 500 sessions.
        """
        model, using = cls.get_model_class(), cls._using()
        wanted, ended = list(dict.fromkeys(digests)), set()
        for start in range(0, len(wanted), PAGE):
            ended |= statements.delete_all(model, using, wanted[start : start + PAGE])
        return ended

    @classmethod
    def clear_expired(cls) -> None:
        """Delete all expired sessions in batches, each in its own transaction.

        At most the digests of the sessions are read, and no model signals are sent.
        """
        now = time.time()
        while cls._clear_batch(now):
            pass

    @classmethod
    @tried_again
    def _clear_batch(cls, now: float) -> int:
        using, over = cls._using(), is_over(now)
        batch: Collection[str] = cls._rows().filter(over).values_list("digest", flat=True)[:BATCH]
        # On SQLite a digest may not be valid text, so it stays in a subquery. MySQL does not
        # support LIMIT in one, and PostgreSQL may execute it for every row of a table that has
        # not been analyzed yet.
        if connections[using].vendor != "sqlite":
            batch = list(batch)
            if not batch:
                return 0
        # The condition is repeated because sessions may have been renewed since the SELECT.
        deleted: int = cls._rows().filter(over, digest__in=batch)._raw_delete(using)
        return deleted


def _asked_for(rows: QuerySet[AbstractSession], query: Query) -> QuerySet[AbstractSession]:
    if query.state == "expired":
        rows = rows.filter(is_over(query.now))
    elif query.state == "active":
        rows = rows.filter(Q(expires__isnull=True) | Q(expires__gt=query.now))
    if query.digest_prefix:
        # "g" is greater than every hex digit. A LIKE would need another index.
        end = query.digest_prefix + "g"
        rows = rows.filter(digest__gte=query.digest_prefix, digest__lt=end)
    if query.digests is not None:
        rows = rows.filter(digest__in=query.digests)
    if query.after:
        rows = rows.filter(digest__gt=query.after)
    if query.user_id is not None:
        rows = rows.filter(user_id=mapping.indexed_user(query.user_id))
    return rows


def _stored_session(column: str | bytes, row: Row) -> StoredSession:
    digest = column if isinstance(column, str) else column.decode("ascii", "backslashreplace")
    data, error = None, ""
    try:
        data = row.parsed()
    except ValueError as damage:
        error = str(damage)
    times = None if row.error else row.times
    size = len(row.document)
    return StoredSession(digest, data, times, row.expires, size, error, position=digest)
