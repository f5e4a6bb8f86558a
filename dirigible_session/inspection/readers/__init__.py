"""Which reader reads the sessions of an engine, and why there is none for some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookieStore

from dirigible_session.inspection.errors import NotListable, UnknownEngine, said

from .cache import CacheReader
from .database import DatabaseReader
from .files import FileReader

if TYPE_CHECKING:
    from dirigible_session.stored import Query, StoredSession


class KeyedReader(Protocol):
    """Reads an engine whose store is found by session key, as Django's are."""

    def count(self) -> int | None:
        """Return how many sessions are stored; None if it takes reading them all to tell."""

    def keys(self) -> Iterator[str]:
        """Walk the session keys."""

    def by_keys(self, keys: Iterable[str]) -> Iterator[StoredSession]:
        """Give the sessions of these keys that are there."""

    def walk(self, query: Query) -> Iterator[StoredSession]:
        """Walk the stored sessions that ``query`` asks for, or more: it asks for what is cheap."""


def store_class_of(engine: str | None) -> type[SessionBase]:
    """Return the store class of an engine, of SESSION_ENGINE by default; UnknownEngine if none."""
    path = settings.SESSION_ENGINE if engine is None else engine
    try:
        store_class = import_module(path).SessionStore
    except Exception as error:
        # An engine may be a module of the project, and fail in any way.
        raise UnknownEngine(f"{path!r} is no session engine: {said(error)}") from error
    if not (isinstance(store_class, type) and issubclass(store_class, SessionBase)):
        raise UnknownEngine(f"{path!r} is no session engine: its SessionStore is no session store.")
    return store_class


def can_list(store_class: type[SessionBase]) -> bool:
    """Return whether the engine declares that it can list its sessions itself."""
    return bool(getattr(store_class, "can_list", False))


def keyed_reader(store_class: type[Any]) -> KeyedReader:
    """Return the reader of an engine of Django's; NotListable if it has no sessions to list."""
    if issubclass(store_class, DatabaseStore):
        return DatabaseReader(store_class)
    if issubclass(store_class, SignedCookieStore):
        raise NotListable(
            "Sessions of the signed_cookies engine can't be listed: they are in their visitors' "
            "browsers."
        )
    if issubclass(store_class, FileStore):
        return FileReader(store_class)
    if issubclass(store_class, CacheStore):
        return CacheReader(store_class)
    raise NotListable(
        f"Sessions of {store_class.__module__} can't be listed: the engine does not declare that "
        "it can list them."
    )
