"""Why sessions can't be looked at, each in one clear sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from dirigible_session.handles import HANDLE_LENGTH

MOST_LISTED = 10

Item = TypeVar("Item")


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


def store_errors() -> tuple[type[Exception], ...]:
    """Return what stores raise when they do not answer."""
    redis = sys.modules.get("redis")
    known = (Error, OSError, ImproperlyConfigured)
    return known if redis is None else (*known, redis.RedisError)


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Raise StoreFailed, saying ``what`` it is, where a store does not answer."""
    try:
        yield
    except store_errors() as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise StoreFailed(f"{what} can't be read: {said}") from error


def guarded(what: str, items: Iterable[Item]) -> Iterator[Item]:
    """Pass on what a store gives; StoreFailed where it does not answer."""
    with answering(what):
        yield from items
