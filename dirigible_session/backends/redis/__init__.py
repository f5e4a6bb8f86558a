"""Sessions in Redis or Valkey, on a server or a cluster, for sites with many machines.

A session is a hash, with a field for each attribute. A load is one round trip, and so is a save. A
save is a script: it writes the changes if the session still exists, and sets its expiry. See
``backends.operations`` for the contract, :mod:`.scripts` for the storage and :mod:`.url` for the
settings.

If Redis can't be reached or refuses a call, ``StoreUnavailable`` says why. The engine never takes
that for the end of a session.
"""

from __future__ import annotations

from typing import Any

from dirigible_session.backends.base import EngineBase
from dirigible_session.backends.mapping import Texts
from dirigible_session.backends.operations import Change, StoredData
from dirigible_session.lifecycle import Times

from . import operations
from .batch import RedisBatch
from .client import adrive, drive, target
from .listing import RedisListing
from .operations import Site
from .record import StoredHash


class SessionStore(RedisListing, RedisBatch, EngineBase):
    """A session in Redis."""

    can_list = True

    def _site(self) -> Site:
        return Site(target().keys, self.end_of, self.get_session_cookie_age, self.grace)

    async def _in_async(self, operation: str, *arguments: Any) -> Any:
        calls = getattr(operations, operation.removeprefix("_"))
        return await adrive(calls(self._site(), *arguments))

    def _read(self, digest: str) -> StoredHash | None:
        return drive(operations.read(self._site(), digest))

    def _read_moved(self, digest: str, loaded: StoredData | None) -> StoredHash | None:
        return drive(operations.read_moved(self._site(), digest, loaded))

    def _insert(self, digest: str, texts: Texts, times: Times) -> StoredHash | None:
        return drive(operations.insert(self._site(), digest, texts, times))

    def _update(self, digest: str, change: Change) -> StoredHash | None:
        return drive(operations.update(self._site(), digest, change))

    def _replace(self, digest: str, found: StoredData, texts: Texts, times: Times) -> bool:
        return drive(operations.replace_if(self._site(), digest, found, texts, times))

    def _renew(self, digest: str, loaded: StoredData, accessed: float) -> bool:
        return drive(operations.renew(self._site(), digest, loaded, accessed))

    def _remove(self, digest: str, loaded: StoredData | None = None) -> bool:
        return drive(operations.remove(self._site(), digest, loaded))

    def _remove_if(self, digest: str, found: StoredData) -> bool:
        return drive(operations.remove_if(self._site(), digest, found))

    def _has(self, digest: str) -> bool:
        return drive(operations.has(self._site(), digest))
