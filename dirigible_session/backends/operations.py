"""What an engine implements: the operations on its store, and what they are given and give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from asgiref.sync import sync_to_async

from dirigible_session.lifecycle import Times

from .mapping import Delta, Texts


class StoredData(Protocol):
    """What an engine's store holds of one session; an engine adds what else it needs to know."""

    @property
    def texts(self) -> Texts:
        """The JSON text of each attribute, in order; none if they can't be decoded."""

    @property
    def times(self) -> Times:
        """The session's times."""

    @property
    def expires(self) -> float | None:
        """When the session ends, in seconds since the epoch; None: never."""

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
    loaded: StoredData | None
    #: The digest of the session's new key, if the save is a change of key.
    new_digest: str | None = None

    @cached_property
    def texts(self) -> Texts:
        """All attributes as this request sees them: ``delta`` laid over what it loaded."""
        return self.delta.laid_over({} if self.loaded is None else self.loaded.texts)


class Operations(ABC):
    """The operations on an engine's store; ``digest`` always names the session.

    An engine that can talk to its store without a thread has async twins of its own.
    """

    @abstractmethod
    def _read(self, digest: str) -> StoredData | None:
        """Return what is stored; None if it is not there."""

    async def _aread(self, digest: str) -> StoredData | None:
        """Async twin of :meth:`_read`."""
        return await sync_to_async(self._read)(digest)

    @abstractmethod
    def _insert(self, digest: str, texts: Texts, times: Times) -> StoredData | None:
        """Store a new session; None, and nothing stored, if one with that digest is there."""

    async def _ainsert(self, digest: str, texts: Texts, times: Times) -> StoredData | None:
        """Async twin of :meth:`_insert`."""
        return await sync_to_async(self._insert)(digest, texts, times)

    @abstractmethod
    def _update(self, digest: str, change: Change) -> StoredData | None:
        """Lay a change over what is stored and return what is now stored; None if it is gone.

        What is returned may leave out what rivals changed meanwhile, if the next save, too, is
        laid over what is stored then. With ``new_digest``, the session has that digest afterwards.
        """

    async def _aupdate(self, digest: str, change: Change) -> StoredData | None:
        """Async twin of :meth:`_update`."""
        return await sync_to_async(self._update)(digest, change)

    @abstractmethod
    def _replace(self, digest: str, found: StoredData, texts: Texts, times: Times) -> bool:
        """Put other attributes and times in the place of what was found; False if it is no more.

        For ``sessions_migrate``, which works at a desk: there is no async twin.
        """

    @abstractmethod
    def _renew(self, digest: str, loaded: StoredData, accessed: float) -> bool:
        """Store a later last access and the end that follows from it; False if it is gone."""

    async def _arenew(self, digest: str, loaded: StoredData, accessed: float) -> bool:
        """Async twin of :meth:`_renew`."""
        return await sync_to_async(self._renew)(digest, loaded, accessed)

    @abstractmethod
    def _remove(self, digest: str) -> None:
        """Delete a session, if it is there."""

    async def _aremove(self, digest: str) -> None:
        """Async twin of :meth:`_remove`."""
        return await sync_to_async(self._remove)(digest)

    @abstractmethod
    def _remove_if(self, digest: str, found: StoredData) -> bool:
        """Delete a session, if it is still what was found; return whether this call did."""

    async def _aremove_if(self, digest: str, found: StoredData) -> bool:
        """Async twin of :meth:`_remove_if`."""
        return await sync_to_async(self._remove_if)(digest, found)

    @abstractmethod
    def _has(self, digest: str) -> bool:
        """Return whether a session is stored."""

    async def _ahas(self, digest: str) -> bool:
        """Async twin of :meth:`_has`."""
        return await sync_to_async(self._has)(digest)
