"""Reading the ``cache`` engine on Redis, through Django's own backend or django-redis."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.backends.cached_db import KEY_PREFIX as CACHED_DB_PREFIX
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import BaseMemcachedCache
from django.core.cache.backends.redis import RedisCache
from django.utils.module_loading import import_string
from django.utils.translation import gettext_noop as _

from dirigible_session import handles
from dirigible_session.inspection.errors import NotListable, each, store_errors_as
from dirigible_session.lifecycle import TIMES_KEY, Times
from dirigible_session.stored import StoredSession

from .base import KeyedReader

if TYPE_CHECKING:
    from django.contrib.sessions.backends.cache import SessionStore

    from dirigible_session.stored import Query

#: Keys that are asked for at a time, and bytes of their values.
KEYS = 500
VALUE_BYTES = 1_000_000

#: A placeholder for the session key, to find the pattern of a cache's keys.
PROBE = "dirigiblesessionprobe"


@dataclass(frozen=True)
class RedisAccess:
    """A client of the Redis behind a cache, whose own methods have no SCAN."""

    client: Any
    make_key: Callable[[str], str]
    loads: Callable[[bytes], Any]


def redis_access(alias: str) -> RedisAccess:
    """Return access to a cache; NotListable if it is not on Redis."""
    cache = caches[alias]
    if isinstance(cache, RedisCache):
        backend: Any = cache._cache
        return RedisAccess(backend.get_client(), cache.make_key, backend._serializer.loads)
    django_redis = sys.modules.get("django_redis.cache")
    if django_redis is not None and isinstance(cache, django_redis.RedisCache):
        client: Any = cache.client
        if isinstance(client, import_string("django_redis.client.ShardClient")):
            raise _not_listable(alias, _("it is spread over several servers by the key"))
        return RedisAccess(client.get_client(write=False), client.make_key, _loads(client))
    raise _not_listable(
        alias, _reason(cache), name=f"{type(cache).__module__}.{type(cache).__qualname__}"
    )


def _not_listable(alias: str, reason: str, **params: str) -> NotListable:
    message = _("Sessions in the cache '%(alias)s' can't be listed: %(reason)s.")
    return NotListable(message, alias=alias, reason=reason, **params)


def _loads(client: Any) -> Callable[[bytes], Any]:
    """Return the function that reads values written by a client of django-redis."""
    decode: Callable[[bytes], Any] = client.decode
    unpack = getattr(client, "_unpack", None)
    if unpack is None:
        return decode
    # A HerdClient stores the time to recompute a value together with the value.
    return lambda value: unpack(decode(value))[0]


def _reason(cache: BaseCache) -> str:
    if isinstance(cache, LocMemCache):
        return _("a local-memory cache is in the memory of another process")
    if isinstance(cache, BaseMemcachedCache):
        return _("Memcached has no listing of its keys")
    if isinstance(cache, DummyCache):
        return _("a dummy cache keeps nothing")
    return _("%(name)s has no listing of its keys")


class CacheReader(KeyedReader):
    """The sessions in a cache on Redis, found by SCAN.

    At a time, 500 keys are in memory and the values of some of them, of one megabyte in all (or
    one value, if that is larger). If Redis moves its keys to a larger table meanwhile, SCAN may
    return a key twice.
    """

    def __init__(self, store_class: type[SessionStore]) -> None:
        """Open the cache; NotListable if it is not on Redis, or hides the session keys."""
        super().__init__(store_class)
        self._prefix = store_class.cache_key_prefix
        alias = settings.SESSION_CACHE_ALIAS
        self._what = f"The cache {alias!r}"
        with store_errors_as(self._what):
            self._cache = caches[alias]
            self._access = redis_access(alias)
        self._before, found, self._after = self._made(PROBE).partition(PROBE)
        if not found:
            raise _not_listable(alias, _("its KEY_FUNCTION hides the session keys"))

    def _made(self, session_key: str) -> str:
        return str(self._access.make_key(self._prefix + session_key))

    def pages(self, query: Query) -> Iterator[dict[str, str]]:
        """Walk the session keys, by SCAN.

        The position of a session is the cursor that gave it and, since a reply holds several, its
        digest, by which they are sorted.
        """
        before, after = _without_globs(self._before), _without_globs(self._after)
        scan = {"match": f"{before}*{after}", "count": KEYS}
        if query.after is None:
            found = each(self._what, self._access.client.scan_iter(**scan))
            while batch := list(islice(found, KEYS)):
                yield dict.fromkeys(self._session_keys(batch), "")
            return
        cursor, _, passed = query.after.partition(" ")
        while True:
            with store_errors_as(self._what):
                following, batch = self._access.client.scan(cursor or 0, **scan)
            keys = sorted((handles.digest(key), key) for key in self._session_keys(batch))
            yield {key: f"{cursor} {digest}" for digest, key in keys if digest > passed}
            if not int(following):
                return
            cursor, passed = str(following), ""
            query.pause(f"{cursor} ")

    def _session_keys(self, batch: Iterable[bytes | str]) -> Iterator[str]:
        for raw in batch:
            made = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
            key = made[len(self._before) : len(made) - len(self._after)]
            # The prefix of cached_db begins with that of this engine.
            is_cached_db = (self._prefix + key).startswith(CACHED_DB_PREFIX)
            if not is_cached_db or self._prefix.startswith(CACHED_DB_PREFIX):
                yield key

    def read(self, keys: Iterable[str]) -> Iterator[StoredSession]:
        """Read the sessions with these keys that are still there."""
        wanted = list(keys)
        if wanted:
            yield from each(self._what, self._batch(wanted))

    def delete(self, session_key: str) -> bool:
        """Delete the value of a session; return whether this call did it."""
        return bool(self._cache.delete(self._prefix + session_key))

    def _batch(self, keys: list[str]) -> Iterator[StoredSession]:
        pipeline = self._access.client.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(self._made(key))
            pipeline.strlen(self._made(key))
        answers = pipeline.execute(raise_on_error=False)
        now = time.time()
        group: dict[str, float | None] = {}
        size = 0
        for key, left, length in zip(keys, answers[::2], answers[1::2], strict=True):
            if isinstance(left, Exception) or isinstance(length, Exception) or left == -2:
                # Gone since SCAN, or a key of another program that is not a string.
                continue
            if size + length > VALUE_BYTES:
                yield from self._valued(group)
                group, size = {}, 0
            group[key] = None if left < 0 else now + left / 1000
            size += length
        yield from self._valued(group)

    def _valued(self, expiries: dict[str, float | None]) -> Iterator[StoredSession]:
        if not expiries:
            return
        values = self._access.client.mget([self._made(key) for key in expiries])
        for (key, expires), value in zip(expiries.items(), values, strict=True):
            if value is not None:
                yield self._session(key, expires, value)

    def _session(self, key: str, expires: float | None, value: bytes) -> StoredSession:
        data, reason = None, ""
        try:
            data = self._access.loads(value)
        except Exception as error:
            # Whatever the cache's serializer raises.
            reason = f"value can't be decoded ({type(error).__name__})"
        if not reason and not isinstance(data, dict):
            data, reason = None, "value is not a dict"
        return StoredSession(
            digest=handles.digest(key),
            data=data,
            times=None if data is None else Times.from_record(data.get(TIMES_KEY)),
            expires=expires,
            size=len(value),
            error=reason,
            session_key=key,
        )


def _without_globs(text: str) -> str:
    """Return ``text`` as a pattern that matches it and nothing else."""
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)
