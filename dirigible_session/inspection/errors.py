"""Why sessions can't be looked at, each in one clear sentence."""

from __future__ import annotations

from collections.abc import Sequence

from dirigible_session.handles import HANDLE_LENGTH

MOST_LISTED = 10


class InspectionError(Exception):
    """The stored sessions can't be read, or not the one that was asked for."""


class UnknownEngine(InspectionError):
    """The path names no session engine."""


class NotListable(InspectionError):
    """The engine can't tell which sessions there are."""


class StoreFailed(InspectionError):
    """The store did not answer."""


class NoSuchUser(InspectionError):
    """Neither a username nor a primary key."""


class NoSuchSession(InspectionError):
    """No stored session has this handle or key. The message never holds what may be a key."""


class AmbiguousHandle(InspectionError):
    """Several stored sessions have digests that begin like this."""

    def __init__(self, prefix: str, digests: Sequence[str]) -> None:
        #: The full digests that match, at most ``MOST_LISTED``.
        self.digests = tuple(digests)
        length = max(HANDLE_LENGTH, len(prefix) + 1)
        listed = ", ".join(digest[:length] for digest in digests)
        super().__init__(
            f"{prefix!r} is ambiguous: it begins {listed}. Give more digits of the one you mean."
        )


def store_failed(what: str, error: Exception) -> StoreFailed:
    """Return the error for a store that raised ``error``, in one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return StoreFailed(f"{what} can't be read: {said}")
