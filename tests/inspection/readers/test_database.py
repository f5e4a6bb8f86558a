"""Reading the table of sessions."""

from __future__ import annotations

import random
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.contrib.sessions.serializers import JSONSerializer
from django.core import signing
from django.db import connection
from django.db.models import DateTimeField
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dirigible_session import handles, signals
from dirigible_session.inspection import Inspector, Selection, StoreFailed
from dirigible_session.inspection.readers import database, decoding
from dirigible_session.stored import Query


@pytest.fixture(params=["db", "cached_db"], autouse=True)
def engine_with_a_table(request: pytest.FixtureRequest, use_engine: Any) -> None:
    use_engine(request.param)


def put(key: str, text: str, *, days: float = 1) -> None:
    Session.objects.create(
        session_key=key, session_data=text, expire_date=timezone.now() + timedelta(days=days)
    )


def test_a_record_tells_what_is_known_of_a_session(store, read, clock, user):
    session = store({"_auth_user_id": str(user.pk)}, cart=[1, 2])
    (record,) = read()
    assert record.handle == handles.handle(session.session_key)
    assert record.digest == handles.digest(session.session_key)
    assert record.state == "active"
    assert (record.user_id, record.username) == (str(user.pk), "ada")
    assert record.created is None
    assert record.last_accessed is None
    assert record.expires == clock.datetime() + timedelta(weeks=2)
    assert record.max_inactive_interval == 14 * 24 * 60 * 60
    assert record.attributes == {"cart": [1, 2]}
    assert record.size == len(Session.objects.get().session_data)
    assert record.session_key is None


def test_a_key_is_given_to_who_asks_for_it(store, read):
    session = store(n=1)
    (record,) = read(reveal=True)
    assert record.session_key == session.session_key


def test_times_come_from_the_data(store, read, clock):
    created, accessed = clock.now - 600, clock.now - 60
    store({"_dirigible": {"created": created, "accessed": accessed}, "_session_expiry": 300})
    (record,) = read()
    assert record.created == clock.datetime() - timedelta(minutes=10)
    assert record.last_accessed == clock.datetime() - timedelta(minutes=1)
    assert record.expires == clock.datetime() + timedelta(minutes=4)
    assert record.max_inactive_interval == 300


def test_a_session_that_never_times_out_has_no_expiry(store, read, clock):
    times = {"created": clock.now, "accessed": clock.now, "interval": -1}
    store({"_dirigible": times, "_session_expiry": 400 * 24 * 60 * 60})
    (record,) = read()
    assert record.expires is None
    assert record.max_inactive_interval == -1
    assert record.state == "active"
    clock.tick(days=401)
    (record,) = read()
    assert record.state == "expired"


def test_a_session_past_its_absolute_timeout_is_expired(store, read, clock, settings):
    store({"_dirigible": {"created": clock.now - 100, "accessed": clock.now}}, n=1)
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 50
    assert [record.state for record in read()] == ["expired"]
    assert read(state="active") == []
    assert len(read(state="expired")) == 1


def test_a_session_past_its_date_in_the_table_is_expired(store, read, clock):
    store(n=1)
    clock.tick(days=15)
    assert [record.state for record in read()] == ["expired"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("garbage", decoding.BAD_SIGNATURE),
        ("", decoding.BAD_SIGNATURE),
        ("ünï:c:ode", decoding.BAD_SIGNATURE),
        (signing.dumps({"n": 1}, key="other", salt="django.contrib.sessions.SessionStore"), None),
        (signing.dumps([1], salt="django.contrib.sessions.SessionStore"), decoding.NOT_A_DICT),
        (
            signing.TimestampSigner(salt="django.contrib.sessions.SessionStore").sign("bm9uZQ"),
            "payload can't be decoded (JSONDecodeError)",
        ),
    ],
    ids=["garbage", "nothing", "no ascii", "another key", "a list", "no json"],
)
def test_what_cannot_be_decoded_is_reported_and_the_rest_still_comes(store, read, text, reason):
    put("a" * 32, text)
    store(n=1)
    put("z" * 32, text)
    records = {record.digest: record for record in read()}
    assert len(records) == 3
    broken = records[handles.digest("a" * 32)]
    assert broken.state == "unreadable"
    assert broken.error == (reason or decoding.BAD_SIGNATURE)
    assert broken.attributes == {}
    assert broken.size == len(text.encode())


@pytest.mark.parametrize(
    "expiry", ["tomorrow", [1], {"a": 1}, 10**400], ids=["text", "list", "dict", "huge"]
)
def test_an_expiry_that_is_none_makes_a_session_unreadable(read, clock, store_class, expiry):
    times = {"created": clock.now, "accessed": clock.now}
    put("a" * 32, store_class().encode({"_session_expiry": expiry, "_dirigible": times}))
    (record,) = read()
    assert record.state == "unreadable"
    assert "expiry" in record.error


