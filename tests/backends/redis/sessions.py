"""Sessions of the Redis engine, in one line each."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from dirigible_session.stored import Query


def store(key: str | None = None) -> Any:
    return import_module("dirigible_session.backends.redis").SessionStore(key)


def new(**attributes: Any) -> str:
    """Store a session and return its key."""
    session = store()
    session.update(attributes)
    session.save()
    return session.session_key


def loaded(key: str) -> Any:
    session = store(key)
    session.keys()
    return session


def content(key: str) -> dict[str, Any]:
    return dict(store(key).items())


def listed(**query: Any) -> list[Any]:
    return list(type(store()).list_stored(Query(now=time.time(), **query)))


def is_pointer(client: Any, name: bytes) -> bool:
    """Return whether a key only tells where a session is whose key was changed."""
    return client.type(name) == b"hash" and client.hkeys(name) == [b"moved_to"]
