"""What is in the table, what finds it, and what clears it."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import signals
from django.test import Client

from dirigible_session import handles
from dirigible_session.backends import db
from dirigible_session.backends.db.rows import day_of, ends
from dirigible_session.lifecycle import LAST_DATE
from dirigible_session.models import MigratedSession, Session
from dirigible_session.stored import Query
from tests.stores import THREADED, Api

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.backends.urls")]

DAY = 24 * 60 * 60


def rows(count: int, *, expires: float | None, user_id: str | None = None) -> list[Session]:
    """Return rows for ``bulk_create``."""
    now = time.time()
    return [
        Session(
            digest=handles.digest(f"{expires}-{user_id}-{number}"),
            session_data="{}",
            created=now,
            accessed=now,
            user_id=user_id,
            **ends(expires),
        )
        for number in range(count)
    ]


def text_of_the_table() -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {Session._meta.db_table}")
        return repr(cursor.fetchall())


# No usable ids at rest.


def test_no_session_key_is_in_the_table(db_engine: Any) -> None:
    user = get_user_model().objects.create_user("ada", password="secret")
    keys = []
    client = Client()
    client.get("/set/")
    keys.append(client.cookies["sessionid"].value)
    client.force_login(user)
    keys.append(client.cookies["sessionid"].value)
    client.get("/set/")
    store = db_engine(keys[-1])
    store.cycle_key()
    keys.append(store.session_key)
    table = text_of_the_table()
    assert handles.digest(keys[-1]) in table
    assert len(set(keys)) == 3
    for key in keys:
        assert key not in table
        assert key[:8] not in table


# What finds a row.


def plan(statement: str, parameters: list[Any]) -> str:
    """Return how the database would run a statement on a table of some size."""
    explain = {"sqlite": "EXPLAIN QUERY PLAN "}.get(connection.vendor, "EXPLAIN ")
    with connection.cursor() as cursor:
        cursor.execute(explain + statement, parameters)
        return repr(cursor.fetchall())


def statements_of(queries: Any, query: Query, db_engine: Any) -> str:
    with queries(parameters=True) as ran:
        list(db_engine.list_stored(query))
    return plan(*ran[0])


@pytest.fixture
def full_table(transactional_db: None, db_engine: Any) -> None:
    """A table with enough in it that a database uses an index where it can.

    MySQL ends a transaction where it analyzes a table.
    """
    now = time.time()
    Session.objects.bulk_create(rows(3000, expires=now + 7 * DAY), batch_size=500)
    Session.objects.bulk_create(rows(3, expires=now + 7 * DAY, user_id="7"))
    Session.objects.bulk_create(rows(3, expires=now - DAY))
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {Session._meta.db_table}")
            cursor.fetchall()
        else:
            cursor.execute(f"ANALYZE {Session._meta.db_table}")


def test_the_sessions_of_a_user_are_found_by_index(
    full_table: None, db_engine: Any, queries: Any
) -> None:
    found = statements_of(queries, Query(now=time.time(), user_id="7"), db_engine)
    assert "dirigible_session_user" in found


def test_a_handle_finds_its_row_by_index(full_table: None, db_engine: Any, queries: Any) -> None:
    handle = handles.handle("some key")
    found = statements_of(queries, Query(now=time.time(), digest_prefix=handle), db_engine)
    assert any(name in found for name in ("autoindex", "pkey", "PRIMARY"))
    assert "SCAN" not in found
    assert "Seq Scan" not in found


def test_what_is_over_is_found_by_index(full_table: None, db_engine: Any, queries: Any) -> None:
    with queries(parameters=True) as ran:
        db_engine.clear_expired()
    found = plan(*ran[0])
    assert "dirigible_session_expires" in found
    assert Session.objects.count() == 3003


def test_a_user_with_an_absurd_key_is_found_too(db_engine: Any) -> None:
    user_id = "\0" + "x" * 300
    store = db_engine()
    store["_auth_user_id"] = user_id
    store.save()
    assert len(list(db_engine.list_stored(Query(now=time.time(), user_id=user_id)))) == 1


def test_all_sessions_are_listed_a_page_at_a_time(db_engine: Any, queries: Any) -> None:
    Session.objects.bulk_create(rows(2 * db.PAGE + 1, expires=None), batch_size=500)
    with queries() as ran:
        listed = {stored.digest for stored in db_engine.list_stored(Query(now=time.time()))}
    assert listed == set(Session.objects.values_list("digest", flat=True))
    assert len(ran) == 3


def test_sessions_can_be_ended_while_they_are_listed(db_engine: Any) -> None:
    Session.objects.bulk_create(rows(db.PAGE + 10, expires=None), batch_size=500)
    for stored in db_engine.list_stored(Query(now=time.time())):
        db_engine.by_digest(stored.digest).flush()
    assert not Session.objects.exists()


# Clearing.


@pytest.mark.slow
def test_clearsessions_deletes_100000_rows_in_batches_that_no_receiver_slows(
    db_engine: Any, queries: Any
) -> None:
    over, live = time.time() - 60, time.time() + 60
    Session.objects.bulk_create(rows(100_000, expires=over), batch_size=1000)
    Session.objects.bulk_create(rows(10, expires=live))
    Session.objects.bulk_create(rows(10, expires=None))
    told = []

    def receiver(**named: Any) -> None:
        told.append(named["instance"])

    signals.pre_delete.connect(receiver)
    signals.post_delete.connect(receiver)
    try:
        with queries() as ran:
            call_command("clearsessions")
    finally:
        signals.pre_delete.disconnect(receiver)
        signals.post_delete.disconnect(receiver)
    assert Session.objects.count() == 20
    assert not told
    deletes = [statement for statement in ran if statement.startswith("DELETE")]
    # On SQLite the last one finds nothing.
    assert len(deletes) == 100_000 // db.BATCH + (connection.vendor == "sqlite")
    assert not any("session_data" in statement for statement in ran)


@THREADED
def test_each_batch_is_a_transaction_of_its_own(db_engine: Any) -> None:
    Session.objects.bulk_create(rows(db.BATCH + 1, expires=time.time() - 60), batch_size=500)
    left_at_failure = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("DELETE") and Session.objects.count() == 1:
            left_at_failure.append(transaction.get_connection().in_atomic_block)
            raise RuntimeError
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper), pytest.raises(RuntimeError):
        db_engine.clear_expired()
    assert left_at_failure == [False]
    assert Session.objects.count() == 1


def test_what_ends_this_moment_is_over(db_engine: Any) -> None:
    Session.objects.bulk_create(rows(1, expires=1_000_000.0))
    assert db_engine._clear_batch(999_999.9) == 0
    assert db_engine._clear_batch(1_000_000.0) == 1


def test_clearing_works_in_an_event_loop(api: Api, db_engine: Any) -> None:
    Session.objects.bulk_create(rows(3, expires=time.time() - 60))
    api.clear_expired(db_engine)
    assert not Session.objects.exists()


def test_an_end_beyond_all_dates_has_a_day() -> None:
    assert day_of(1e300) == day_of(LAST_DATE)
    assert day_of(-1e300) == 0


# Damage.


@pytest.mark.parametrize("damaged", ["", "no json", "[1]", '{"a": ', "[" * 100_000])
def test_a_damaged_row_loads_as_nothing_and_is_logged(
    api: Api, db_engine: Any, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    store = db_engine()
    store["a"] = 1
    store.save()
    Session.objects.update(session_data=damaged)
    late = db_engine(store.session_key)
    with caplog.at_level(logging.WARNING, "django.security.SuspiciousSession"):
        assert api.load(late) == {}
    assert "Session data corrupted" in caplog.text
    (stored,) = db_engine.list_stored(Query(now=time.time()))
    assert stored.data is None
    assert stored.error
    assert stored.size == len(damaged)


def test_a_damaged_row_can_be_written_again(api: Api, db_engine: Any) -> None:
    store = db_engine()
    store["a"] = 1
    store.save()
    Session.objects.update(session_data="no json")
    late = db_engine(store.session_key)
    late["b"] = 2
    api.save(late)
    assert json.loads(Session.objects.get().session_data) == {"b": 2}


# Times.


@pytest.mark.parametrize("use_tz", [True, False])
def test_times_are_the_same_with_and_without_time_zones(
    db_engine: Any, settings: Any, use_tz: bool
) -> None:
    settings.USE_TZ = use_tz
    settings.TIME_ZONE = "America/New_York"
    before = time.time()
    store = db_engine()
    store["a"] = 1
    store.save()
    row = Session.objects.get()
    assert before <= row.created == row.accessed <= time.time()
    assert row.expires == pytest.approx(row.accessed + settings.SESSION_COOKIE_AGE)


def updates_so_far() -> tuple[int, int]:
    """Return how many updates PostgreSQL has seen, and how many of them touched no index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s",
            [Session._meta.db_table],
        )
        return cursor.fetchone()


