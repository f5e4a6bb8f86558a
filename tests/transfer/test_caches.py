"""``sessions_migrate`` from Django's cache engine on Redis, through each backend that has one."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache
from django.core.management import call_command

from dirigible_session import lifecycle
from dirigible_session.inspection.readers.cache import redis_access

pytestmark = pytest.mark.django_db

CACHE = "django.contrib.sessions.backends.cache"
BACKENDS = ["django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache"]
HOUR = 60 * 60


@pytest.fixture(autouse=True, params=BACKENDS)
def cache(request: pytest.FixtureRequest, settings: Any, redis_server_url: str) -> Iterator[None]:
    """A cache on Redis, with keys that are gone afterwards."""
    pytest.importorskip(request.param.split(".")[0])
    prefix = f"test-{uuid4().hex}"
    settings.CACHES = {
        "default": {
            "BACKEND": request.param,
            "LOCATION": redis_server_url,
            "KEY_PREFIX": prefix,
        }
    }
    settings.DJANGO_REDIS_CLOSE_CONNECTION = True
    yield
    client = redis_access("default").client
    for key in list(client.scan_iter(match=f"{prefix}*", count=1000)):
        client.delete(key)
    used = caches["default"]
    used.close()
    if isinstance(used, RedisCache):
        for pool in used._cache._pools.values():
            pool.disconnect()


@pytest.fixture(params=["db", "redis"])
def new(request: pytest.FixtureRequest, settings: Any) -> str:
    """The new engine, which is SESSION_ENGINE."""
    if request.param == "redis":
        request.getfixturevalue("redis_server")
    settings.SESSION_ENGINE = f"dirigible_session.backends.{request.param}"
    return str(settings.SESSION_ENGINE)


def store_of(engine: str, key: str | None = None) -> Any:
    return import_module(engine).SessionStore(key)


def stored(**attributes: Any) -> str:
    store = store_of(CACHE)
    store.update(attributes)
    store.save()
    return str(store.session_key)


def change(engine: str, key: str, **attributes: Any) -> None:
    store = store_of(engine, key)
    store.update(attributes)
    store.save()


def migrate() -> str:
    out = io.StringIO()
    call_command("sessions_migrate", f"--from={CACHE}", stdout=out)
    return out.getvalue()


def test_live_sessions_come_over_with_their_end(new: str) -> None:
    key = stored(_auth_user_id="7", cart=[1])
    short = stored(n=1, **{lifecycle.EXPIRY_KEY: HOUR})
    before = time.time()
    assert migrate().startswith("Copied 2,")
    store = store_of(new, key)
    assert dict(store.items()) == {"_auth_user_id": "7", "cart": [1]}
    ended = store_of(new, short)
    assert ended["n"] == 1
    assert ended.end_of(ended, ended.times) == pytest.approx(before + HOUR, abs=10)


def test_a_second_run_takes_over_what_was_written_and_ended_since(new: str) -> None:
    same, changed, used, ended = (stored(n=number) for number in range(4))
    migrate()
    change(CACHE, changed, by="old")
    change(CACHE, used, by="old")
    change(new, used, by="new")
    store_of(CACHE, ended).delete()
    assert migrate() == (
        "Copied 0, updated 1, ended 1, unchanged 1, skipped 1 (changed in the new engine), "
        "unreadable 0.\n"
    )
    found = [dict(store_of(new, key).items()) for key in (same, changed, used, ended)]
    assert found == [{"n": 0}, {"n": 1, "by": "old"}, {"n": 2, "by": "new"}, {}]


def test_what_the_new_engine_ended_stays_ended(new: str) -> None:
    key = stored(n=1)
    migrate()
    store_of(new, key).delete()
    change(CACHE, key, n=2)
    migrate()
    assert dict(store_of(new, key).items()) == {}


def test_a_session_past_its_interval_is_not_copied(new: str) -> None:
    now = time.time()
    times = lifecycle.Times(now - 3 * HOUR, now - 2 * HOUR).as_record()
    stored(n=1, **{lifecycle.TIMES_KEY: times, lifecycle.EXPIRY_KEY: HOUR})
    assert migrate().startswith("Copied 0,")
