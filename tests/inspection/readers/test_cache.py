"""Reading sessions in a cache on Redis."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.core.cache import caches

from dirigible_session import handles
from dirigible_session.inspection import Inspector, NotListable, Selection, StoreFailed
from dirigible_session.inspection.readers import cache as reading
from dirigible_session.stored import Query

DJANGO = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"


@pytest.fixture(params=[DJANGO, DJANGO_REDIS])
def use_cache(
    request: pytest.FixtureRequest, settings: Any, use_engine: Any, redis_server_url: str
) -> Any:
    """Give a function that puts sessions into a cache on Redis with the options given."""

    def use(**options: Any) -> None:
        close()
        cache = {"BACKEND": request.param, "LOCATION": redis_server_url}
        settings.CACHES = {"default": cache | options}
        use_engine("cache")

    def close() -> None:
        for cache in caches.all(initialized_only=True):
            if isinstance(cache, reading.RedisCache):
                for pool in cache._cache._pools.values():
                    pool.disconnect()

    settings.DJANGO_REDIS_CLOSE_CONNECTION = True
    use()
    yield use
    close()


def by_version(key: str, prefix: str, version: int) -> str:
    return f"{version}/{key}/{prefix}"


def hashed(key: str, prefix: str, version: int) -> str:
    return f"{prefix}{hash(key)}"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"KEY_PREFIX": "a[b]*?\\^-c"},
        {"KEY_FUNCTION": f"{__name__}.by_version", "KEY_PREFIX": "site*"},
        {"VERSION": 7},
    ],
)
def test_each_value_of_the_engine_is_a_session(use_cache, store, read, options):
    use_cache(**options)
    caches["default"].set("something-else", {"n": 2})
    caches["default"].set("django.contrib.sessions.cached_dbabcdefgh", {"n": 3})
    session = store(cart=[1])
    (record,) = read(reveal=True)
    assert record.session_key == session.session_key
    assert record.attributes == {"cart": [1]}
    left = record.expires - datetime.now(timezone.utc)
    assert timedelta(days=13) < left <= timedelta(days=14)
    assert record.size > 10
    assert Inspector().count() is None


@pytest.mark.parametrize("use_cache", [DJANGO_REDIS], indirect=True)
def test_what_a_client_keeps_beside_a_session_is_none_of_it(use_cache, store, read):
    use_cache(OPTIONS={"CLIENT_CLASS": "django_redis.client.HerdClient"})
    session = store(cart=[1])
    for timeout in (1000, None):
        caches["default"].set(session.cache_key, {"cart": [1]}, timeout)
        assert [record.attributes for record in read()] == [{"cart": [1]}]
    assert Inspector().invalidate(Selection()) == 1
    assert read() == []


def test_values_are_read_a_megabyte_at_a_time(use_cache, store, read, monkeypatch):
    monkeypatch.setattr(reading, "KEYS", 3)
    monkeypatch.setattr(reading, "VALUE_BYTES", 100)
    for n in range(8):
        store(n=n, text="x" * 60)
    assert sorted(record.attributes["n"] for record in read()) == list(range(8))


@pytest.mark.parametrize("bounds", [{"limit": 7}, {"most_read": 3}, {"seconds": -1.0}])
def test_sessions_are_read_page_by_page(use_cache, store, monkeypatch, bounds):
    monkeypatch.setattr(reading, "KEYS", 10)
    for n in range(60):
        store({"_auth_user_id": str(n % 2)}, n=n)
        caches["default"].set(f"something-else-{n}", n)
    inspector, wanted = Inspector(), Selection(user_id="1")
    pages = [inspector.page(wanted, **bounds)]
    while pages[-1].next is not None:
        pages.append(inspector.page(wanted, after=pages[-1].next, **bounds))
    found = [record.attributes["n"] for page in pages for record in page.records]
    assert sorted(found) == list(range(1, 60, 2))
    assert len(pages) > 4
    assert max(page.read for page in pages) < 30


def test_a_handle_is_looked_for_page_by_page(use_cache, store, monkeypatch):
    monkeypatch.setattr(reading, "KEYS", 10)
    sessions = [store(n=n) for n in range(40)]
    wanted = Selection(session=handles.handle(sessions[20].session_key))
    inspector = Inspector()
    pages = [inspector.page(wanted, seconds=-1.0)]
    while pages[-1].next is not None:
        pages.append(inspector.page(wanted, after=pages[-1].next, seconds=-1.0))
    assert [record.attributes["n"] for page in pages for record in page.records] == [20]
    assert len(pages) > 1
    chosen = Selection(digests=tuple(handles.digest(one.session_key) for one in sessions[:3]))
    assert len(inspector.end(inspector.sessions(chosen))) == 3
    assert inspector.end(inspector.sessions(chosen)) == []


def test_a_session_without_expiry_has_none(use_cache, store, read):
    session = store(n=1)
    caches["default"].set(session.cache_key, {"n": 1}, None)
    (record,) = read()
    assert record.expires is None
    assert record.state == "active"


class Unfindable:
    def __reduce__(self) -> Any:
        return (int, ("not a number",))


def test_what_cannot_be_decoded_is_reported_and_the_rest_still_comes(use_cache, store, read):
    store(n=1)
    prefix = "django.contrib.sessions.cache"
    caches["default"].set(f"{prefix}{'a' * 32}", Unfindable())
    caches["default"].set(f"{prefix}{'b' * 32}", 7)
    records = read()
    assert sorted(record.state for record in records) == ["active", "unreadable", "unreadable"]
    assert sorted(record.error for record in records)[1:] == [
        "value can't be decoded (ValueError)",
        "value is not a dict",
    ]


def test_a_stranger_that_holds_no_value_and_a_session_that_goes_meanwhile_are_passed_over(
    use_cache, store, read
):
    session = store(n=1)
    reader = Inspector()._reader
    client = reader._access.client
    client.lpush(reader._made("a" * 32), "x")
    assert len(read()) == 1
    sessions = reader.walk(Query(now=0))
    session.delete()
    assert list(sessions) == []
    assert list(reader.read([session.session_key])) == []
    assert list(reader._valued({"b" * 32: None})) == []


def test_what_has_no_name_is_no_attribute(use_cache, store, read):
    store({b"bytes": 1, ("a", "tuple"): 2, None: 3, 5: 4}, n=1)
    assert [record.attributes for record in read()] == [{"n": 1}]
    assert Inspector().summary().attributes == {"n": 1}


def test_a_session_is_found_by_its_key_and_by_its_handle(use_cache, store):
    session = store(n=1)
    digest = Inspector().find(session.session_key)
    assert Inspector().find(digest[:6]) == digest


def test_keys_that_a_key_function_hides_cannot_be_listed(use_cache, read):
    use_cache(KEY_FUNCTION=f"{__name__}.hashed")
    with pytest.raises(NotListable, match="KEY_FUNCTION hides"):
        read()


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_one_line_of_reason(use_cache, read):
    use_cache()
    caches["default"].close()
    access = reading.redis_access("default")
    reader = Inspector()._reader
    pool = access.client.connection_pool
    object.__setattr__(reader._access, "client", type(access.client)(port=1))
    with pytest.raises(StoreFailed, match="The cache 'default' can't be read"):
        list(reader.walk(Query(now=0)))
    pool.disconnect()


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("django.core.cache.backends.locmem.LocMemCache", "memory of another process"),
        ("django.core.cache.backends.memcached.PyMemcacheCache", "Memcached has no listing"),
        ("django.core.cache.backends.dummy.DummyCache", "keeps nothing"),
        ("django.core.cache.backends.filebased.FileBasedCache", "no listing"),
    ],
)
def test_other_caches_cannot_be_listed(settings, tmp_path, backend, reason):
    if "Memcache" in backend:
        pytest.importorskip("pymemcache")
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    with pytest.raises(NotListable, match=reason):
        Inspector()


def test_a_cache_spread_over_servers_cannot_be_listed(settings, use_engine, redis_server_url):
    pytest.importorskip("django_redis")
    settings.CACHES = {
        "default": {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": [redis_server_url, redis_server_url],
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
        }
    }
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    with pytest.raises(NotListable, match="spread over several servers"):
        Inspector()


def test_a_cache_that_is_not_configured_is_one_line_of_reason(settings):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.SESSION_CACHE_ALIAS = "sessions"
    with pytest.raises(StoreFailed, match="sessions"):
        Inspector()