@THREADED
def test_postgresql_touches_no_index_for_a_touch(db_engine: Any) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("heap-only updates are PostgreSQL's")
    store = db_engine()
    store["a"] = 1
    store.save()
    updates, heap_only = updates_so_far()
    for number in range(50):
        assert db_engine(store.session_key).touch(store.times.accessed + 1 + number / 100)
    updates_after, heap_only_after = updates_so_far()
    assert updates_after - updates == 50
    assert heap_only_after - heap_only == 50


def test_the_model_shows_no_key_and_knows_its_engine(db_engine: Any) -> None:
    store = db_engine()
    store.save()
    assert str(Session.objects.get()) == store.digest
    assert Session.get_session_store_class() is db_engine


def test_what_was_migrated_shows_no_key() -> None:
    assert str(MigratedSession(digest="d" * 40)) == "d" * 40


def test_on_postgresql_a_digest_has_no_second_index_for_like() -> None:
    postgresql = SimpleNamespace(vendor="postgresql")
    # Django adds one where the type's name begins with varchar.
    assert Session._meta.get_field("digest").db_type(postgresql) == "character varying(40)"
    if connection.vendor != "postgresql":
        assert "varchar" in Session._meta.get_field("digest").db_type(connection)


class ToOther:
    """Routes reads to a replica that is not there."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


def test_sessions_are_read_where_they_are_written(api: Api, db_engine: Any, settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.ToOther"]
    store = db_engine()
    store["a"] = 1
    api.save(store)
    late = db_engine(store.session_key)
    assert dict(api.items(late)) == {"a": 1}
    assert api.exists(late, late.session_key)
    late["a"] = 2
    api.save(late)
    assert api.touch(late, time.time() + 1)
    assert len(list(db_engine.list_stored(Query(now=time.time())))) == 1
    api.cycle_key(late)
    api.flush(late)
    api.clear_expired(db_engine)


def test_a_reader_holds_a_page_of_small_sessions_and_one_large_one(db_engine: Any) -> None:
    now, large = time.time(), "x" * 1_000_000
    for number in range(20):
        store = db_engine()
        store["n"] = number
        store["text"] = large
        store.save()
    tracemalloc.start()
    try:
        listed = sorted(
            stored.data["n"] for stored in db_engine.list_stored(Query(now=now)) if stored.data
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert listed == list(range(20))
    assert peak < 8_000_000


def test_a_large_session_that_ends_while_it_is_listed_is_left_out(db_engine: Any) -> None:
    store = db_engine()
    store["text"] = "x" * 100_000
    store.save()
    walk = db_engine.list_stored(Query(now=time.time()))

    def ended(execute: Any, sql: str, *rest: Any) -> Any:
        if "CASE" not in sql and sql.startswith("SELECT"):
            Session.objects.all()._raw_delete("default")
        return execute(sql, *rest)

    with connection.execute_wrapper(ended):
        assert list(walk) == []
