"""Whatever a row holds: it loads as nothing, is logged, is listed, can be written and ended."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import Client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dirigible_session import handles
from dirigible_session.backends.db import SessionStore, listing
from dirigible_session.models import Session
from dirigible_session.stored import Query, read_undecoded
from tests.stores import Api

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.backends.urls")]

TABLE = Session._meta.db_table
ENDLESS = "9" * 400
DOCUMENTS = [
    "",
    "no json",
    "[1]",
    "null",
    '{"a": ',
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"_session_expiry":[1]}',
    '{"_session_expiry":{"a":1}}',
    '{"_session_expiry":' + ENDLESS + "}",
    '{"_session_expiry":-' + ENDLESS + "}",
    '{"_session_expiry":1e999}',
    '{"_session_expiry":NaN}',
    '{"_session_expiry":"tomorrow"}',
    '{"_session_expiry":"0001-01-01T00:00:00+23:59"}',
    '{"a":1,"_session_expiry":""}',
    '{"\\u005fsession_expiry":[1]}',
]
#: Values that SQLite takes for any column.
VALUES = ["text", "", b"\xff", "nan", 1e300, -1e300, 2**62, -(2**63), "1 ", "9e999"]
COLUMNS = ["created", "accessed", "interval", "authenticated", "expires", "version", "first_digest"]


def new_session(**attributes: Any) -> str:
    store = SessionStore()
    store.update(attributes or {"a": 1})
    store.save()
    return store.session_key


def spoil(column: str, value: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET {column} = %s", [value])


def check_that_it_does_no_harm(key: str) -> None:
    """Load, list, touch, write and end a session, whatever is stored of it."""
    store = SessionStore(key)
    loaded = dict(store.items())
    assert loaded in ({}, {"a": 1})
    now = time.time()
    listed = list(SessionStore.list_stored(Query(now=now)))
    assert [stored.digest for stored in listed] == [handles.digest(key)]
    assert (listed[0].data is None) == bool(listed[0].error)
    if store.session_key is not None:
        store.touch(now + 100)
        rival = SessionStore(key)
        rival.keys()
        store["b"] = 2
        store.save()
        rival["c"] = 3
        rival.save()
        again = SessionStore(key)
        assert {"b": 2, "c": 3}.items() <= dict(again.items()).items()
        assert again.times.accessed >= now
        again.flush()
    else:
        assert store.end_found_over()
    assert not Session.objects.exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda text: text[:30])
def test_a_damaged_document_does_no_harm(document: str) -> None:
    key = new_session()
    spoil("session_data", document)
    check_that_it_does_no_harm(key)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others have columns of one type")
@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_damaged_column_does_no_harm(column: str, value: Any) -> None:
    key = new_session()
    spoil(column, value)
    check_that_it_does_no_harm(key)


def spoil_text(column: str, digest: str) -> None:
    """Store text in a column of one row that is not UTF-8."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {TABLE} SET {column} = CAST(x'7bff' AS TEXT) WHERE digest = %s", [digest]
        )


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others check what a text holds")
@pytest.mark.parametrize("column", ["session_data", "user_id", *COLUMNS])
def test_text_that_is_not_utf_8_does_no_harm(column: str) -> None:
    key = new_session()
    spoil_text(column, handles.digest(key))
    check_that_it_does_no_harm(key)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others check what a text holds")
@pytest.mark.parametrize("column", ["session_data", *COLUMNS])
def test_text_that_is_not_utf_8_can_be_ended_as_it_was_read(column: str) -> None:
    digest = handles.digest(new_session())
    spoil_text(column, digest)
    assert SessionStore()._remove_many(SessionStore()._read_many([digest])) == {digest}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others check what a text holds")
