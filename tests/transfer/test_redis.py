"""``sessions_migrate`` into the Redis engine and out of it again."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from dirigible_session import handles
from dirigible_session.exceptions import StoreUnavailable
from dirigible_session.models import MigratedSession
from dirigible_session.stored import Query
from dirigible_session.transfer import GRACE

from ..redis_servers import free_port

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
    assert "Copied 1," in migrate(origin)
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
    assert "updated 1, ended 1" in migrate(STOCK)
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
    replace = store_class._replace_many

    def replace_late(*args: Any) -> set[str]:
        rival = store(REDIS, key)
        rival["rival"] = 1
        rival.save()
        return replace(*args)

    monkeypatch.setattr(store_class, "_replace_many", replace_late)
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
        assert "skipped 1 " in migrate(STOCK)
    assert content(key) == {"n": 2}
    assert not MigratedSession.objects.exists()


def stop(operation: str, *, done: bool) -> None:
    """Run until the engine's operation is called, and stop there, or once it is done."""
    store_class = type(store(REDIS))
    call = getattr(store_class, operation)

    def stopped(self: Any, *args: Any) -> Any:
        if done:
            call(self, *args)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store_class, operation, stopped)
        with pytest.raises(CommandError, match=r"Stopped\. Copied 0, .* Run the command again"):
            migrate(STOCK)


NOT_THERE_YET = {"to be staged": False, "staged": True, "remembered": False}
THERE = {"published": True, "to be replaced": False, "replaced": True}
OPERATIONS = {"remembered": "_publish", "published": "_publish"}


def interrupted_at(where: str) -> str:
    """Return the key of a session, ``{"n": 1}``, at which a run was stopped."""
    key = stored(STOCK, n=1)
    if where.endswith("replaced"):
        change(STOCK, key, n=0)
        migrate(STOCK)
        change(STOCK, key, n=1)
        stop("_replace_many", done=THERE[where])
    else:
        stop(OPERATIONS.get(where, "_stage"), done=(NOT_THERE_YET | THERE)[where])
    return key


@pytest.fixture(params=[*NOT_THERE_YET, *THERE])
def interrupted(request: pytest.FixtureRequest) -> str:
    """The key of a session at which a run was stopped."""
    return interrupted_at(request.param)


@pytest.fixture(params=THERE)
def interrupted_copy(request: pytest.FixtureRequest) -> str:
    """The key of a session at which a run was stopped when the new engine had a copy already."""
    return interrupted_at(request.param)


@pytest.mark.parametrize("where", NOT_THERE_YET)
def test_what_a_run_was_stopped_at_is_not_there_before_it_is_published(where: str) -> None:
    key = interrupted_at(where)
    assert content(key) == {}
    assert list(type(store(REDIS)).list_stored(Query(now=0))) == []


def test_a_stop_costs_nobody_the_session(interrupted: str) -> None:
    migrate(STOCK)
    assert content(interrupted) == {"n": 1}


def test_after_a_stop_a_run_takes_over_what_was_written_to_the_old_engine(interrupted: str) -> None:
    change(STOCK, interrupted, n=2)
    migrate(STOCK)
    assert content(interrupted) == {"n": 2}
    change(STOCK, interrupted, n=3)
    assert "updated 1" in migrate(STOCK)
    assert content(interrupted) == {"n": 3}


def test_after_a_stop_a_run_ends_what_was_ended_in_the_old_engine(interrupted: str) -> None:
    store(STOCK, interrupted).delete()
    migrate(STOCK)
    assert content(interrupted) == {}
    assert not MigratedSession.objects.exists()


def test_after_a_stop_a_run_brings_nothing_back_that_the_new_engine_ended(
    interrupted_copy: str,
) -> None:
    store(REDIS, interrupted_copy).delete()
    migrate(STOCK)
    assert content(interrupted_copy) == {}
    change(STOCK, interrupted_copy, n=2)
    migrate(STOCK)
    assert content(interrupted_copy) == {}


def test_after_a_stop_a_run_overwrites_nothing_that_the_new_engine_wrote(
    interrupted_copy: str,
) -> None:
    change(REDIS, interrupted_copy, n="new")
    change(STOCK, interrupted_copy, n="old")
    migrate(STOCK)
    assert content(interrupted_copy) == {"n": "new"}
    store(STOCK, interrupted_copy).delete()
    migrate(STOCK)
    assert content(interrupted_copy) == {"n": "new"}


def test_after_a_stop_a_run_leaves_no_question_open(interrupted: str) -> None:
    migrate(STOCK)
    row = MigratedSession.objects.get(digest=handles.digest(interrupted))
    assert (row.pending, bool(row.content), bool(row.source)) == ("", True, True)
    assert "Copied 0, updated 0, ended 0, unchanged 1, skipped 0" in migrate(STOCK)


def test_what_was_staged_leaves_nothing_in_redis(redis_anywhere: Any) -> None:
    interrupted_at("staged")
    migrate(STOCK)
    prefix = redis_anywhere.where.keys.prefix
    keys = list(redis_anywhere.redis.scan_iter(match=f"{prefix}*"))
    assert [key for key in keys if b"{" in key] == []
    assert len(keys) == 1


