"""The reasons why stored sessions can't be read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, Error
from django.utils.translation import gettext

from dirigible_session.exceptions import SessionConflict, StoreUnavailable
from dirigible_session.handles import HANDLE_LENGTH

MOST_LISTED = 10

#: The databases' messages for a missing table or column.
_MISSING = (
    "no such table",
    "no such column",
    "has no column named",
    "does not exist",
    "doesn't exist",
    "Unknown column",
)

_KNOWN = (Error, OSError, ImproperlyConfigured, StoreUnavailable, SessionConflict)

#: Exceptions of the clients of stores, by module: a site has few of these modules.
_CLIENTS = (
    ("redis.exceptions", "RedisError"),
    ("redis.exceptions", "RedisClusterException"),
    ("django_redis.exceptions", "ConnectionInterrupted"),
    ("pymemcache.exceptions", "MemcacheError"),
    ("pylibmc", "Error"),
)

Item = TypeVar("Item")


class InspectionError(Exception):
    """Stored sessions can't be read; the message is one line that says why."""


class UnknownEngine(InspectionError):
    """The path is not that of a session engine."""


class UnknownFilter(InspectionError, ImproperlyConfigured):
    """DEFAULT_EXCEPTION_REPORTER_FILTER is not a filter, or can't recognize secrets."""


class WrongSetting(InspectionError, ImproperlyConfigured):
    """A setting that says how long sessions last is not a number of seconds."""


class UnknownPosition(InspectionError):
    """The position does not come from a page of this engine."""


class NotListable(InspectionError):
    """The engine can't tell which sessions there are."""

    def __init__(self, message: str, **params: str) -> None:
        """``message`` is marked for translation, and has places for ``params``.

        So has the param ``reason``, if there is one.
        """
        self._message, self._params = message, params
        super().__init__(self._filled(str))

    def translated(self) -> str:
        """Return the message in the current language."""
        return self._filled(gettext)

    def _filled(self, translate: Callable[[str], str]) -> str:
        reason = translate(self._params.get("reason", "-")) % self._params
        return translate(self._message) % {**self._params, "reason": reason}


class StoreFailed(InspectionError):
    """The store did not answer."""


class NoSuchUser(InspectionError):
    """Neither a username nor a primary key."""


class NoSuchSession(InspectionError):
    """No stored session has this handle or key. The message never contains a possible key."""


class AmbiguousHandle(InspectionError):
    """The digests of several stored sessions begin with these digits."""

    def __init__(self, prefix: str, digests: Sequence[str]) -> None:
        #: The full digests that match, :data:`MOST_LISTED` and one more at most.
        self.digests = tuple(digests)
        length = HANDLE_LENGTH
        while len({digest[:length] for digest in digests}) < len(digests):
            length += 1
        listed = ", ".join(digest[:length] for digest in digests[:MOST_LISTED])
        if len(digests) > MOST_LISTED:
            listed += " and more"
        super().__init__(
            f"{prefix!r} is ambiguous: it matches {listed}. Give more digits of the one you mean."
        )


class NotEnded(InspectionError):
    """The store kept some of the sessions that were to be ended."""

    def __init__(self, ended: int, digests: Sequence[str]) -> None:
        """``ended`` is how many were ended, ``digests`` are those of the others."""
        self.ended = ended
        self.digests = tuple(digests)
        listed = [digest[:HANDLE_LENGTH] for digest in digests[:MOST_LISTED]]
        more = f" and {len(digests) - len(listed)} more" if len(digests) > len(listed) else ""
        super().__init__(
            f"Ended {ended}. The store keeps {', '.join(listed)}{more}: check that this process "
            "has the permission to delete them."
        )


def store_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that stores raise when they do not answer."""
    clients = ((sys.modules.get(module), name) for module, name in _CLIENTS)
    raised = (getattr(client, name, None) for client, name in clients if client is not None)
    return (*_KNOWN, *(error for error in raised if error is not None))


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, with what to do if a table is missing."""
    line = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, DatabaseError) and any(said in line for said in _MISSING):
        line = f"{line.rstrip('.')}. Run `python manage.py migrate`."
    return line


@contextmanager
def store_errors_as(what: str, failing: str = "can't be read") -> Iterator[None]:
    """Raise StoreFailed with a message that begins with ``what`` if a store does not answer."""
    try:
        yield
    except store_errors() as error:
        raise StoreFailed(f"{what} {failing}: {one_line(error)}") from error


@contextmanager
def opening_errors_as(what: str) -> Iterator[None]:
    """Raise StoreFailed with a message that begins with ``what`` if a store can't be made.

    Any exception counts: an engine and the settings of its store are the project's choice.
    """
    try:
        yield
    except InspectionError:
        raise
    except Exception as error:
        raise StoreFailed(f"{what} can't be opened: {one_line(error)}") from error


def each(what: str, items: Iterable[Item]) -> Iterator[Item]:
    """Iterate over ``items`` of a store; StoreFailed if it does not answer."""
    with store_errors_as(what):
        yield from items
