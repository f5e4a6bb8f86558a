"""Saves in transactions: rollbacks, and statements rejected by the database in favor of a rival."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from dirigible_session.exceptions import SessionConflict

#: The number of attempts to save before SessionConflict is raised.
TRIES = 50
#: PostgreSQL's codes for a conflict with another transaction: serialization_failure and
#: deadlock_detected.
CONFLICT_STATES = frozenset({"40001", "40P01"})
#: The same of MySQL and MariaDB: ER_LOCK_DEADLOCK and ER_CHECKREAD.
CONFLICT_CODES = frozenset({1213, 1020})

Operation = TypeVar("Operation", bound=Callable[..., Any])


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is open that may still be rolled back.

    The transaction of a ``TestCase`` does not count, because it does not exist in production.
    """
    # This is the check that atomic(durable=True) makes.
    blocks: list[Any] = connection.atomic_blocks
    return any(not block._from_testcase for block in blocks)


class Uncertain:
    """Detects whether the open transaction of a connection is rolled back later."""

    def __init__(self, connection: BaseDatabaseWrapper, stored_as: str | None) -> None:
        self._connection = connection
        #: The previous digest of the row, see ``SessionStore._kept``.
        self.stored_as = stored_as
        self.is_committed = False
        connection.on_commit(self._committed)

    def _committed(self) -> None:
        self.is_committed = True

    def __reduce__(self) -> str | tuple[Any, ...]:
        # A copy of the session does not keep the connection.
        return type(None), ()

    @property
    def is_undone(self) -> bool:
        """Whether the transaction was rolled back, as a whole or to an earlier savepoint."""
        if self.is_committed:
            return False
        # On a rollback, Django discards the functions that wait for the commit.
        waiting = self._connection.run_on_commit
        return not any(function == self._committed for _, function, *_ in waiting)


def tried_again(operation: Operation) -> Operation:
    """Repeat an operation of a store if the database rejects it in favor of a rival.

    Within an outer transaction the error is raised, because all of it would have to be repeated.
    """

    @wraps(operation)
    def again(store: Any, *args: Any) -> Any:
        for _ in range(TRIES):
            try:
                return operation(store, *args)
            except OperationalError as error:  # noqa: PERF203
                cause = error.__cause__
                state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
                code = error.args[0] if error.args else None
                is_conflict = state in CONFLICT_STATES or code in CONFLICT_CODES
                if not is_conflict or connections[store._using()].in_atomic_block:
                    raise
        raise SessionConflict(TRIES)

    return again  # type: ignore[return-value]
