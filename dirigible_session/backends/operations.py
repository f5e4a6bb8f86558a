"""The contract of an engine of our own: the operations on its store, what they take and return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY

from dirigible_session.lifecycle import Times

from .mapping import Delta, Texts


class StoredData(Protocol):
    """What an engine's store holds of one session; an engine adds what else it needs to know."""

    @property
    def texts(self) -> Texts:
        """The JSON text of each attribute, in order; none if they can't be decoded."""

    @property
    def times(self) -> Times:
        """The session's times; of no meaning where there is an ``error``."""

    @property
    def expires(self) -> float | None:
        """When the session ends, in seconds since the epoch; None: never."""

    @property
    def error(self) -> str:
        """Why nothing of it can be used; empty if it can be, or only the attributes can't."""

    def text_of(self, name: str) -> str | None:
        """Return the JSON text of an attribute, None where there is none; ValueError if damaged."""

    def parsed(self) -> dict[str, Any]:
        """Return the attributes, parsed afresh; ValueError if they can't be decoded."""


@dataclass
class Change:
    """What a save has to store."""

    delta: Delta
    #: The times as this request wants them, see ``mapping.merged_times``.
    times: Times
    #: What was loaded; None if the session was cleared without being loaded.
    loaded: StoredData | None = field(repr=False)
    #: The digest of the session's new key, if the save is a change of key.
    new_digest: str | None = None

    @cached_property
    def texts(self) -> Texts:
        """All attributes as this request sees them: ``delta`` laid over what it loaded."""
        return self.delta.laid_over({} if self.loaded is None else self.loaded.texts)

    def copy_of(self, moved: StoredData) -> Texts:
        """Return the attributes of a copy of a session whose key another request has changed.

        If somebody logged in there meanwhile, the copy gets nothing of what they stored.
        """
        user = None if self.loaded is None else self.loaded.texts.get(SESSION_KEY)
        is_same_user = moved.texts.get(SESSION_KEY) == user
        return self.delta.laid_over(moved.texts) if is_same_user else self.texts


class Operations(ABC):
    """The operations on an engine's store; ``digest`` always names the session.

    The store knows a session by the digest of its key (``handles.digest``), nowhere by the key.
    What the store's connection raises (a lost server, for one) comes out as it is, so that a
    session is never taken for gone because the store is.

    An engine that can talk to its store without a thread has async twins of its own.
    """

    @abstractmethod
    def _read(self, digest: str) -> StoredData | None:
        """Return what is stored, over or not; None if it is not there."""

    async def _aread(self, digest: str) -> StoredData | None:
        """Async twin of :meth:`_read`."""
        return await sync_to_async(self._read)(digest)

    def _read_moved(self, digest: str, loaded: StoredData | None) -> StoredData | None:
        """Return what is stored of a session whose key other requests have changed since.

        ``digest`` is its digest before, ``loaded`` what was stored under it; however often the key
        was changed since, it is found. None if it was ended, or if nobody can tell any more, which
        is not before the longest request is over.
        """
        return None

    async def _aread_moved(self, digest: str, loaded: StoredData | None) -> StoredData | None:
        """Async twin of :meth:`_read_moved`."""
        return await sync_to_async(self._read_moved)(digest, loaded)

    @abstractmethod
    def _insert(self, digest: str, texts: Texts, times: Times) -> StoredData | None:
        """Store a new session; None, and nothing stored, if one with that digest is there."""

    async def _ainsert(self, digest: str, texts: Texts, times: Times) -> StoredData | None:
        """Async twin of :meth:`_insert`."""
        return await sync_to_async(self._insert)(digest, texts, times)

    @abstractmethod
    def _update(self, digest: str, change: Change) -> StoredData | None:
        """Lay a change over what is stored and return what is now stored; None if it is gone.

        A session that is over, but still there, is not gone: it was live when it was loaded. What
        is damaged is replaced. The last access never goes back, and the creation time stays; where
        a rival set the interval, the session's end follows from that.

        What is returned may leave out what rivals changed meanwhile, if the next save, too, is
        laid over what is stored then. With ``new_digest``, the session has that digest afterwards.
        """

    async def _aupdate(self, digest: str, change: Change) -> StoredData | None:
        """Async twin of :meth:`_update`."""
        return await sync_to_async(self._update)(digest, change)

    @abstractmethod
    def _replace(self, digest: str, found: StoredData, texts: Texts, times: Times) -> bool:
        """Put other attributes and times in the place of what was found; False if it is no more.

        Only ``sessions_migrate`` calls it, so there is no async twin.
        """

    @abstractmethod
    def _renew(self, digest: str, loaded: StoredData, accessed: float) -> bool:
        """Store a later last access and the end that follows from it; False if it is gone.

        No attribute is written. Where a rival changed the interval meanwhile, the end follows from
        the rival's.
        """

    async def _arenew(self, digest: str, loaded: StoredData, accessed: float) -> bool:
        """Async twin of :meth:`_renew`."""
        return await sync_to_async(self._renew)(digest, loaded, accessed)

    @abstractmethod
    def _remove(self, digest: str, loaded: StoredData | None = None) -> bool:
        """Delete a session, if it is there; return whether this call did.

        With ``loaded``, what was stored under the digest, it is also deleted where other requests
        have changed its key since.
        """

    async def _aremove(self, digest: str, loaded: StoredData | None = None) -> bool:
        """Async twin of :meth:`_remove`."""
        return await sync_to_async(self._remove)(digest, loaded)

    @abstractmethod
    def _remove_if(self, digest: str, found: StoredData) -> bool:
        """Delete a session, if it is still what was found; return whether this call did."""

    async def _aremove_if(self, digest: str, found: StoredData) -> bool:
        """Async twin of :meth:`_remove_if`."""
        return await sync_to_async(self._remove_if)(digest, found)

    @abstractmethod
    def _has(self, digest: str) -> bool:
        """Return whether a session is stored, over or not."""

    async def _ahas(self, digest: str) -> bool:
        """Async twin of :meth:`_has`."""
        return await sync_to_async(self._has)(digest)