@pytest.mark.parametrize("operation", ["_read_many", "_stage", "_publish"])
def test_a_store_that_is_away_for_a_while_costs_nobody_the_session(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [stored(STOCK, n=number) for number in range(10)]
    store_class = type(store(REDIS))

    def away(*args: Any) -> Any:
        raise StoreUnavailable("dirigible_session: Redis can't be reached.")

    with monkeypatch.context() as patched:
        patched.setattr(store_class, operation, away)
        for _ in range(3):
            with pytest.raises(CommandError, match=r"can't be copied: .*can't be reached"):
                migrate(STOCK)
            assert [content(key) for key in keys] == [{}] * 10
    migrate(STOCK)
    assert [content(key)["n"] for key in keys] == list(range(10))


def test_a_server_that_is_down_costs_nobody_the_session(settings: Any) -> None:
    keys = [stored(STOCK, n=number) for number in range(10)]
    url = settings.DIRIGIBLE_SESSION_REDIS_URL
    settings.DIRIGIBLE_SESSION_REDIS_URL = f"redis://127.0.0.1:{free_port()}"
    for _ in range(3):
        with pytest.raises(CommandError, match="can't be copied"):
            migrate(STOCK)
    assert not MigratedSession.objects.exists()
    settings.DIRIGIBLE_SESSION_REDIS_URL = url
    assert migrate(STOCK).startswith("Copied 10, ")
    assert [content(key)["n"] for key in keys] == list(range(10))


def test_many_sessions_take_few_round_trips(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        stored(STOCK, n=number, _auth_user_id=str(number))
    ran: list[int] = []
    run = type(redis_server).run

    def counted(self: Any, calls: Any) -> Any:
        ran.append(len(calls))
        return run(self, calls)

    monkeypatch.setattr(type(redis_server), "run", counted)
    assert migrate(STOCK).startswith("Copied 50, ")
    assert len(ran) <= 6


def test_what_came_from_one_engine_goes_on_to_the_next(settings: Any) -> None:
    key, ended = stored(STOCK, n=1), stored(STOCK, n=2)
    settings.SESSION_ENGINE = OWN_DB
    migrate(STOCK)
    settings.SESSION_ENGINE = REDIS
    assert "Copied 2," in migrate(OWN_DB)
    assert "unchanged 2" in migrate(OWN_DB)
    store(REDIS, ended).delete()
    migrate(OWN_DB)
    assert [content(key), content(ended)] == [{"n": 1}, {}]


def test_what_version_1_0_remembered_stands_for_the_same_engines(settings: Any) -> None:
    key, ended = stored(STOCK, n=1), stored(STOCK, n=2)
    settings.SESSION_ENGINE = OWN_DB
    migrate(STOCK)
    MigratedSession.objects.update(target="")
    store(OWN_DB, ended).delete()
    assert "unchanged 2" in migrate(STOCK)
    MigratedSession.objects.update(target="")
    settings.SESSION_ENGINE = REDIS
    assert "Copied 1," in migrate(OWN_DB)
    assert [content(key), content(ended)] == [{"n": 1}, {}]


def test_what_was_tried_with_another_engine_is_copied_into_this_one(settings: Any) -> None:
    key = stored(STOCK, n=1)
    settings.SESSION_ENGINE = OWN_DB
    migrate(STOCK)
    settings.SESSION_ENGINE = REDIS
    assert "Copied 1," in migrate(STOCK)
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
    assert "updated 1" in migrate(REDIS)
    assert dict(store(OWN_DB, key).items()) == {"n": 2}
    store(OWN_DB, key).delete()
    change(REDIS, key, n=3)
    migrate(REDIS)
    assert dict(store(OWN_DB, key).items()) == {}


def test_a_session_that_the_old_engine_gives_twice_is_copied_once(settings: Any) -> None:
    key = stored(REDIS, n=1)
    settings.SESSION_ENGINE = OWN_DB
    store_class = type(store(REDIS))
    list_stored = store_class.list_stored
    with pytest.MonkeyPatch.context() as patched:
        twice = lambda query: [*list_stored(query), *list_stored(query)]  # noqa: E731
        patched.setattr(store_class, "list_stored", twice)
        assert migrate(REDIS).endswith("skipped 0 (changed in the new engine), unreadable 0.\n")
    assert dict(store(OWN_DB, key).items()) == {"n": 1}


def test_the_way_back_is_open(settings: Any) -> None:
    key = stored(REDIS, _auth_user_id="7", cart=[1])
    settings.SESSION_ENGINE = OWN_DB
    assert "Copied 1," in migrate(REDIS)
    assert dict(store(OWN_DB, key).items()) == {"_auth_user_id": "7", "cart": [1]}


@pytest.mark.django_db(transaction=True)
def test_the_memory_of_a_session_lasts_before_it_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = stored(STOCK, n=1)
    store_class = type(store(REDIS))
    publish = store_class._publish

    def publish_and_look(self: Any, digests: Any) -> Any:
        assert not connection.in_atomic_block
        assert MigratedSession.objects.get().digest in digests
        return publish(self, digests)

    monkeypatch.setattr(store_class, "_publish", publish_and_look)
    assert "Copied 1," in migrate(STOCK)
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
    assert "updated 1" in migrate(STOCK)
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
