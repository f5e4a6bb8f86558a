"""The reader for the sessions of an engine, or the reason why there is none."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookieStore
from django.utils.translation import gettext_noop as _

from dirigible_session.inspection.errors import NotListable, UnknownEngine, one_line

from .base import OwnReader, Reader
from .cache import CacheReader
from .database import DatabaseReader, table_of
from .files import FileReader


def store_class_of(engine: str | None) -> type[SessionBase]:
    """Return the store class of an engine, of SESSION_ENGINE by default; UnknownEngine if none."""
    path = settings.SESSION_ENGINE if engine is None else engine
    try:
        store_class = import_module(path).SessionStore
    except Exception as error:
        # An engine may be a module of the project, and fail in any way.
        raise UnknownEngine(f"{path!r} is not a session engine: {one_line(error)}") from error
    if not (isinstance(store_class, type) and issubclass(store_class, SessionBase)):
        raise UnknownEngine(
            f"{path!r} is not a session engine: its SessionStore is not a SessionBase."
        )
    return store_class


def reader_of(store_class: type[Any]) -> Reader:
    """Return the reader of an engine; NotListable if its sessions can't be listed."""
    if getattr(store_class, "can_list", False):
        return OwnReader(store_class)
    if issubclass(store_class, SignedCookieStore):
        raise NotListable(
            _(
                "Sessions of the signed_cookies engine can't be listed: they are in their "
                "visitors' browsers."
            )
        )
    if issubclass(store_class, FileStore):
        return FileReader(store_class)
    if issubclass(store_class, CacheStore):
        return CacheReader(store_class)
    table = table_of(store_class)
    if table is not None:
        return DatabaseReader(store_class, table)
    raise NotListable(
        _(
            "Sessions of %(engine)s can't be listed: the engine does not declare that it can list "
            "them."
        ),
        engine=store_class.__module__,
    )