@pytest.mark.parametrize("column", ["session_data", "digest", "first_digest"])
def test_text_that_is_not_utf_8_hides_no_other_row(
    column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    digests = sorted(handles.digest(new_session(_auth_user_id="7")) for _ in range(5))
    spoil_text(column, digests[1])
    listed = {one.digest: one.error for one in SessionStore.list_stored(Query(now=0, user_id="7"))}
    sound = [digest for digest in digests if digest != digests[1]]
    assert [digest for digest in digests if listed.get(digest) == ""] == sound
    assert len(listed) == 5
    assert SessionStore.end_stored(sound) == set(sound)
    Session.objects.update(expires=1.0, expires_day=0)
    SessionStore.clear_expired()
    assert not Session.objects.exists()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others check what a text holds")
def test_a_table_of_digests_that_are_not_utf_8_is_walked_to_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "PAGE", 1)
    spoil_text("digest", handles.digest(new_session()))
    assert [one.digest for one in SessionStore.list_stored(Query(now=0))] == ["{\\xff"]


def test_an_error_that_is_not_about_text_is_raised() -> None:
    def fail() -> None:
        raise OperationalError("the disk is full")

    with pytest.raises(OperationalError, match="full"):
        read_undecoded("default", fail)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others have columns of one type")
@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_damaged_column_is_no_obstacle_to_ending_what_was_read(column: str, value: Any) -> None:
    digest = handles.digest(new_session())
    spoil(column, value)
    found = SessionStore()._read(digest)
    assert found is not None
    assert SessionStore()._remove_if(digest, found)
    assert not Session.objects.exists()


scalars = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
documents = (
    st.text()
    | st.dictionaries(st.just("_session_expiry") | st.text(), json_values).map(json.dumps)
    | st.sampled_from(DOCUMENTS)
)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others have columns of one type")
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(COLUMNS), scalars, max_size=3), documents)
@example({"interval": 2**63 - 1}, "{}")
@example({"version": 3.4e-223}, '{"_session_expiry":"0001-01-01T00:00:00+2359"}')
@example({"expires": float("inf")}, "{}")
def test_whatever_a_row_holds_does_no_harm(columns: dict[str, Any], document: str) -> None:
    Session.objects.all().delete()
    key = new_session()
    nullable = {"interval", "authenticated", "expires", "first_digest"}
    for column, value in {**columns, "session_data": document}.items():
        if isinstance(value, str):
            value = value.encode("utf-8", "replace").decode()
        if value is not None or column in nullable:
            spoil(column, value)
    store = SessionStore(key)
    dict(store.items())
    assert len(list(SessionStore.list_stored(Query(now=time.time())))) == 1
    if store.session_key is None:
        assert store.end_found_over()
        return
    store.touch(time.time() + 100)
    store["b"] = 2
    store.save()
    again = SessionStore(key)
    # If only its version was damaged, its own end counts again.
    assert again.get("b") == 2 or again.found_over is not None
    SessionStore(key).flush()
    assert not Session.objects.exists()


@pytest.mark.parametrize("expiry", ["[1]", '{"a":1}', ENDLESS], ids=["list", "dict", "400 digits"])
def test_its_visitor_and_the_tools_are_served(
    db_engine: Any,
    expiry: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new_session(other="sound")
    key = new_session()
    document = '{"a":1,"_session_expiry":' + expiry + "}"
    Session.objects.filter(digest=handles.digest(key)).update(session_data=document)
    client = Client()
    client.cookies["sessionid"] = key
    with caplog.at_level(logging.WARNING, "django.security.SuspiciousSession"):
        assert client.get("/read/").content == b"None"
    assert "Session data corrupted" in caplog.text
    call_command("sessions_dump", "--format", "jsonl")
    states = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert sorted(states) == ["active", "unreadable"]
    call_command("sessions_dump", "--summary", "--format", "json")
    call_command("clearsessions")
    assert client.get("/set/").status_code == 200
    assert client.get("/read/").content == b"1"
    call_command("sessions_invalidate", "--all", "--no-input")
    assert not Session.objects.exists()


def test_a_damaged_row_gets_times_that_make_sense(api: Api, settings: Any) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("others have columns of one type")
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 3600
    key, before = new_session(), time.time()
    spoil("created", "long ago")
    store = SessionStore(key)
    assert api.load(store) == {}
    assert store.times is None
    store["b"] = 1
    api.save(store)
    row = Session.objects.get()
    assert row.created >= before - 1
    assert row.expires > before
