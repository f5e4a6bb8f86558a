"""Visits to stores in a database, where a transaction may undo the end of a session."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import connections, router

from .visit import Visit

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase


class UndoableVisit(Visit):
    """A visit that ends a session again if a transaction undid its end.

    With ``ATOMIC_REQUESTS`` a view may end a session and raise. Its client loses the cookie, and
    a copy of the cookie must not open it.
    """

    #: Sessions that ended in transactions that are not committed.
    _uncertain_ends: tuple[SessionBase, ...] = ()

    def ending(self) -> SessionBase | None:
        """Return the stored session that is about to end, see ``Visit.ending``."""
        connection = self._connection()
        # The transaction of a ``TestCase`` does not count, as for Django's atomic(durable=True).
        if connection is not None and not all(
            block._from_testcase for block in connection.atomic_blocks
        ):
            session = self.session.detached()
            self._uncertain_ends += (session,)
            connection.on_commit(partial(self._committed, session))
        return super().ending()

    def _connection(self) -> Any:
        get_model_class = getattr(self.session, "get_model_class", None)
        if get_model_class is None or not self.is_found:
            return None
        return connections[router.db_for_write(get_model_class())]

    def _committed(self, session: SessionBase) -> None:
        self._uncertain_ends = tuple(one for one in self._uncertain_ends if one is not session)

    @property
    def has_ended(self) -> bool:
        """Whether there is a session to delete, see ``Visit.has_ended``."""
        return super().has_ended or bool(self._uncertain_ends)

    def drop_ended(self) -> None:
        """Delete the session that was loaded expired, and those whose end was undone."""
        super().drop_ended()
        for session, key in self._undone():
            session.delete(key)

    async def adrop_ended(self) -> None:
        """Async twin of :meth:`drop_ended`."""
        await super().adrop_ended()
        for session, key in self._undone():
            await session.adelete(key)

    def _undone(self) -> Iterator[tuple[Any, str | None]]:
        """Give each session whose end was undone; with a key if that may be its key again."""
        ends, self._uncertain_ends = self._uncertain_ends, ()
        for session in ends:
            yield session, None
            if self._sent_key not in (None, session.session_key):
                # The transaction may have undone a change of key, too.
                yield session, self._sent_key
