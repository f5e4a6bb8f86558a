"""Tells from an engine's serializer whether its sessions may be encrypted."""

from __future__ import annotations

import pickle
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.core.cache import caches
from django.core.signing import JSONSerializer

_PROBE = {"probe": 1}


def unknown_serializer_of(store_class: type[Any]) -> str | None:
    """Return the path of an engine's serializer; None if it is known not to encrypt.

    Django's JSON serializer and any serializer that pickles are known. A subclass of Django's
    serializer is not: it may encrypt.
    """
    if store_class.encode is not SessionBase.encode:
        return f"{store_class.__module__}.{store_class.__qualname__}.encode"
    serializer = _of_cache() if issubclass(store_class, CacheStore) else store_class().serializer()
    if type(serializer) is JSONSerializer or _pickles(serializer):
        return None
    return f"{type(serializer).__module__}.{type(serializer).__qualname__}"


def _of_cache() -> Any:
    """Return the serializer of the cache that holds the sessions, of Django's or django-redis."""
    cache: Any = caches[settings.SESSION_CACHE_ALIAS]
    holder = getattr(cache, "client", None) or getattr(cache, "_cache", None)
    return getattr(holder, "_serializer", None)


def _pickles(serializer: Any) -> bool:
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    pickled = [pickle.dumps(_PROBE, number) for number in protocols]
    try:
        return serializer.dumps(_PROBE) in pickled
    except Exception:
        # It may be the project's, and fail in any way: for want of a key, perhaps.
        return False
