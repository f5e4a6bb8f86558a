"""Opening engines, finding one session, choosing some, ending some, counting all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.db.models import CharField, DateTimeField, DecimalField, UUIDField

from dirigible_session import handles, signals
from dirigible_session.inspection import (
    AmbiguousHandle,
    AttributeFilter,
    Inspector,
    NoSuchSession,
    NoSuchUser,
    NotListable,
    Selection,
    UnknownEngine,
    find_user_id,
    inspector,
    parsed_duration,
    users,
)
from dirigible_session.stored import StoredSession, in_batches


@pytest.fixture(params=["db", "cached_db", "file"])
def listable_engine(request: pytest.FixtureRequest, use_engine: Any) -> str:
    use_engine(request.param)
    return request.param


@pytest.fixture
def database_engine(use_engine: Any) -> None:
    use_engine("db")


# Opening an engine.


@pytest.mark.parametrize("path", ["no.such.engine", "os.path", "", "tests.inspection"])
def test_a_path_that_names_no_engine_is_an_error(path):
    with pytest.raises(UnknownEngine, match="is not a session engine"):
        Inspector(path)


def test_a_module_whose_store_is_none_is_no_engine(monkeypatch):
    module = ModuleType("odd_engine")
    module.SessionStore = "none"
    monkeypatch.setitem(__import__("sys").modules, "odd_engine", module)
    with pytest.raises(UnknownEngine, match="SessionBase"):
        Inspector("odd_engine")


def test_signed_cookies_cannot_be_listed():
    with pytest.raises(NotListable, match="visitors' browsers"):
        Inspector("django.contrib.sessions.backends.signed_cookies")


def test_an_engine_that_declares_nothing_cannot_be_listed(monkeypatch):
    module = ModuleType("own_engine")
    module.SessionStore = type("SessionStore", (SessionBase,), {"__module__": "own_engine"})
    monkeypatch.setitem(__import__("sys").modules, "own_engine", module)
    with pytest.raises(NotListable, match="own_engine"):
        Inspector("own_engine")


# Finding one session.


def test_a_handle_a_prefix_and_a_key_find_a_session(listable_engine, store):
    session = store(n=1)
    digest = handles.digest(session.session_key)
    for name in (digest[:12], digest[:4], digest, digest[:20].upper(), session.session_key):
        assert Inspector().find(name) == digest


@pytest.mark.parametrize("name", ["abc", "", "xyz!", "a" * 41, "\0" * 8, "Ω" * 8, "../../../etc"])
def test_what_can_name_no_session_is_an_error_that_does_not_repeat_it(listable_engine, store, name):
    store(n=1)
    with pytest.raises(NoSuchSession) as raised:
        Inspector().find(name)
    assert not name or name not in str(raised.value)


def test_a_handle_of_no_session_is_an_error(listable_engine, store):
    store(n=1)
    with pytest.raises(NoSuchSession, match="begins with 'ffff0000'"):
        Inspector().find("ffff0000")


def test_hexadecimal_digits_that_may_be_a_key_are_not_repeated(listable_engine):
    with pytest.raises(NoSuchSession) as raised:
        Inspector().find("0123456789abcdef" * 2)
    assert "0123" not in str(raised.value)


def test_an_ambiguous_handle_lists_what_matches(listable_engine, store, monkeypatch):
    keys = {store(n=n).session_key: n for n in range(12)}
    monkeypatch.setattr(
        handles, "digest", lambda key: f"abcd{keys[key]:036}" if key in keys else ""
    )
    with pytest.raises(AmbiguousHandle, match=r"'abcd' is ambiguous: it matches abcd.* and more\."):
        Inspector().find("abcd")
    for key in list(keys)[2:]:
        Inspector().store_class(key).delete()
    with pytest.raises(AmbiguousHandle) as raised:
        Inspector().find("abcd" + "0" * 34)
    assert [digest for digest in raised.value.digests if digest in str(raised.value)]


# Choosing some.


def test_sessions_of_a_user_and_of_nobody(listable_engine, store, read):
    store({"_auth_user_id": "7"}, n=1)
    store(n=2)
    assert [record.attributes for record in read(user_id="7")] == [{"n": 1}]
    assert [record.attributes for record in read(user_id=7)] == [{"n": 1}]
    assert [record.attributes for record in read(anonymous=True)] == [{"n": 2}]
    assert read(user_id="None") == []


@pytest.mark.parametrize("engine", ["db", "dirigible_session.backends.db"])
def test_a_user_may_be_any_value(use_engine, read, engine):
    session = use_engine(engine)()
    session["_auth_user_id"] = "7"
    session.create()
    assert [record.user_id for record in read(user_id=7)] == ["7"]
    assert read(user_id="\ud800") == []


@pytest.mark.parametrize(
    ("argument", "value", "holds"),
    [
        ("n", 3, True),
        ("n", None, True),
        ("m", 3, False),
        ("n=3", 3, True),
        ("n=3", "3", True),
        ("n=3", 3.0, True),
        ("n=3", 33, False),
        ("n=3", True, False),
        ("n=1", True, False),
        ("n=true", True, True),
        ("n=true", "true", True),
        ("n=True", True, True),
        ("n=true", 1, False),
        ("n=null", None, True),
        ("n=None", None, True),
        ("n=a=b", "a=b", True),
        ("n=", "", True),
        ("n=", 0, False),
        ("n=[1, 2]", [1, 2], True),
        ('n={"a": 1}', {"a": 1}, True),
        ("n=x", [1], False),
    ],
)
def test_an_attribute_is_found_by_its_text_or_by_what_that_means(argument, value, holds):
    assert AttributeFilter.parse(argument).matches({"n": value}) is holds


@pytest.mark.parametrize("argument", ["", "=3", "_auth_user_id"])
def test_what_names_no_attribute_is_an_error(argument):
    with pytest.raises(ValueError, match="attribute"):
        AttributeFilter.parse(argument)


def test_all_attributes_must_hold(listable_engine, store, read):
    store(a=1, b=2)
    store(a=1)
    wanted = tuple(map(AttributeFilter.parse, ("a=1", "b")))
    assert [record.attributes for record in read(attributes=wanted)] == [{"a": 1, "b": 2}]


def test_idle_time_is_that_since_the_last_access(listable_engine, store, read, clock):
    for minutes in (1, 30):
        times = {"created": clock.now - 9999, "accessed": clock.now - minutes * 60}
        store({"_dirigible": times}, minutes=minutes)
    store(unknown=True)
    assert [record.attributes for record in read(idle_over=600)] == [{"minutes": 30}]
    assert [record.attributes for record in read(idle_under=600)] == [{"minutes": 1}]
    assert read(idle_over=90, idle_under=600) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("7d", 604800),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("2w1d", 1296000),
        ("90", 90),
        ("1m1.5s", 61.5),
    ],
)
def test_a_duration_has_units_or_is_in_seconds(text, seconds):
    assert parsed_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "-5m",
        "-5",
        "5 m",
        "5y",
        "٣m",
        "٣",
        "1e9s",
        "1e9",
        "30m1h",
        "1h1h",
        "1h30",
        "inf",
        "nan",
    ],
)
def test_what_is_no_duration_is_an_error(text):
    with pytest.raises(ValueError, match="is not a duration"):
        parsed_duration(text)


@pytest.mark.parametrize("state", ["active", "expired", "all"])
def test_unreadable_sessions_always_show(database_engine, store, read, clock, state):
    store(n=1)
    Session.objects.update(session_data="garbage")
    assert len(read(state=state)) == 1
    clock.tick(days=15)
    assert len(read(state=state)) == 1
    for needing in (
        {"user_id": "1"},
        {"anonymous": True},
        {"attributes": (AttributeFilter("n"),)},
        {"idle_over": 1.0},
    ):
        assert read(state=state, **needing) == []


# Users.


def test_a_user_is_found_by_username_and_else_by_primary_key(db):
    create = get_user_model().objects.create_user
    ada = create("ada")
    numbered = create(str(ada.pk))
    assert find_user_id("ada") == str(ada.pk)
    assert find_user_id(str(ada.pk)) == str(numbered.pk)
    assert find_user_id(str(numbered.pk)) == str(numbered.pk)
    assert find_user_id("12345") == "12345"
    with pytest.raises(NoSuchUser, match="'eve'"):
        find_user_id("eve")


def test_without_a_user_model_nobody_is_anybody(database_engine, store, read, settings):
    store({"_auth_user_id": "7"})
    settings.AUTH_USER_MODEL = "no.Such"
    with pytest.raises(NoSuchUser, match="no user model"):
        find_user_id("ada")
    assert [record.username for record in read()] == [None]


def test_usernames_are_looked_up_together(
    database_engine, store, read, user, django_assert_num_queries
):
    for user_id in (user.pk, user.pk, 999, "not a key"):
        store({"_auth_user_id": str(user_id)})
    with django_assert_num_queries(2):
        names = [record.username for record in read()]
    assert sorted(names, key=str) == [None, None, "ada", "ada"]


@pytest.mark.parametrize(
    "user_id", ["9223372036854775808", "-9" * 9, "9" * 5000, "1e5", "inf", "\0", "\ud800", "", "é"]
)
def test_an_id_that_can_be_nobodys_names_no_user(database_engine, store, read, user, user_id):
    store({"_auth_user_id": str(user.pk)}, n=1)
    store({"_auth_user_id": user_id}, n=2)
    assert {record.attributes["n"]: record.username for record in read()} == {1: "ada", 2: None}


@pytest.mark.parametrize("pk", [UUIDField(), CharField(), DecimalField(), DateTimeField()])
@pytest.mark.parametrize("user_id", ["9" * 30, "NaN", "\0", "\ud800", "2024-13-45", "{}", ""])
def test_ids_are_read_as_any_kind_of_primary_key(monkeypatch, user, pk, user_id):
    monkeypatch.setattr(type(user)._meta.pk, "to_python", pk.to_python)
    names = users.Usernames().look_up([user_id, str(user.pk)])
    assert names[user_id] is None


@pytest.mark.parametrize("field", ["last_login", "id"])
def test_a_username_may_be_of_any_kind(user, monkeypatch, field):
    monkeypatch.setattr(type(user), "USERNAME_FIELD", field)
    assert find_user_id(str(user.pk)) == str(user.pk)
    with pytest.raises(NoSuchUser):
        find_user_id("nobody")


def test_a_name_that_no_user_can_have_names_no_user(db):
    with pytest.raises(NoSuchUser):
        find_user_id("\udcff")


def test_two_spellings_of_an_id_are_one_user(user):
    padded = f"0{user.pk}"
    assert set(users.Usernames().look_up([padded, str(user.pk)]).values()) == {"ada"}


def test_a_user_without_a_username_has_none(database_engine, store, read, user, monkeypatch):
    monkeypatch.setattr(type(user), "USERNAME_FIELD", "last_login")
    store({"_auth_user_id": str(user.pk)})
    assert [record.username for record in read()] == [None]


def test_a_long_walk_reads_many_usernames_at_once(user, django_assert_num_queries):
    usernames = users.Usernames()
    for n in range(1, users.FEW_QUERIES):
        usernames.look_up([str(1000 + n)])
    with django_assert_num_queries(2):
        usernames.look_up(["2000"])
    with django_assert_num_queries(0):
        assert usernames.look_up([str(user.pk)])[str(user.pk)] == "ada"


def test_so_many_usernames_are_remembered_and_no_more(user, monkeypatch):
    monkeypatch.setattr(users, "NAMES_REMEMBERED", 0)
    usernames = users.Usernames()
    assert usernames.look_up(["999"])["999"] is None
    assert usernames.look_up([str(user.pk)])[str(user.pk)] == "ada"
    assert "999" not in usernames.look_up([str(user.pk), "1000"])


# Ending some.


def test_a_session_is_ended_with_its_attributes_still_readable(listable_engine, store, receive):
    received = receive(signals.session_invalidated)
    session, other = store(cart=[1]), store(n=2)
    assert Inspector().invalidate(Selection(session=session.session_key)) == 1
    assert not type(session)().exists(session.session_key)
    assert type(session)().exists(other.session_key)
    ((_, named),) = received
    assert named["sender"] is type(session)
    assert named["handle"] == handles.handle(session.session_key)


def test_attributes_are_readable_by_a_receiver_of_the_signal(listable_engine, store):
    seen = []

    def receiver(session: Any, **named: Any) -> None:
        seen.append(dict(session.items()))

    signals.session_invalidated.connect(receiver)
    try:
        store(cart=[1])
        Inspector().invalidate(Selection())
    finally:
        signals.session_invalidated.disconnect(receiver)
    assert seen == [{"cart": [1]}]


def test_a_receiver_that_raises_stops_nothing(listable_engine, store, caplog):
    def receiver(**named: Any) -> None:
        raise ZeroDivisionError

    signals.session_invalidated.connect(receiver)
    try:
        session = store(n=1)
        assert Inspector().invalidate(Selection()) == 1
    finally:
        signals.session_invalidated.disconnect(receiver)
    assert not type(session)().exists(session.session_key)
    assert "receiver" in caplog.text


def test_the_cached_copy_of_a_session_goes_too(use_engine, store):
    use_engine("cached_db")
    session = store(n=1)
    assert type(session)(session.session_key)["n"] == 1
    Inspector().invalidate(Selection())
    assert type(session)(session.session_key).get("n") is None


def test_unreadable_and_expired_sessions_can_be_ended(database_engine, store, clock):
    store(n=1)
    Session.objects.update(session_data="garbage")
    store(n=2)
    clock.tick(days=15)
    assert Inspector().invalidate(Selection(state="all")) == 2
    assert not Session.objects.exists()


# Counting.


def test_a_summary_counts_all_there_is(database_engine, store, clock):
    times = {"created": clock.now - 3600, "accessed": clock.now}
    store({"_auth_user_id": "7", "_dirigible": times}, cart=[1], lang="de")
    store({"_auth_user_id": "7"}, lang="de")
    store({"_session_expiry": 5}, lang="fr")
    store(n=1)
    clock.tick(10)
    broken = store(n=1)
    Session.objects.filter(pk=broken.session_key).update(session_data="x" * 5000)
    summary = Inspector().summary()
    assert (summary.active, summary.expired, summary.unreadable) == (3, 1, 1)
    assert (summary.authenticated, summary.anonymous, summary.users) == (2, 2, 1)
    assert summary.largest == 5000
    assert summary.bytes == sum(len(row.session_data) for row in Session.objects.all())
    assert summary.oldest == clock.datetime() - timedelta(seconds=3610)
    assert list(summary.attributes.items()) == [("lang", 3), ("cart", 1), ("n", 1)]


def test_a_summary_of_nothing_is_noughts(database_engine):
    summary = Inspector().summary()
    assert summary.bytes == summary.largest == summary.users == 0
    assert summary.oldest is None


# Memory.


def test_no_more_than_a_batch_is_read_ahead(database_engine, store, monkeypatch):
    assert [len(batch) for batch in in_batches(_stored(5, 10), 2, 100)] == [2, 2, 1]
    assert [len(batch) for batch in in_batches(_stored(3, 1000), 2, 100)] == [1, 1, 1]
    monkeypatch.setattr(inspector, "NAMED", 2)
    for n in range(5):
        store(n=n)
    assert len(list(Inspector().records())) == 5


def _stored(count: int, size: int) -> Iterator[StoredSession]:
    for _ in range(count):
        yield StoredSession("", {}, None, None, size)
