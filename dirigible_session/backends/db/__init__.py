"""Sessions in the database: one row each, written by single guarded statements.

A save is one UPDATE for the version that was read. If a rival was faster, the row is locked, read
again, and this request's changes are laid over it, in a transaction that only that case needs.
The lock is an UPDATE of the version: it works on every database, SQLite among them, where a
transaction that begins by reading may not go on to write; and on MySQL, whose transactions go on
reading what they read first, it makes them see the row as it is now.

All statements go to the database that the routers name for writing. A replica lags behind: it
would still know a session that was ended, and not yet one that has just logged in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth import SESSION_KEY
from django.db import IntegrityError, connections, router, transaction
from django.db.models import F, Q, QuerySet

from dirigible_session.backends import mapping
from dirigible_session.backends.base import EngineBase
from dirigible_session.backends.batch import Copies
from dirigible_session.backends.mapping import Texts
from dirigible_session.backends.operations import Change, StoredData
from dirigible_session.exceptions import SessionConflict
from dirigible_session.lifecycle import EXPIRY_KEY, Times
from dirigible_session.stored import Query, StoredSession

from . import statements
from .rows import COLUMNS, Row, ends, is_over, value_of

if TYPE_CHECKING:
    from dirigible_session.models import AbstractSession

#: How often a save is tried again when rivals are faster.
TRIES = 50
#: How many rows a reader gets at once, and how many ``clear_expired`` deletes at once.
PAGE = 500
BATCH = 1000


class SessionStore(EngineBase):
    """The session store; see the contract in ``backends.base``."""

    can_list = True
    reads_whole = True
    is_transactional = True

    @classmethod
    def get_model_class(cls) -> type[AbstractSession]:
        """Return the model of the table, once the app registry is ready."""
        from dirigible_session.models import Session

        return Session

    def create_model_instance(self, data: dict[str, Any]) -> AbstractSession:
        """Return a new object of the model, for a session with this data.

        The columns of ``AbstractSession`` are filled in by the engine. One whose model has others
        overrides this to fill them, as with Django's engine: they are stored with every save.
        """
        return self.get_model_class()()

    @classmethod
    def _using(cls) -> str:
        return router.db_for_write(cls.get_model_class())

    @classmethod
    def _rows(cls) -> QuerySet[AbstractSession]:
        rows: QuerySet[AbstractSession] = cls.get_model_class()._default_manager.using(cls._using())
        return rows

    @classmethod
    def _row(cls, digest: str) -> QuerySet[AbstractSession]:
        row: QuerySet[AbstractSession] = cls._rows().filter(digest=digest)
        return row

    def _is_over(self, stored: StoredData) -> bool:
        if super()._is_over(stored):
            return True
        # The column tells the end by the limits of then, which may have been lowered since.
        end = self.end_of(cast("Row", stored).expiry, stored.times)
        return end is not None and end <= time.time()

    # The operations.

    def _read(self, digest: str) -> Row | None:
        columns = statements.select(self.get_model_class(), self._using(), COLUMNS, digest)
        return None if columns is None else Row.of(*columns)

    def _has(self, digest: str) -> bool:
        return self._row(digest).exists()

    def _insert(self, digest: str, texts: Texts, times: Times) -> Row | None:
        row = self._row_of(texts, times, version=0)
        try:
            with self._savepoint():
                self._instance(digest, row).save(force_insert=True, using=self._using())
        except IntegrityError:
            if self._has(digest):
                return None
            raise
        return row

    def _update(self, digest: str, change: Change) -> Row | None:
        loaded = cast("Row | None", change.loaded)
        if loaded is not None:
            row = self._changed(loaded, change)
            as_read = {"accessed <=": row.times.accessed, "version =": loaded.version}
            if self._set(self._values(row, change), digest, as_read):
                return row
        return self._update_again(digest, change)

    def _replace(self, digest: str, found: StoredData, texts: Texts, times: Times) -> bool:
        version = cast("Row", found).version
        row = self._row_of(texts, times, version + 1)
        columns = self._columns(row) | self._further_columns(row)
        return self._set(columns, digest, {"version =": version})

    def _renew(self, digest: str, loaded: StoredData, accessed: float) -> bool:
        row = cast("Row", loaded)
        older = {"version =": row.version, "accessed <": accessed}
        renewal = self._renewal(row, accessed)
        return self._set(renewal, digest, older) or self._renew_again(digest, accessed)

    def _remove(self, digest: str) -> None:
        self._row(digest)._raw_delete(self._using())

    def _remove_if(self, digest: str, found: StoredData) -> bool:
        row = cast("Row", found)
        as_found = self._row(digest).filter(version=row.version, accessed=row.times.accessed)
        return bool(as_found._raw_delete(self._using()))

    # Where a rival was faster.

    def _update_again(self, digest: str, change: Change) -> Row | None:
        for _ in range(TRIES):
            # Not left by an exception: that would spoil a transaction that goes on around it.
            with transaction.atomic(using=self._using(), savepoint=False):
                fresh = self._locked(digest)
                if fresh is None:
                    return None
                row = self._changed(fresh, change)
                if self._set(self._values(row, change), digest, {"version =": fresh.version + 1}):
                    return row
        raise SessionConflict(TRIES)

    def _renew_again(self, digest: str, accessed: float) -> bool:
        with transaction.atomic(using=self._using(), savepoint=False):
            fresh = self._locked(digest)
            if fresh is None:
                return False
            if fresh.times.accessed < accessed:
                self._set(self._renewal(fresh, accessed), digest, {})
            return True

    def _locked(self, digest: str) -> Row | None:
        """Lock a row until the end of the transaction and return what it was before.

        None if it is gone or over.
        """
        self._row(digest).update(version=F("version") + 1)
        row = self._read(digest)
        if row is None or (row.expires is not None and row.expires <= time.time()):
            return None
        return replace(row, version=row.version - 1)

    def _set(self, values: Mapping[str, Any], digest: str, conditions: Mapping[str, Any]) -> bool:
        return statements.update(
            self.get_model_class(), self._using(), values, {"digest =": digest, **conditions}
        )

    def _savepoint(self) -> AbstractContextManager[Any]:
        # PostgreSQL takes no statement after one that failed, unless that is undone by itself.
        # Outside a transaction there is nothing to spoil, and a BEGIN and a COMMIT to save.
        using = self._using()
        if connections[using].get_autocommit():
            return nullcontext()
        return transaction.atomic(using=using)

    # From what a save has to store to columns.

    def _changed(self, stored: Row, change: Change) -> Row:
        before = stored if change.loaded is None else change.loaded
        times = mapping.merged_times(before.times, change.times, stored.times)
        texts = change.delta.laid_over(stored.texts)
        return self._row_of(texts, times, stored.version + 1)

    def _row_of(self, texts: Texts, times: Times, version: int) -> Row:
        expires = self.end_of(value_of(texts, EXPIRY_KEY), times)
        return Row.holding(texts, times, expires, version)

    def _once_durable(self, note: Callable[[], None]) -> None:
        # What a transaction stores may be undone: until it commits, it counts as unsaved.
        connection = connections[self._using()]
        if connection.in_atomic_block:
            connection.on_commit(note)
        else:
            note()

    def _columns(self, row: Row) -> dict[str, Any]:
        return {
            "session_data": row.document,
            "created": row.times.created,
            "accessed": row.times.accessed,
            "interval": row.times.interval,
            "authenticated": row.times.authenticated,
            "user_id": mapping.user_of(value_of(row.texts, SESSION_KEY)),
            "version": row.version,
        } | ends(row.expires)

    def _further_columns(self, row: Row) -> dict[str, Any]:
        fields = statements.further(self.get_model_class())
        if not fields:
            return {}
        instance = self.create_model_instance(row.parsed())
        connection = connections[self._using()]
        values = {field: field.pre_save(instance, add=False) for field in fields}
        return {
            field.column: field.get_db_prep_save(value, connection)
            for field, value in values.items()
            # The database's own default is there already.
            if not hasattr(value, "as_sql")
        }

    def _instance(self, digest: str, row: Row) -> AbstractSession:
        instance = self.create_model_instance(row.parsed())
        for name, value in {"digest": digest, **self._columns(row)}.items():
            setattr(instance, name, value)
        return instance

    def _values(self, row: Row, change: Change) -> dict[str, Any]:
        """Return what an UPDATE has to set."""
        columns = self._columns(row) | self._further_columns(row)
        del columns["created"]
        if change.new_digest is not None:
            columns["digest"] = change.new_digest
        return columns

    def _renewal(self, row: Row, accessed: float) -> dict[str, Any]:
        expires = self.end_of(
            value_of(row.texts, EXPIRY_KEY), replace(row.times, accessed=accessed)
        )
        return {"accessed": accessed} | ends(expires)

    # Many at once, see `backends.batch`.

    def _read_many(self, digests: Iterable[str]) -> dict[str, StoredData]:
        rows = self._rows().filter(digest__in=list(digests)).values_list("digest", *COLUMNS)
        return {digest: Row.of(*columns) for digest, *columns in rows}

    def _publish(self, digests: Iterable[str]) -> set[str]:
        return set(self._rows().filter(digest__in=list(digests)).values_list("digest", flat=True))

    def _stage(self, copies: Copies) -> set[str]:
        taken = self._publish(copies)
        new = {digest: copy for digest, copy in copies.items() if digest not in taken}
        instances = []
        for digest, (texts, times) in new.items():
            instances.append(self._instance(digest, self._row_of(texts, times, version=0)))
        try:
            with self._savepoint():
                self._rows().bulk_create(instances)
        except (IntegrityError, ValueError):
            # A rival stored one of them, or the model inherits from another one with a table.
            return super()._stage(new)
        return set(new)

    # The readers.

    @classmethod
    def list_stored(cls, query: Query) -> Iterator[StoredSession]:
        """Walk the stored sessions that ``query`` asks for, a page at a time, by their digests.

        No cursor is held open: on MySQL it would hold all rows, on PostgreSQL old ones.
        """
        rows = _asked_for(cls._rows(), query).order_by("digest").values_list("digest", *COLUMNS)
        page = list(rows[:PAGE])
        while page:
            for digest, *columns in page:
                stored = _stored_session(digest, Row.of(*columns))
                stored.position = digest
                yield stored
            if len(page) < PAGE:
                break
            page = list(rows.filter(digest__gt=page[-1][0])[:PAGE])

    @classmethod
    def end_stored(cls, digests: Sequence[str]) -> set[str]:
        """Delete these sessions and return the digests of those that were still there.

        It takes one statement, two on MySQL, for each 500 of them.
        """
        model, using = cls.get_model_class(), cls._using()
        wanted, ended = list(dict.fromkeys(digests)), set()
        for start in range(0, len(wanted), PAGE):
            ended |= statements.delete(model, using, wanted[start : start + PAGE])
        return ended

    # What is over.

    @classmethod
    def clear_expired(cls) -> None:
        """Delete what is over, in batches that are transactions of their own.

        Of what is over, nothing but the digests is read. No signal of the model is sent.
        """
        now = time.time()
        while cls._clear_batch(now):
            pass

    @classmethod
    def _clear_batch(cls, now: float) -> int:
        using, over = cls._using(), is_over(now)
        # Not as a subquery: MySQL takes none with a limit, and PostgreSQL, until it has analyzed
        # the table, may run it again for every row.
        batch = list(cls._rows().filter(over).values_list("digest", flat=True)[:BATCH])
        if not batch:
            return 0
        # Asked again, for what was renewed since the batch was found.
        deleted: int = cls._rows().filter(over, digest__in=batch)._raw_delete(using)
        return deleted


def _asked_for(rows: QuerySet[AbstractSession], query: Query) -> QuerySet[AbstractSession]:
    if query.state == "expired":
        rows = rows.filter(is_over(query.now))
    elif query.state == "active":
        rows = rows.filter(Q(expires__isnull=True) | Q(expires__gt=query.now))
    if query.digest_prefix:
        # The next character after all hex digits. A LIKE would need an index of its own.
        end = query.digest_prefix + "g"
        rows = rows.filter(digest__gte=query.digest_prefix, digest__lt=end)
    if query.digests is not None:
        rows = rows.filter(digest__in=query.digests)
    if query.after:
        rows = rows.filter(digest__gt=query.after)
    if query.user_id is not None:
        rows = rows.filter(user_id=mapping.indexed_user(query.user_id))
    return rows


def _stored_session(digest: str, row: Row) -> StoredSession:
    data, error = None, ""
    try:
        data = row.parsed()
    except ValueError as damage:
        error = str(damage)
    return StoredSession(digest, data, row.times, row.expires, len(row.document), error)
