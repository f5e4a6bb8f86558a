"""Whatever a hash holds: it loads as nothing, is told, can be written again and ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dirigible_session import handles
from dirigible_session.lifecycle import Times
from dirigible_session.stored import StoredSession
from tests.stores import Api

from .sessions import content, listed, loaded, new, store

#: Fields and values that once ended all tools with a traceback, or a visitor's every request.
CORPUS: list[dict[bytes, bytes]] = [
    {b"a:_session_expiry": b"1 [1]"},
    {b"a:_session_expiry": b'1 {"a":1}'},
    {b"a:_session_expiry": b"1 " + b"9" * 400},
    {b"a:_session_expiry": b"1 " + b"9" * 5000},
    {b"a:_session_expiry": b"1 1e999"},
    {b"a:_session_expiry": b"1 NaN"},
    {b"a:_session_expiry": b"1 -Infinity"},
    {b"a:_session_expiry": b'1 "soon"'},
    {b"a:_session_expiry": b"1 " + b"[" * 100_000},
    {b"created": b"nan"},
    {b"created": b"1e300"},
    {b"accessed": b"inf"},
    {b"accessed": b"-1e400"},
    {b"accessed": b""},
    {b"authenticated": b"never"},
    {b"interval": b"1.5"},
    {b"interval": b"9" * 400},
    {b"serial": b"1e400"},
    {b"serial": b"9" * 400},
    {b"serial": b"-1"},
    {b"listed": b"\xff"},
    {b"listed": b"inf x"},
    {b"a:a": b"1"},
    {b"a:a": b"x 1"},
    {b"a:a": b"9" * 5000 + b" 1"},
    {b"a:a": b"1 1,2"},
    {b"a:a": b"1 \xff"},
    {b"a:\xff": b"1 1"},
    {b"a:_auth_user_id": b"1 [1"},
    {b"moved_to": b"\xff"},
    {b"moved_at": b"?"},
]
FIELDS = sorted({field for damage in CORPUS for field in damage} | {b"until", b"left", b"", b"x"})
VALUES = sorted({value for damage in CORPUS for value in damage.values() if len(value) < 1000})
DAMAGE = st.dictionaries(
    st.sampled_from(FIELDS) | st.binary(max_size=12),
    st.sampled_from(VALUES) | st.binary(max_size=20),
    min_size=1,
    max_size=4,
)


@pytest.fixture
def server(redis_server: Any, caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING)
    return redis_server


def damaged(server: Any, damage: dict[bytes, bytes]) -> str:
    key = new(a=1, _auth_user_id="7")
    name = server.where.keys.session(handles.digest(key))
    server.redis.hset(name, mapping=damage)
    return key


def shown(key: str) -> StoredSession | None:
    found = listed(digest_prefix=handles.digest(key))
    return found[0] if found else None


@pytest.mark.parametrize("damage", CORPUS, ids=lambda damage: ascii(damage)[:40])
def test_one_of_the_corpus_stays_where_it_is(
    server: Any, api: Api, damage: dict[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    sound = new(a=2)
    key = damaged(server, damage)
    session = store(key)
    is_readable = shown(key).data is not None  # type: ignore[union-attr]
    caplog.clear()
    assert bool(dict(api.items(session))) is is_readable
    assert ("Session data corrupted" in caplog.text) is not is_readable
    assert {found.digest for found in listed()} == {handles.digest(other) for other in (sound, key)}
    call_command("clearsessions")
    session["b"] = 1
    api.save(session)
    assert content(key)["b"] == 1
    assert shown(key).data["b"] == 1  # type: ignore[union-attr,index]
    api.flush(loaded(key))
    assert content(key) == {}
    assert content(sound) == {"a": 2}


@pytest.mark.parametrize("damage", CORPUS, ids=lambda damage: ascii(damage)[:40])
def test_one_of_the_corpus_can_be_ended(server: Any, api: Api, damage: dict[bytes, bytes]) -> None:
    key = damaged(server, damage)
    digest = handles.digest(key)
    assert type(store()).end_stored([digest]) == {digest}
    assert not api.exists(store(), key)
    key = damaged(server, damage)
    api.flush(store(key))
    assert not api.exists(store(), key)
    key = damaged(server, damage)
    api.cycle_key(loaded(key))
    assert content(key) == {}


def test_an_index_with_other_things_in_it_is_mended(server: Any) -> None:
    key = new(_auth_user_id="7")
    index = server.where.keys.user("7")
    server.redis.zadd(index, {b"\xff": time.time() + 100, b"x" * 40: time.time() + 100})
    server.redis.zadd(server.where.keys.user("") + b"\xff", {b"x": 1})
    assert [found.digest for found in listed(user_id="7")] == [handles.digest(key)]
    call_command("clearsessions")
    assert server.redis.zrange(index, 0, -1) == [handles.digest(key).encode()]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damage=DAMAGE)
@example(damage={b"a:_session_expiry": b"1 [1]", b"serial": b"inf"})
@example(damage={b"left": b"", b"moved_at": b""})
@example(damage={b"accessed": b"nan", b"a:a": b"1", b"until": b"?"})
def test_no_hash_raises(server: Any, damage: dict[bytes, bytes]) -> None:
    key = damaged(server, damage)
    session = store(key)
    before = dict(session.items())
    found = shown(key)
    is_gone = found is None or (found.expires is not None and found.expires <= time.time())
    assert (is_gone or found.data is None) is (not before)  # type: ignore[union-attr]
    call_command("clearsessions")
    if session.session_key is not None and store().exists(key):
        session["b"] = 1
        session.save()
        assert content(key)["b"] == 1
        again = loaded(key)
        again.times = again.times or Times(1.0, 1.0)
        assert again.touch(time.time() + 100)
        again.cycle_key()
        key = again.session_key
        assert content(key)["b"] == 1
        store(key).flush()
    assert content(key) == {}
    listed()


@pytest.fixture(autouse=True)
def _is_empty_afterwards(server: Any) -> Iterator[None]:
    yield
    for name in server.redis.scan_iter(match=f"{server.where.keys.prefix}*"):
        server.redis.delete(name)
