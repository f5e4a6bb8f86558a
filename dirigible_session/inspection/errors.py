"""Why sessions can't be looked at, each in one clear sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from dirigible_session.exceptions import SessionConflict, StoreUnavailable
from dirigible_session.handles import HANDLE_LENGTH

MOST_LISTED = 10

_KNOWN = (Error, OSError, ImproperlyConfigured, StoreUnavailable, SessionConflict)

#: What the clients of stores raise, by the modules that define it: most sites have few of them.
_CLIENTS = (
    ("redis.exceptions", "RedisError"),
    ("redis.exceptions", "RedisClusterException"),
    ("django_redis.exceptions", "ConnectionInterrupted"),
    ("pymemcache.exceptions", "MemcacheError"),
    ("pylibmc", "Error"),
)

Item = TypeVar("Item")


class InspectionError(Exception):
    """The stored sessions can't be read, or not the one that was asked for."""


class UnknownEngine(InspectionError):
    """The path names no session engine."""


class UnknownFilter(InspectionError, ImproperlyConfigured):
    """DEFAULT_EXCEPTION_REPORTER_FILTER names nothing that can tell what is a secret."""


class WrongSetting(InspectionError, ImproperlyConfigured):
    """A setting that says how long sessions last is no number of seconds."""


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
        #: The full digests that match, as many as were looked for.
        self.digests = tuple(digests)
        length = HANDLE_LENGTH
        while len({digest[:length] for digest in digests}) < len(digests):
            length += 1
        listed = ", ".join(digest[:length] for digest in digests[:MOST_LISTED])
        if len(digests) > MOST_LISTED:
            listed += " and more"
        super().__init__(
            f"{prefix!r} is ambiguous: it begins {listed}. Give more digits of the one you mean."
        )


class NotEnded(InspectionError):
    """Some sessions are still there after they were ended."""

    def __init__(self, ended: int, digests: list[str]) -> None:
        """``digests`` are those of the sessions that are still there."""
        self.ended = ended
        listed = [digest[:HANDLE_LENGTH] for digest in digests[:MOST_LISTED]]
        more = f" and {len(digests) - len(listed)} more" if len(digests) > len(listed) else ""
        super().__init__(
            f"Ended {ended}. The store keeps {', '.join(listed)}{more}: look whether whoever runs "
            "this may delete there."
        )


def store_errors() -> tuple[type[Exception], ...]:
    """Return what stores raise when they do not answer."""
    clients = ((sys.modules.get(module), name) for module, name in _CLIENTS)
    raised = (getattr(client, name, None) for client, name in clients if client is not None)
    return (*_KNOWN, *(error for error in raised if error is not None))


def said(error: BaseException) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def answering(what: str, failing: str = "can't be read") -> Iterator[None]:
    """Raise StoreFailed, saying ``what`` it is, where a store does not answer."""
    try:
        yield
    except store_errors() as error:
        raise StoreFailed(f"{what} {failing}: {said(error)}") from error


@contextmanager
def opening(what: str) -> Iterator[None]:
    """Raise StoreFailed, saying ``what`` it is, where a store can't be made.

    Whatever is wrong with it: an engine and the settings of its store are the project's choice.
    """
    try:
        yield
    except InspectionError:
        raise
    except Exception as error:
        raise StoreFailed(f"{what} can't be opened: {said(error)}") from error


def guarded(what: str, items: Iterable[Item]) -> Iterator[Item]:
    """Pass on what a store gives; StoreFailed where it does not answer."""
    with answering(what):
        yield from items
