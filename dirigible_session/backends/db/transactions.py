"""What a transaction does to a save: it may undo it, and the database may refuse it for a rival."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from dirigible_session.exceptions import SessionConflict

#: How often a save is tried again when rivals are faster.
TRIES = 50
#: What PostgreSQL says of a statement that a rival's made impossible: serialization_failure,
#: deadlock_detected.
REFUSALS = frozenset({"40001", "40P01"})
#: What MySQL and MariaDB say: ER_LOCK_DEADLOCK, ER_CHECKREAD.
REFUSAL_CODES = frozenset({1213, 1020})

Operation = TypeVar("Operation", bound=Callable[..., Any])


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is under way that may yet be undone.

    That of a ``TestCase`` does not count: what is stored in it would be stored for good elsewhere.
    """
    # As Django's own atomic(durable=True) tells.
    blocks: list[Any] = connection.atomic_blocks
    return any(not block._from_testcase for block in blocks)


class Uncertain:
    """Tells whether the transaction that is under way on a connection was undone since."""

    def __init__(self, connection: BaseDatabaseWrapper, stored_as: str | None) -> None:
        self._connection = connection
        #: See ``SessionStore._kept``.
        self.stored_as = stored_as
        self.is_committed = False
        connection.on_commit(self._committed)

    def _committed(self) -> None:
        self.is_committed = True

    def __reduce__(self) -> str | tuple[Any, ...]:
        # A copy of the session knows no connection.
        return type(None), ()

    @property
    def is_undone(self) -> bool:
        """Whether it was rolled back, as a whole or to a savepoint before this."""
        if self.is_committed:
            return False
        # Django forgets what waits for a commit that will not come.
        waiting = self._connection.run_on_commit
        return not any(function == self._committed for _, function, *_ in waiting)


def tried_again(operation: Operation) -> Operation:
    """Have an operation of a store tried again where the database refuses it for a rival's sake.

    In a transaction around it that is not for us to do: all of that would have to be done again.
    """

    @wraps(operation)
    def again(store: Any, *args: Any) -> Any:
        for _ in range(TRIES):
            try:
                return operation(store, *args)
            except OperationalError as error:  # noqa: PERF203
                if not _is_refusal(error) or connections[store._using()].in_atomic_block:
                    raise
        raise SessionConflict(TRIES)

    return again  # type: ignore[return-value]


def _is_refusal(error: OperationalError) -> bool:
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state in REFUSALS or (error.args[:1] or (None,))[0] in REFUSAL_CODES