@pytest.mark.parametrize(
    ("expiry", "state"),
    [("tomorrow", "unreadable"), ([1], "unreadable"), (10**400, "active"), (-1, "active")],
)
def test_an_expiry_without_times_needs_no_arithmetic(read, store_class, expiry, state):
    put("b" * 32, store_class().encode({"_session_expiry": expiry}))
    assert [record.state for record in read()] == [state]


def test_times_that_are_no_dates_are_unknown(read, store_class):
    data = {"_dirigible": {"created": 1e300, "accessed": -1e300}}
    put("a" * 32, store_class().encode(data))
    (record,) = read()
    assert record.created is None
    assert record.last_accessed is None


def test_a_fallback_key_is_accepted(store, read, settings):
    store(n=1)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert [record.attributes for record in read()] == [{"n": 1}]
    settings.SECRET_KEY_FALLBACKS = []
    assert [record.state for record in read()] == ["unreadable"]


class ShoutingSerializer(JSONSerializer):
    def loads(self, data: bytes) -> Any:
        return {name.upper(): value for name, value in super().loads(data).items()}


def test_another_serializer_is_used(store, read, settings):
    store(n=1)
    settings.SESSION_SERIALIZER = f"{__name__}.ShoutingSerializer"
    assert [record.attributes for record in read()] == [{"N": 1}]


def test_a_way_of_signing_that_is_not_known_is_left_to_django(store, read, monkeypatch):
    sign = signing.TimestampSigner.signature
    changed = lambda self, value, key=None: sign(self, f"{value}!", key)  # noqa: E731
    monkeypatch.setattr(signing.TimestampSigner, "signature", changed)
    store(n=1)
    put("a" * 32, "garbage")
    assert sorted(record.state for record in read()) == ["active", "unreadable"]


class ReversingStore(db.SessionStore):
    """A store that encodes in its own way."""

    def encode(self, session_dict: dict[str, Any]) -> str:
        return super().encode(session_dict)[::-1]

    def decode(self, session_data: str) -> dict[str, Any]:
        return super().decode(session_data[::-1])


SessionStore = ReversingStore


def test_a_store_that_decodes_in_its_own_way_is_asked(use_engine, store, read):
    use_engine(__name__)
    session = ReversingStore()
    session["n"] = 1
    session.create()
    assert [record.attributes for record in read()] == [{"n": 1}]


def test_rows_are_read_a_page_at_a_time(store, read, monkeypatch):
    monkeypatch.setattr(database, "CHUNK", 2)
    for n in range(5):
        store(n=n)
    with CaptureQueriesContext(connection) as queries:
        assert sorted(record.attributes["n"] for record in read()) == [0, 1, 2, 3, 4]
    assert len(queries) == 3


@pytest.mark.parametrize(("most", "statements"), [(10_000, 1), (3000, 2), (1, 4)])
def test_long_rows_are_read_by_themselves(store, read, monkeypatch, most, statements):
    monkeypatch.setattr(database, "SHORT", 500)
    monkeypatch.setattr(database, "LONG", most)
    noise = random.Random(1).randbytes(500).hex()
    for n in range(6):
        store(n=n, noise=noise if n < 4 else "")
    with CaptureQueriesContext(connection) as queries:
        records = read()
    assert sorted(record.attributes["n"] for record in records) == [0, 1, 2, 3, 4, 5]
    assert len(queries) == 1 + statements
    keys = list(Session.objects.order_by("session_key").values_list("session_key", flat=True))
    assert [record.digest for record in records] == [handles.digest(key) for key in keys]


def test_a_long_row_that_goes_meanwhile_is_passed_over(store, monkeypatch):
    monkeypatch.setattr(database, "SHORT", 0)
    monkeypatch.setattr(database, "LONG", 0)
    store(n=1)
    store(n=2)
    sessions = Inspector().sessions()
    next(sessions)
    Session.objects.all().delete()
    assert list(sessions) == []


#: What a column of SQLite may hold whatever its type.
STRANGE = {
    "text": "garbage",
    "date": "2024-13-45 00:00:00",
    "number": 12,
    "infinity": float("inf"),
    "bytes": b"\xff",
    "broken text": "CAST(x'ff41' AS TEXT)",
    "long broken text": "CAST(hex(zeroblob(4500)) || x'ff41' AS TEXT)",
}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases check their columns")
@pytest.mark.parametrize("column", ["session_data", "expire_date"])
@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
def test_whatever_a_row_holds_the_others_are_read(store, read, column, value):
    for n in range(3):
        store(n=n)
    damaged = store(n=3)
    placed, parameters = (value, []) if "CAST" in str(value) else ("%s", [value])
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE django_session SET {column} = {placed} WHERE session_key = %s",
            [*parameters, damaged.session_key],
        )
    records = {record.digest: record for record in read()}
    assert len(records) == 4
    assert records.pop(handles.digest(damaged.session_key)).state in ("unreadable", "active")
    assert {record.attributes["n"] for record in records.values()} == {0, 1, 2}
    assert Inspector().invalidate(Selection(state="all")) == 4


@pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases check their columns")
def test_whatever_a_key_is_the_others_are_read(store, read):
    session = store(n=1)
    for key in ("x'ff00'", "''", "CAST(x'3031ff' AS TEXT)", "CAST(x'ff01' AS TEXT)"):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_session (session_key, session_data, expire_date) "
                f"VALUES ({key}, 'garbage', '2024-01-01 00:00:00')"
            )
    records = read()
    assert [record.attributes for record in records if record.state == "active"] == [{"n": 1}]
    assert len(records) == 5
    digest = handles.digest(session.session_key)
    assert Inspector().find(digest[:12]) == digest


def test_active_sessions_are_chosen_by_the_database_where_what_is_in_them_is_asked_for(
    store, read, clock
):
    store(n=1)
    clock.tick(days=15)
    with CaptureQueriesContext(connection) as queries:
        assert read(state="active", anonymous=True) == []
    assert "expire_date" in queries[0]["sql"].partition("WHERE")[2]


class ShapedStore(SessionBase):
    """A store that keeps sessions as Django does, and derives from SessionBase only."""

    __module__ = "django.contrib.sessions.elsewhere"
    __qualname__ = "SessionStore"

    def __init__(self, session_key: str | None = None, user_agent: str | None = None) -> None:
        super().__init__(session_key)

    def exists(self, session_key: str) -> bool:
        return Session.objects.filter(session_key=session_key).exists()

    def delete(self, session_key: str | None = None) -> None:
        Session.objects.filter(session_key=session_key or self.session_key).delete()


def test_a_table_like_djangos_is_read_whatever_the_store_derives_from(store, monkeypatch, receive):
    received = receive(signals.session_invalidated)
    module = ModuleType("shaped_engine")
    module.SessionStore = ShapedStore
    monkeypatch.setitem(sys.modules, "shaped_engine", module)
    store(n=1)
    inspector = Inspector("shaped_engine")
    assert [record.attributes for record in inspector.records()] == [{"n": 1}]
    assert inspector.invalidate(Selection()) == 1
    ((_, named),) = received
    assert named["session"]["n"] == 1
    assert not Session.objects.exists()


def test_the_stored_sessions_come_with_key_and_data_for_tools_that_copy_them(store):
    session = store({"_auth_user_id": "7"}, api_token="hunter2")
    (stored,) = Inspector().stored(Query(now=0))
    assert stored.session_key
    assert stored.session_key == session.session_key
    assert stored.data == {"_auth_user_id": "7", "api_token": "hunter2"}
    assert session.session_key not in repr(stored)


def test_a_table_that_is_not_there_is_one_line_of_reason(read, monkeypatch):
    monkeypatch.setattr(Session._meta, "db_table", "no_such_table")
    reason = r"^The table no_such_table can't be read: .*no.such.table.*$"
    with pytest.raises(StoreFailed, match=reason):
        read()
    with pytest.raises(StoreFailed):
        Inspector().count()


def test_dates_without_time_zone_are_read(store, read, settings):
    settings.USE_TZ = False
    store(n=1)
    assert [record.state for record in read(state="active", anonymous=True)] == ["active"]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="it keeps moments, not times of day")
def test_dates_are_in_the_time_zone_of_the_connection(store, read, clock, monkeypatch):
    monkeypatch.setattr(connection, "timezone", ZoneInfo("Asia/Kolkata"))
    store(n=1)
    assert [record.expires for record in read()] == [clock.datetime() + timedelta(weeks=2)]


class MinuteField(DateTimeField):
    """A column with a rule of its own."""

    def from_db_value(self, value: Any, *args: Any) -> Any:
        return value.replace(second=0, microsecond=0)


def test_a_column_of_the_projects_own_kind_is_read_by_its_rule(store, read, clock, monkeypatch):
    store(n=1)
    monkeypatch.setattr(Session._meta.get_field("expire_date"), "__class__", MinuteField)
    (record,) = read()
    assert record.expires == (clock.datetime() + timedelta(weeks=2)).replace(
        second=0, microsecond=0
    )


def test_an_expiry_that_is_not_a_date_makes_a_session_unreadable(store, read, monkeypatch):
    store(n=1)
    as_text = lambda self, value, *args: "tomorrow"  # noqa: E731
    monkeypatch.setattr(MinuteField, "from_db_value", as_text)
    monkeypatch.setattr(Session._meta.get_field("expire_date"), "__class__", MinuteField)
    assert [record.error for record in read()] == ["expiry can't be read (AttributeError)"]


def test_counting_needs_no_reading(store):
    store(n=1)
    assert Inspector().count() == 1


def test_a_limit_ends_the_walk(store, read):
    for n in range(3):
        store(n=n)
    assert len(read(limit=2)) == 2
    assert read(limit=0) == []


def test_what_is_wanted_by_default_is_everything(store):
    store(n=1)
    put("a" * 32, "garbage")
    assert len(list(Inspector().records())) == 2
    assert Selection().state == "active"
