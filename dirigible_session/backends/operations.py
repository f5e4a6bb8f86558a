"""The contract of an engine: the operations on its store, their arguments and results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY

from dirigible_session.lifecycle import Times

from .mapping import Delta, Texts, merged_times


class StoredData(Protocol):
    """The stored state of one session. An engine adds the fields that it needs itself."""

    @property
    def texts(self) -> Texts:
        """The JSON text of each attribute, in order; empty if they can't be decoded."""

    @property
    def times(self) -> Times:
        """The session's times; meaningless if ``error`` is set."""

    @property
    def expires(self) -> float | None:
        """When the session ends, in seconds since the epoch; None: never."""

    @property
    def error(self) -> str:
        """Why the whole record is unusable; empty if at least its times can be used."""

    def text_of(self, name: str) -> str | None:
        """Return the JSON text of an attribute, None if it is missing; ValueError if damaged."""

    def parsed(self) -> dict[str, Any]:
        """Return a new dict of the attributes; ValueError if they can't be decoded."""


@dataclass
class Change:
    """The changes that a save has to store."""

    delta: Delta
    #: The times that this request wants, see ``mapping.merged_times``.
    times: Times
    #: The state that the request loaded; None if it cleared the session without loading it.
    loaded: StoredData | None = field(repr=False)
    #: The digest of the session's new key, if the save is a change of key.
    new_digest: str | None = None

    @cached_property
    def texts(self) -> Texts:
        """All attributes as this request sees them: ``delta`` applied to the loaded state."""
        return self.delta.laid_over({} if self.loaded is None else self.loaded.texts)

    def times_over(self, stored: StoredData) -> Times:
        """Return the times to store, given the state that is stored now."""
        if stored.error:
            return self.times
        before = stored if self.loaded is None else self.loaded
        return merged_times(before.times, self.times, stored.times)

    def copy_of(self, moved: StoredData) -> Texts:
        """Return the attributes of a copy of a session whose key another request has changed.

        After a login in the session, the copy includes nothing that was stored since.
        """
        user = None if self.loaded is None else self.loaded.texts.get(SESSION_KEY)
        is_same_user = moved.texts.get(SESSION_KEY) == user
        return self.delta.laid_over(moved.texts) if is_same_user else self.texts


class Operations(ABC):
    """The operations on an engine's store.

    The store knows a session by the digest of its key (``handles.digest``), never by the key
    itself. Errors of the store's connection, such as a lost server, are raised unchanged, so that
    an unreachable store is never mistaken for an ended session.
    """

    async def _in_async(self, operation: str, *arguments: Any) -> Any:
        """Run the operation of this name from async code.

        It runs in a thread. An engine that can reach its store without one overrides this.
        """
        return await sync_to_async(getattr(self, operation))(*arguments)

    @abstractmethod
    def _read(self, digest: str) -> StoredData | None:
        """Return the stored state of a session, expired or not; None if it is not stored."""

    def _read_moved(self, digest: str, loaded: StoredData | None) -> StoredData | None:
        """Return the stored state of a session whose key other requests have changed.

        ``digest`` is its old digest, ``loaded`` the state that was stored under it. The session is
        found however often its key was changed. Return None if it was ended. An engine may also
        return None once the change is older than any request can last.
        """
        return None

    @abstractmethod
    def _insert(self, digest: str, texts: Texts, times: Times) -> StoredData | None:
        """Store a new session; None, and nothing is stored, if the digest is taken."""

    @abstractmethod
    def _update(self, digest: str, change: Change) -> StoredData | None:
        """Apply a change to the stored session and return its new state; None if it is gone.

        An expired session that is still stored is not gone: it was live when it was loaded.
        Damaged data is replaced. The last access never goes back, and the creation time stays. If
        a rival set the interval, the expiry is calculated from it.

        The returned state may lack the changes of rivals, provided that the next save is again
        applied to the stored state. With ``new_digest``, the session is moved to that digest.
        """

    @abstractmethod
    def _replace(self, digest: str, found: StoredData, texts: Texts, times: Times) -> bool:
        """Replace all attributes and times; False if the session has changed since ``found``.

        Only ``sessions_migrate`` calls it, which is sync.
        """

    @abstractmethod
    def _renew(self, digest: str, loaded: StoredData, accessed: float) -> bool:
        """Store a later last access and the expiry that follows from it; False if it is gone.

        No attribute is written. If a rival set the interval, the expiry is calculated from it.
        """

    @abstractmethod
    def _remove(self, digest: str, loaded: StoredData | None = None) -> bool:
        """Delete a session if it is stored; return whether this call deleted it.

        With ``loaded``, the state that was stored under the digest, the session is also deleted if
        other requests have changed its key since.
        """

    @abstractmethod
    def _remove_if(self, digest: str, found: StoredData) -> bool:
        """Delete a session unless it has changed since ``found``; return whether this call did."""

    @abstractmethod
    def _has(self, digest: str) -> bool:
        """Return whether a session is stored, expired or not."""
