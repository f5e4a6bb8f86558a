"""``sessions_migrate`` into the Redis engine and out of it again."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from dirigible_session import handles
from dirigible_session.models import MigratedSession
from dirigible_session.stored import Query
from dirigible_session.transfer import GRACE

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_anywhere")]

STOCK = "django.contrib.sessions.backends.db"
OWN_DB = "dirigible_session.backends.db"
REDIS = "dirigible_session.backends.redis"


def store(engine: str, key: str | None = None) -> Any:
    return import_module(engine).SessionStore(key)


def stored(engine: str, **attributes: Any) -> str:
    session = store(engine)
    session.update(attributes)
    session.save()
    return session.session_key


def change(engine: str, key: str, **attributes: Any) -> None:
    session = store(engine, key)
    session.update(attributes)
    session.save()


def content(key: str) -> dict[str, Any]:
    return dict(store(REDIS, key).items())


def migrate(origin: str) -> str:
    out = io.StringIO()
    call_command("sessions_migrate", f"--from={origin}", stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("origin", [STOCK, OWN_DB])
def test_sessions_come_over_and_are_found_by_their_user(origin: str) -> None:
    key = stored(origin, _auth_user_id="7", cart=[1], b=2, a=1)
    assert "Copied 1" in migrate(origin)
    session = store(REDIS, key)
    assert list(session.items()) == [("_auth_user_id", "7"), ("cart", [1]), ("b", 2), ("a", 1)]
    found = type(session).list_stored(Query(now=0, user_id="7"))
    assert [one.digest for one in found] == [handles.digest(key)]


def test_a_second_run_takes_over_what_was_written_since_and_no_more() -> None:
    changed, used, ended = (stored(STOCK, n=number) for number in range(3))
    migrate(STOCK)
    for key, engine in ((changed, STOCK), (used, STOCK), (used, REDIS)):
        session = store(engine, key)
        session["by"] = engine
        session.save()
    store(STOCK, ended).delete()
    assert "took over 1 again, ended 1" in migrate(STOCK)
    assert dict(store(REDIS, changed).items()) == {"n": 0, "by": STOCK}
    assert dict(store(REDIS, used).items()) == {"n": 1, "by": REDIS}
    assert store(REDIS, ended).load() == {}


def test_a_write_between_the_look_and_the_take_over_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    key = stored(STOCK, n=1)
    migrate(STOCK)
    session = store(STOCK, key)
    session["n"] = 2
    session.save()
    store_class = type(store(REDIS))
    replace = store_class._replace

    def replace_late(*args: Any) -> bool:
        rival = store(REDIS, key)
        rival["rival"] = 1
        rival.save()
        return replace(*args)

    monkeypatch.setattr(store_class, "_replace", replace_late)
    migrate(STOCK)
    assert dict(store(REDIS, key).items()) == {"n": 1, "rival": 1}
    assert MigratedSession.objects.get().pending == ""


def test_what_redis_has_of_its_own_is_left_alone() -> None:
    key = stored(STOCK, n=1)
    own = store(REDIS)
    own["n"] = 2
    own._session_key = key
    own.save(must_create=True)
    for _ in range(2):
        assert "1 are the new" in migrate(STOCK)
    assert content(key) == {"n": 2}
    assert not MigratedSession.objects.exists()


def stop(operation: str, *, after: int, done: bool = False) -> list[str]:
    """Run until so many calls of the engine's operation, and stop at the next, maybe once done.

    Return the digests that it was called for.
    """
    store_class = type(store(REDIS))
    call = getattr(store_class, operation)
    called: list[str] = []

    def call_until(self: Any, digest: str, *args: Any) -> Any:
        called.append(digest)
        answer = call(self, digest, *args) if done or len(called) <= after else None
        if len(called) > after:
            raise KeyboardInterrupt
        return answer

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store_class, operation, call_until)
        with pytest.raises(KeyboardInterrupt):
            migrate(STOCK)
    return called


@pytest.fixture(params=["copied", "being copied", "to be renewed", "being renewed"])
def interrupted(request: pytest.FixtureRequest) -> str:
    """The key of a session, ``{"n": 1}``, that a run was stopped at, or in the batch of which."""
    key = stored(STOCK, n=1)
    if request.param == "copied":
        other = stored(STOCK, n=1)
        first = stop("_insert", after=1)[0]
        return key if first == handles.digest(key) else other
    if request.param == "being copied":
        stop("_insert", after=0, done=True)
        return key
    change(STOCK, key, n=0)
    migrate(STOCK)
    change(STOCK, key, n=1)
    stop("_replace", after=0, done=request.param == "being renewed")
    return key


def test_after_a_stop_a_run_takes_over_what_was_written_to_the_old_engine(interrupted: str) -> None:
    change(STOCK, interrupted, n=2)
    assert "took over 1 again" in migrate(STOCK)
    assert content(interrupted) == {"n": 2}
    change(STOCK, interrupted, n=3)
    migrate(STOCK)
    assert content(interrupted) == {"n": 3}


def test_after_a_stop_a_run_ends_what_was_ended_in_the_old_engine(interrupted: str) -> None:
    store(STOCK, interrupted).delete()
    assert "ended 1" in migrate(STOCK)
    assert content(interrupted) == {}


def test_after_a_stop_a_run_brings_nothing_back_that_the_new_engine_ended(interrupted: str) -> None:
    store(REDIS, interrupted).delete()
    migrate(STOCK)
    assert content(interrupted) == {}
    change(STOCK, interrupted, n=2)
    migrate(STOCK)
    assert content(interrupted) == {}


def test_after_a_stop_a_run_overwrites_nothing_that_the_new_engine_wrote(interrupted: str) -> None:
    change(REDIS, interrupted, n="new")
    change(STOCK, interrupted, n="old")
    migrate(STOCK)
    assert content(interrupted) == {"n": "new"}
    store(STOCK, interrupted).delete()
    migrate(STOCK)
    assert content(interrupted) == {"n": "new"}


def test_after_a_stop_a_run_leaves_no_question_open(interrupted: str) -> None:
    migrate(STOCK)
    assert content(interrupted) == {"n": 1}
    row = MigratedSession.objects.get(digest=handles.digest(interrupted))
    assert (row.pending, bool(row.content), bool(row.source)) == ("", True, True)
    assert "Copied 0 sessions, took over 0 again, ended 0" in migrate(STOCK)


def test_what_came_from_one_engine_goes_on_to_the_next(settings: Any) -> None:
    key, ended = stored(STOCK, n=1), stored(STOCK, n=2)
    settings.SESSION_ENGINE = OWN_DB
    migrate(STOCK)
    settings.SESSION_ENGINE = REDIS
    assert "Copied 2" in migrate(OWN_DB)
    assert "2 were unchanged" in migrate(OWN_DB)
    store(REDIS, ended).delete()
    migrate(OWN_DB)
    assert [content(key), content(ended)] == [{"n": 1}, {}]


def test_what_version_1_0_remembered_stands_for_the_same_engines(settings: Any) -> None:
    key, ended = stored(STOCK, n=1), stored(STOCK, n=2)
    settings.SESSION_ENGINE = OWN_DB
    migrate(STOCK)
    MigratedSession.objects.update(target="")
    store(OWN_DB, ended).delete()
    assert "2 were unchanged" in migrate(STOCK)
    MigratedSession.objects.update(target="")
    settings.SESSION_ENGINE = REDIS
    assert "Copied 1" in migrate(OWN_DB)
    assert [content(key), content(ended)] == [{"n": 1}, {}]


def test_what_was_tried_with_another_engine_is_copied_into_this_one(settings: Any) -> None:
    key = stored(STOCK, n=1)
    settings.SESSION_ENGINE = OWN_DB
    migrate(STOCK)
    settings.SESSION_ENGINE = REDIS
    assert "Copied 1" in migrate(STOCK)
    assert content(key) == {"n": 1}


def test_what_another_engine_lacks_is_not_forgotten(settings: Any) -> None:
    key = stored(STOCK, n=1)
    settings.SESSION_ENGINE = OWN_DB
    migrate(STOCK)
    store(STOCK, key).delete()
    settings.SESSION_ENGINE = REDIS
    migrate(STOCK)
    settings.SESSION_ENGINE = OWN_DB
    assert "ended 1" in migrate(STOCK)


def test_the_way_back_takes_over_what_was_written_there(settings: Any) -> None:
    key = stored(OWN_DB, n=1)
    migrate(OWN_DB)
    change(REDIS, key, n=2)
    settings.SESSION_ENGINE = OWN_DB
    assert "took over 1 again" in migrate(REDIS)
    assert dict(store(OWN_DB, key).items()) == {"n": 2}
    store(OWN_DB, key).delete()
    change(REDIS, key, n=3)
    migrate(REDIS)
    assert dict(store(OWN_DB, key).items()) == {}


def test_the_one_session_that_may_have_been_copied_and_ended_is_not_copied() -> None:
    keys = [stored(STOCK, n=number) for number in range(3)]
    copied, lost = stop("_insert", after=1)
    for _ in range(2):
        assert "1 are the new" in migrate(STOCK)
    there = {handles.digest(key) for key in keys if content(key)}
    assert there == {handles.digest(key) for key in keys} - {lost}
    assert copied in there


def test_a_session_that_the_old_engine_gives_twice_is_copied_once(settings: Any) -> None:
    key = stored(REDIS, n=1)
    settings.SESSION_ENGINE = OWN_DB
    store_class = type(store(REDIS))
    list_stored = store_class.list_stored
    with pytest.MonkeyPatch.context() as patched:
        twice = lambda query: [*list_stored(query), *list_stored(query)]  # noqa: E731
        patched.setattr(store_class, "list_stored", twice)
        assert migrate(REDIS).endswith("0 are the new engine's, 0 could not be read.\n")
    assert dict(store(OWN_DB, key).items()) == {"n": 1}


def test_the_way_back_is_open(settings: Any) -> None:
    key = stored(REDIS, _auth_user_id="7", cart=[1])
    settings.SESSION_ENGINE = OWN_DB
    assert "Copied 1" in migrate(REDIS)
    assert dict(store(OWN_DB, key).items()) == {"_auth_user_id": "7", "cart": [1]}


@pytest.mark.django_db(transaction=True)
def test_the_memory_of_a_session_lasts_before_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = stored(STOCK, n=1)
    store_class = type(store(REDIS))
    insert = store_class._insert

    def insert_and_look(self: Any, digest: str, *args: Any) -> Any:
        assert not connection.in_atomic_block
        assert MigratedSession.objects.get().digest == digest
        return insert(self, digest, *args)

    monkeypatch.setattr(store_class, "_insert", insert_and_look)
    assert "Copied 1" in migrate(STOCK)
    assert content(key) == {"n": 1}


def test_a_copy_that_was_over_before_anybody_used_it_is_renewed(redis_anywhere: Any) -> None:
    key = stored(STOCK, n=1)
    migrate(STOCK)
    name = redis_anywhere.where.keys.session(handles.digest(key))
    age = store(REDIS).get_session_cookie_age()
    assert redis_anywhere.redis.ttl(name) > age + GRACE - 60
    # In Redis, the time of which can't be set, it lives on.
    redis_anywhere.redis.hset(name, "accessed", "1.0")
    assert content(key) == {}
    change(STOCK, key, n=2)
    assert "took over 1 again" in migrate(STOCK)
    assert content(key) == {"n": 2}
    change(REDIS, key, n=3)
    assert redis_anywhere.redis.ttl(name) <= age


@pytest.mark.parametrize("way", [(OWN_DB, REDIS), (REDIS, OWN_DB)])
def test_what_was_ended_on_the_way_there_is_ended_on_the_way_back(
    settings: Any, way: tuple[str, str]
) -> None:
    first, second = way
    settings.SESSION_ENGINE = first
    ended, used, kept = (stored(first, n=number) for number in range(3))
    settings.SESSION_ENGINE = second
    migrate(first)
    store(second, ended).flush()
    store(second, used).flush()
    change(first, used, n=7)
    settings.SESSION_ENGINE = first
    assert "ended 1" in migrate(second)
    contents = [dict(store(first, key).items()) for key in (ended, used, kept)]
    assert contents == [{}, {"n": 7}, {"n": 2}]
