"""Operations on many sessions at once, for ``sessions_migrate``. All of them are sync.

A copy must be recorded before a visitor can use and end it, but not before it is stored. So copies
are *staged*, recorded, and then *published*. In a database all three steps are one transaction,
whose commit publishes. Other stores keep a staged copy out of the reach of requests. If a run is
interrupted before it publishes, the next run publishes the copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dirigible_session.lifecycle import Times

from .mapping import Texts
from .operations import Operations, StoredData

#: The attributes and times to store, by digest.
Copies = Mapping[str, tuple[Texts, Times]]
#: The state that was found, and the attributes and times to replace it with, by digest.
Replacements = Mapping[str, tuple[StoredData, Texts, Times]]


class BatchOperations(Operations):
    """Operations on many sessions, by default on each in turn."""

    #: Whether writes in a database transaction stay staged until it commits.
    is_transactional = False

    def _read_many(self, digests: Iterable[str]) -> dict[str, StoredData]:
        """Return the stored state of those sessions that are stored, by digest."""
        found = {digest: self._read(digest) for digest in digests}
        return {digest: stored for digest, stored in found.items() if stored is not None}

    def _stage(self, copies: Copies) -> set[str]:
        """Store copies that no request can load yet; return the digests of the stored copies.

        Sessions that the store already has are skipped. A copy that was staged before is replaced.
        """
        return {digest for digest, copy in copies.items() if self._insert(digest, *copy)}

    def _publish(self, digests: Iterable[str]) -> set[str]:
        """Let requests load staged copies; return the digests of those that are now live.

        Copies that are not staged are skipped: they were published before, and ended.
        """
        return {digest for digest in digests if self._has(digest)}

    def _replace_many(self, replacements: Replacements) -> set[str]:
        """Replace the sessions that are unchanged since they were found; return their digests."""
        return {digest for digest, args in replacements.items() if self._replace(digest, *args)}

    def _remove_many(self, found: Mapping[str, StoredData]) -> set[str]:
        """Delete the sessions that are unchanged since they were found; return their digests."""
        return {digest for digest, stored in found.items() if self._remove_if(digest, stored)}
