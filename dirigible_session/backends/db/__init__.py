"""Sessions in the database: each is one row, and each save is a single conditional statement.

A save is one UPDATE for the version that was read. If a rival has changed the row since, the row
is locked and read again, and this request's changes are applied to it, in a transaction that is
opened only in that case. The lock is an UPDATE of the version. That works on every database: on
SQLite, a transaction that begins with a SELECT may be unable to write; on MySQL, a SELECT repeats
an earlier result within a transaction, except for rows that the transaction has written.

All statements go to the database that the routers choose for writing. A replica lags behind: it
may still have a session that was ended, and lack a session that has just logged in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth import SESSION_KEY
from django.db import IntegrityError, connections, router, transaction
from django.db.models import F, QuerySet

from dirigible_session.backends import mapping
from dirigible_session.backends.base import EngineBase
from dirigible_session.backends.batch import Copies
from dirigible_session.backends.mapping import Confidential, Texts
from dirigible_session.backends.operations import Change, StoredData
from dirigible_session.exceptions import SessionConflict
from dirigible_session.lifecycle import EXPIRY_KEY, Times, check_expiry
from dirigible_session.stored import read_undecoded

from . import statements
from .listing import BATCH, PAGE, DatabaseListing
from .rows import COLUMNS, Row, ends, value_of
from .transactions import TRIES, Uncertain, is_in_transaction, tried_again

if TYPE_CHECKING:
    from dirigible_session.models import AbstractSession

__all__ = ["BATCH", "PAGE", "SessionStore"]

#: Stands for the digest of a session whose creation was rolled back: it has no row.
NOWHERE = ""


class SessionStore(DatabaseListing, EngineBase):
    """The session store; its methods are documented in ``backends.base``."""

    can_list = True
    reads_whole = True
    is_transactional = True

    #: The digest of the row, if a change of key or the creation of the session was rolled back:
    #: the next save repeats it. None: the row has the digest of the session's key.
    _stored_as: str | None = None

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        #: The saves in transactions that may still be rolled back, each with the function that
        #: takes it back.
        self._undoable: list[tuple[Uncertain, Callable[[], None]]] = []

    def __getstate__(self) -> dict[str, Any]:
        # A copy has no connection to check them by.
        return {**vars(self), "_undoable": []}

    @classmethod
    def get_model_class(cls) -> type[AbstractSession]:
        """Return the model of the table, once the app registry is ready."""
        from dirigible_session.models import Session

        return Session

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        """Return a new instance of the model for a session with this data.

        The engine sets the fields of ``AbstractSession``. An engine whose model has further fields
        overrides this method to set them, as with Django's engine; they are stored by every save.
        """
        return self.get_model_class()()

    @classmethod
    def _using(cls) -> str:
        return router.db_for_write(cls.get_model_class())

    @classmethod
    def _rows(cls) -> QuerySet[AbstractSession]:
        rows: QuerySet[AbstractSession] = cls.get_model_class()._default_manager.using(cls._using())
        return rows

    def _is_over(self, stored: StoredData) -> bool:
        if super()._is_over(stored):
            return True
        # The limits may have been lowered since the column was written.
        end = self.end_of(cast("Row", stored).expiry, stored.times)
        return not stored.error and end is not None and end <= self._now()

    # The operations.

    @tried_again
    def _read(self, digest: str) -> Row | None:
        columns = statements.select(self.get_model_class(), self._using(), COLUMNS, digest)
        return None if columns is None else Row.of(columns)

    @tried_again
    def _read_moved(self, digest: str, loaded: StoredData | None) -> Row | None:
        with transaction.atomic(using=self._using(), savepoint=False):
            return self._locked({"first_digest": _first_digest(digest, loaded)})

    @tried_again
    def _has(self, digest: str) -> bool:
        return bool(self._rows().filter(digest=digest).exists())

    @tried_again
    def _insert(self, digest: str, texts: Texts, times: Times) -> Row | None:
        row = self._row_of(texts, times)
        try:
            with self._savepoint():
                self._instance(digest, row).save(force_insert=True, using=self._using())
        except IntegrityError:
            if self._has(digest):
                return None
            raise
        return self._kept(row, NOWHERE)

    def _update(self, digest: str, change: Change) -> Row | None:
        before = self._stored_as
        if before is not None:
            # Its creation, or the last change of its key, was rolled back.
            new_digest = change.new_digest or digest
            if before == NOWHERE:
                row = self._insert(new_digest, change.texts, change.times)
            else:
                row = self._updated(before, replace(change, new_digest=new_digest))
            if row is not None:
                self._stored_as = None
                return self._kept(row, before)
        row = self._updated(digest, change)
        return None if row is None else self._kept(row, digest if change.new_digest else None)

    @tried_again
    def _updated(self, digest: str, change: Change) -> Row | None:
        loaded = cast("Row | None", change.loaded)
        if loaded is not None and not loaded.error:
            row = self._changed(loaded, change, digest)
            as_read = {"accessed <=": row.times.accessed, "version =": loaded.version}
            if self._set(self._values(row, change), digest, as_read):
                return row
        # The row is damaged, was not loaded, or has been changed by a rival.
        for _ in range(TRIES):
            # An exception in this block would mark an outer transaction for rollback.
            with transaction.atomic(using=self._using(), savepoint=False):
                fresh = self._locked({"digest": digest})
                if fresh is None:
                    return None
                row = self._changed(fresh, change, digest)
                as_read = {} if fresh.error else {"version =": fresh.version}
                if self._set(self._values(row, change, fresh), digest, as_read):
                    return row
        raise SessionConflict(TRIES)

    @tried_again
    def _replace(self, digest: str, found: StoredData, texts: Texts, times: Times) -> bool:
        before = cast("Row", found)
        row = self._row_of(texts, times, before.version + 1, before.first_digest)
        as_read = {"version =": before.as_read["version"]} if "version" in before.as_read else {}
        return self._set(self._columns(row) | self._further_columns(row), digest, as_read)

    @tried_again
    def _renew(self, digest: str, loaded: StoredData, accessed: float) -> bool:
        row = cast("Row", loaded)
        older = {"version =": row.version, "accessed <": accessed}
        if not row.error and self._set(self._renewal(row, accessed), digest, older):
            return True
        with transaction.atomic(using=self._using(), savepoint=False):
            fresh = self._locked({"digest": digest})
            if fresh is not None and not fresh.error and fresh.times.accessed < accessed:
                self._set(self._renewal(fresh, accessed), digest, {})
            return fresh is not None

    @tried_again
    def _remove(self, digest: str, loaded: StoredData | None = None) -> bool:
        rows, using = self._rows(), self._using()
        digests = {digest, self._stored_as or digest} if digest == self.digest else {digest}
        if rows.filter(digest__in=digests)._raw_delete(using):
            return True
        moved = rows.filter(first_digest=_first_digest(digest, loaded))
        return loaded is not None and bool(moved._raw_delete(using))

    @tried_again
    def _remove_if(self, digest: str, found: StoredData) -> bool:
        as_read = {f"{name} =": value for name, value in cast("Row", found).as_read.items()}
        return statements.delete(
            self.get_model_class(), self._using(), {"digest =": digest, **as_read}
        )

    def _locked(self, which: Mapping[str, str]) -> Row | None:
        """Lock a row until the end of the transaction and return it; None if it is gone."""
        self._rows().filter(**which).update(version=F("version") + 1)
        # An error report would execute a queryset that a variable holds.
        columns = read_undecoded(
            self._using(), lambda: self._rows().filter(**which).values_list(*COLUMNS).first()
        )
        return None if columns is None else Row.of(columns)

    def _set(self, values: Mapping[str, Any], digest: str, conditions: Mapping[str, Any]) -> bool:
        return statements.update(
            self.get_model_class(), self._using(), values, {"digest =": digest, **conditions}
        )

    def _savepoint(self) -> AbstractContextManager[Any]:
        # PostgreSQL aborts a transaction on an error, so the INSERT needs a savepoint. Without a
        # transaction, it would only cost a BEGIN and a COMMIT.
        using = self._using()
        if connections[using].get_autocommit():
            return nullcontext()
        return transaction.atomic(using=using)

    # The next save repeats what a transaction has rolled back.

    def _kept(self, row: Row, stored_as: str | None) -> Row:
        """Return a stored row; in a transaction, with an object that detects its rollback.

        ``stored_as`` is the previous digest of the row if the save changed it, NOWHERE if the save
        created the row.
        """
        connection = connections[self._using()]
        if not is_in_transaction(connection):
            return row
        return replace(row, uncertain=Uncertain(connection, stored_as))

    def _note_undoable(self, stored: StoredData, take_back: Callable[[], None]) -> None:
        uncertain = cast("Row", stored).uncertain
        if uncertain is not None:
            self._undoable.append((uncertain, take_back))

    def _take_back_undone(self) -> None:
        undoable = [(one, take_back) for one, take_back in self._undoable if not one.is_committed]
        # A rollback also undoes every later save.
        held = list(takewhile(lambda pair: not pair[0].is_undone, undoable))
        for uncertain, take_back in reversed(undoable[len(held) :]):
            take_back()
            if uncertain.stored_as is not None:
                self._stored_as = uncertain.stored_as
        self._undoable = held

    def _forget(self) -> None:
        super()._forget()
        self._stored_as, self._undoable = None, []

    # The columns of a row.

    def _changed(self, stored: Row, change: Change, digest: str) -> Row:
        times = change.times_over(stored)
        delta = change.delta
        if delta.clears and change.loaded is not None:
            # The loaded row was damaged, and a rival may have replaced it since.
            delta = replace(delta, clears=False)
        is_moved = change.new_digest is not None
        first_digest = _first_digest(digest, stored) if is_moved else stored.first_digest
        texts = delta.laid_over(stored.texts)
        return self._row_of(texts, times, stored.version + 1, first_digest)

    def _row_of(
        self, texts: Texts, times: Times, version: int = 0, first_digest: str | None = None
    ) -> Row:
        expiry = value_of(texts, EXPIRY_KEY)
        check_expiry(expiry)
        expires = self.end_of(expiry, times)
        return Row.holding(texts, times, expires, version, first_digest)

    def _columns(self, row: Row) -> dict[str, Any]:
        return Confidential(
            session_data=row.document,
            created=row.times.created,
            accessed=row.times.accessed,
            interval=row.times.interval,
            authenticated=row.times.authenticated,
            user_id=mapping.user_of(value_of(row.texts, SESSION_KEY)),
            version=row.version,
            first_digest=row.first_digest,
            **ends(row.expires),
        )

    def _further_columns(self, row: Row) -> dict[str, Any]:
        fields = statements.further(self.get_model_class())
        if not fields:
            return {}
        instance = self.create_model_instance(row.parsed())
        connection = connections[self._using()]
        values = Confidential((field, field.pre_save(instance, add=False)) for field in fields)
        return Confidential(
            (field.column, field.get_db_prep_save(values[field], connection))
            for field in fields
            # A database default was applied when the row was created.
            if not hasattr(values[field], "as_sql")
        )

    def _instance(self, digest: str, row: Row) -> AbstractSession:
        instance: AbstractSession = self.create_model_instance(row.parsed())
        columns = Confidential(self._columns(row), digest=digest)
        for name in columns:
            setattr(instance, name, columns[name])
        return instance

    def _values(self, row: Row, change: Change, stored: Row | None = None) -> dict[str, Any]:
        """Return the columns of an UPDATE; the creation time is included only if it is damaged."""
        columns = Confidential(self._columns(row) | self._further_columns(row))
        if stored is None or not stored.error:
            del columns["created"]
        if change.new_digest is not None:
            columns["digest"] = change.new_digest
        return columns

    def _renewal(self, row: Row, accessed: float) -> dict[str, Any]:
        expires = self.end_of(row.expiry, replace(row.times, accessed=accessed))
        return {"accessed": accessed} | ends(expires)

    # Operations on many sessions, see `backends.batch`.

    def _read_many(self, digests: Iterable[str]) -> dict[str, StoredData]:
        rows = self._rows().filter(digest__in=list(digests)).values_list("digest", *COLUMNS)
        found = read_undecoded(self._using(), lambda: list(rows))
        return {digest: Row.of(columns) for digest, *columns in found}

    def _publish(self, digests: Iterable[str]) -> set[str]:
        return set(self._rows().filter(digest__in=list(digests)).values_list("digest", flat=True))

    def _stage(self, copies: Copies) -> set[str]:
        taken = self._publish(copies)
        new = {digest: copy for digest, copy in copies.items() if digest not in taken}
        instances = []
        for digest, (texts, times) in new.items():
            instances.append(self._instance(digest, self._row_of(texts, times)))
        try:
            with self._savepoint():
                self._rows().bulk_create(instances)
        except (IntegrityError, ValueError):
            # A rival stored one of them, or the model uses multi-table inheritance.
            return super()._stage(new)
        return set(new)


def _first_digest(digest: str, stored: StoredData | None) -> str:
    """Return the digest that a session had before its key was first changed."""
    return (stored is not None and cast("Row", stored).first_digest) or digest
