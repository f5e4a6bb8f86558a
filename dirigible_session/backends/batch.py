"""What ``sessions_migrate`` asks of an engine: operations on many sessions at once, sync only.

A copy has to be remembered before anybody can use and end it, and must not be remembered before
it is stored. So copies are *staged*, remembered, and then *published*. In a database all of it is
one transaction, and the commit publishes. Other stores keep a staged copy where no request finds
it: a run that was interrupted in between is made up for by publishing it later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dirigible_session.lifecycle import Times

from .mapping import Texts
from .operations import Operations, StoredData

#: What to store under a digest.
Copies = Mapping[str, tuple[Texts, Times]]
#: What was found under a digest, and what to put in its place.
Replacements = Mapping[str, tuple[StoredData, Texts, Times]]


class BatchOperations(Operations):
    """Operations on many sessions, by default one after the other."""

    #: Whether what is stored in a transaction is staged until it commits.
    is_transactional = False

    def _read_many(self, digests: Iterable[str]) -> dict[str, StoredData]:
        """Return what is stored of the sessions that are there, by their digests."""
        found = {digest: self._read(digest) for digest in digests}
        return {digest: stored for digest, stored in found.items() if stored is not None}

    def _stage(self, copies: Copies) -> set[str]:
        """Store copies that nobody can load yet; return the digests of those that were stored.

        Left out are those that the store has already. A copy that was staged before is replaced.
        """
        return {digest for digest, copy in copies.items() if self._insert(digest, *copy)}

    def _publish(self, digests: Iterable[str]) -> set[str]:
        """Let staged copies be loaded; return the digests of those that now can be.

        Left out are those that are not staged, since they were published and ended before.
        """
        return {digest for digest in digests if self._has(digest)}

    def _replace_many(self, replacements: Replacements) -> set[str]:
        """Replace sessions that are still as they were found; return the digests of those."""
        return {digest for digest, args in replacements.items() if self._replace(digest, *args)}

    def _remove_many(self, found: Mapping[str, StoredData]) -> set[str]:
        """Delete sessions that are still as they were found; return the digests of those."""
        return {digest for digest, stored in found.items() if self._remove_if(digest, stored)}
