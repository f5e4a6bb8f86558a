"""``sessions_migrate``: nobody is logged out by a change of engines, and nobody logged in."""

from __future__ import annotations

import io
import json
import time
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.contrib.sessions.backends import file
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session as OldSession
from django.core.management import CommandError, call_command
from django.core.signing import JSONSerializer
from django.db import OperationalError, connection
from django.utils import timezone

from dirigible_session import handles, lifecycle, transfer
from dirigible_session.inspection.readers import database
from dirigible_session.lifecycle import TIMES_KEY
from dirigible_session.models import MigratedSession, Session
from dirigible_session.transfer.plan import Counts

pytestmark = pytest.mark.django_db

NEW = "dirigible_session.backends.db"
STOCK = "django.contrib.sessions.backends."
DAY = 24 * 60 * 60
MODELS = (Session, MigratedSession)


@pytest.fixture(params=["db", "cached_db", "file"])
def old(
    request: pytest.FixtureRequest, settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The old engine's path; the new one is SESSION_ENGINE."""
    monkeypatch.setattr(file.SessionStore, "_storage_path", str(tmp_path), raising=False)
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_ENGINE = NEW
    return STOCK + request.param


def store_of(engine: str, key: str | None = None) -> Any:
    return import_module(engine).SessionStore(key)


def stored(engine: str, **attributes: Any) -> str:
    store = store_of(engine)
    store.update(attributes)
    store.save()
    return store.session_key


def change(engine: str, key: str, **attributes: Any) -> None:
    store = store_of(engine, key)
    store.update(attributes)
    store.save()


def content(key: str) -> dict[str, Any]:
    return dict(store_of(NEW, key).items())


def migrate(origin: str, *options: str) -> str:
    out = io.StringIO()
    call_command("sessions_migrate", f"--from={origin}", *options, stdout=out)
    return out.getvalue()


def test_live_sessions_are_copied_and_their_keys_open_them(old: str) -> None:
    keys = [stored(old, number=number, _auth_user_id="7") for number in range(3)]
    assert migrate(old).startswith("Copied 3,")
    assert [content(key)["number"] for key in keys] == [0, 1, 2]
    assert set(Session.objects.values_list("user_id", flat=True)) == {"7"}


def test_what_is_over_is_not_copied(old: str) -> None:
    store = store_of(old)
    store["a"] = 1
    store.set_expiry(-60)
    store.save()
    assert migrate(old).startswith("Copied 0,")


def test_what_is_over_by_its_own_interval_is_not_copied(old: str) -> None:
    now = time.time()
    times = lifecycle.Times(now - 3 * DAY, now - 2 * DAY)
    stored(old, a=1, **{TIMES_KEY: times.as_record(), lifecycle.EXPIRY_KEY: DAY})
    assert migrate(old).startswith("Copied 0,")
    assert not Session.objects.exists()


def test_what_is_over_by_the_absolute_timeout_is_not_copied(old: str, settings: Any) -> None:
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 2 * DAY
    now = time.time()
    for age in (3 * DAY, DAY):
        stored(old, age=age, **{TIMES_KEY: lifecycle.Times(now - age, now).as_record()})
    assert migrate(old).startswith("Copied 1,")
    assert Session.objects.get().session_data == f'{{"age":{DAY}}}'


def test_what_nobody_came_to_for_longer_than_the_absolute_timeout_is_not_copied(
    settings: Any,
) -> None:
    settings.SESSION_ENGINE = NEW
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = DAY
    stored(STOCK + "db", a=1)
    OldSession.objects.update(expire_date=timezone.now() + timedelta(days=1))
    assert migrate(STOCK + "db").startswith("Copied 0,")
    assert not Session.objects.exists()


def test_times_that_the_old_engine_kept_are_kept(old: str) -> None:
    now = time.time()
    times = lifecycle.Times(now - 3 * DAY, now - DAY, None)
    key = stored(old, a=1, **{TIMES_KEY: times.as_record()})
    migrate(old)
    assert content(key) == {"a": 1}
    store = store_of(NEW, key)
    store.keys()
    assert store.times == times


def test_a_copy_ends_when_its_original_would_have(old: str, settings: Any) -> None:
    store = store_of(old)
    store.set_expiry(DAY)
    store["a"] = 1
    before = time.time()
    store.save()
    migrate(old)
    assert Session.objects.get().expires == pytest.approx(before + DAY, abs=10)


def test_a_second_run_changes_nothing(old: str) -> None:
    key = stored(old, a=1)
    migrate(old)
    before = Session.objects.values().get()
    assert "unchanged 1" in migrate(old)
    assert Session.objects.values().get() == before
    assert content(key) == {"a": 1}


def test_a_second_run_takes_over_what_the_old_engine_wrote_since(old: str) -> None:
    key = stored(old, a=1)
    migrate(old)
    change(old, key, a=2, b=1)
    later = stored(old, c=1)
    said = migrate(old)
    assert said.startswith("Copied 1, updated 1")
    assert content(key) == {"a": 2, "b": 1}
    assert content(later) == {"c": 1}


def test_nothing_that_the_new_engine_wrote_is_overwritten(old: str) -> None:
    key = stored(old, a=1)
    migrate(old)
    change(NEW, key, a="new")
    change(old, key, a="old")
    assert "skipped 1 " in migrate(old)
    assert content(key) == {"a": "new"}


def test_a_session_that_was_ended_in_the_new_engine_stays_ended(old: str) -> None:
    key = stored(old, a=1)
    migrate(old)
    store_of(NEW, key).flush()
    for _ in range(2):
        migrate(old)
    change(old, key, a=2)
    migrate(old)
    assert not Session.objects.exists()


def test_a_login_in_the_new_engine_does_not_bring_the_old_key_back(old: str) -> None:
    key = stored(old, a=1)
    migrate(old)
    store = store_of(NEW, key)
    store.cycle_key()
    change(old, key, a=2)
    migrate(old)
    assert [row.digest for row in Session.objects.all()] == [store.digest]


def test_a_session_that_was_ended_in_the_old_engine_is_ended_in_the_new_one(old: str) -> None:
    key, other = stored(old, a=1), stored(old, b=1)
    migrate(old)
    store_of(old, key).flush()
    assert "ended 1" in migrate(old)
    assert [row.digest for row in Session.objects.all()] == [handles.digest(other)]
    assert MigratedSession.objects.count() == 1


def test_a_copy_that_is_used_in_that_moment_is_not_ended(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = NEW
    key = stored(STOCK + "db", a=1)
    migrate(STOCK + "db")
    OldSession.objects.all().delete()
    is_as_written = transfer.is_as_written

    def use_late(*args: Any) -> bool:
        found = is_as_written(*args)
        change(NEW, key, b=2)
        return found

    monkeypatch.setattr(transfer, "is_as_written", use_late)
    assert "ended 0" in migrate(STOCK + "db")
    assert content(key) == {"a": 1, "b": 2}


def test_a_copy_is_ended_whichever_path_the_old_engine_went_by(settings: Any) -> None:
    settings.SESSION_ENGINE = NEW
    key = stored(STOCK + "cached_db", a=1)
    migrate(STOCK + "db")
    migrate(STOCK + "cached_db")
    store_of(STOCK + "cached_db", key).flush()
    assert "ended 1" in migrate(STOCK + "cached_db")
    assert not Session.objects.exists()


@pytest.mark.parametrize("use", ["write", "touch"])
def test_a_copy_in_use_outlives_its_original(old: str, use: str) -> None:
    key = stored(old, a=1)
    migrate(old)
    if use == "write":
        change(NEW, key, a=2)
    else:
        assert store_of(NEW, key).touch(time.time() + 100)
    store_of(old, key).flush()
    migrate(old)
    assert content(key)["a"] in (1, 2)
    assert not MigratedSession.objects.exists()


def test_a_touched_copy_takes_over_what_the_old_engine_wrote(old: str) -> None:
    key = stored(old, a=1)
    migrate(old)
    accessed = time.time() + 100
    store_of(NEW, key).touch(accessed)
    change(old, key, a=2)
    migrate(old)
    assert content(key) == {"a": 2}
    assert Session.objects.get().accessed == accessed


def test_a_last_access_that_varies_by_seconds_is_no_change(old: str) -> None:
    now = time.time()
    times = lifecycle.Times(now - DAY, now - 60)
    key = stored(old, a=1, **{TIMES_KEY: times.as_record()})
    migrate(old)
    before = Session.objects.values().get()
    later = lifecycle.Times(times.created, times.accessed + 1)
    change(old, key, **{TIMES_KEY: later.as_record()})
    assert "unchanged 1" in migrate(old)
    assert Session.objects.values().get() == before


def test_a_write_between_reading_and_writing_is_not_overwritten(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = stored(old, a=1)
    migrate(old)
    change(old, key, a="old")
    store_class = type(store_of(NEW))
    read = store_class._read_many

    def read_and_be_outrun(self: Any, digests: Any) -> Any:
        found = read(self, digests)
        change(NEW, key, a="new")
        return found

    monkeypatch.setattr(store_class, "_read_many", read_and_be_outrun)
    assert "skipped 1 " in migrate(old)
    assert content(key) == {"a": "new"}


def test_a_run_that_was_stopped_can_be_run_again(old: str, monkeypatch: Any) -> None:
    keys = [stored(old, number=number) for number in range(5)]
    monkeypatch.setattr(transfer, "BATCH", 2)
    remember, remembered = transfer.Transfer._remember, []

    def stop_at_the_second(self: Any, *args: Any) -> None:
        if remembered:
            raise KeyboardInterrupt
        remember(self, *args)
        remembered.append(args)

    monkeypatch.setattr(transfer.Transfer, "_remember", stop_at_the_second)
    with pytest.raises(CommandError, match=r"Stopped\. Copied 2, .* Run the command again") as stop:
        migrate(old)
    assert stop.value.returncode == 130
    assert Session.objects.count() == MigratedSession.objects.count() == 2
    monkeypatch.setattr(transfer.Transfer, "_remember", remember)
    change(old, keys[0], number="changed")
    migrate(old)
    assert [content(key)["number"] for key in keys] == ["changed", 1, 2, 3, 4]


def test_what_the_new_engine_has_of_its_own_is_left_alone(old: str) -> None:
    key = stored(old, a=1)
    store = store_of(NEW, key)
    store.update({"a": "new"})
    store._session_key = key
    store.save(must_create=True)
    assert "skipped 1 " in migrate(old)
    assert content(key) == {"a": "new"}


def test_a_session_with_a_fixed_end_keeps_it(old: str) -> None:
    store = store_of(old)
    store.set_expiry(timedelta(days=3))
    store["a"] = 1
    store.save()
    migrate(old)
    assert Session.objects.get().expires == pytest.approx(time.time() + 3 * DAY, abs=10)


def test_a_session_that_can_not_be_read_is_counted(settings: Any) -> None:
    settings.SESSION_ENGINE = NEW
    stored(STOCK + "db", a=1)
    OldSession.objects.update(session_data="damaged")
    assert "unreadable 1" in migrate(STOCK + "db")
    assert not Session.objects.exists()


class Pickle:
    """A serializer that keeps what JSON can't."""

    def dumps(self, value: Any) -> bytes:
        import pickle

        return pickle.dumps(value)

    def loads(self, text: bytes) -> Any:
        import pickle

        return pickle.loads(text)


def test_what_json_can_not_hold_is_named_and_the_rest_is_copied(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.SESSION_ENGINE = NEW
    settings.SESSION_SERIALIZER = f"{__name__}.Pickle"
    key, fine = stored(STOCK + "db", a={1, 2}), stored(STOCK + "db", a=1)
    with pytest.raises(CommandError, match="Not copied, because JSON can't"):
        migrate(STOCK + "db")
    said = capsys.readouterr().err
    assert handles.handle(key) in said
    assert key not in said
    assert content(fine) == {"a": 1}


class Deep(Pickle):
    """A serializer that gives lists in lists, deeper than JSON can go, by their depth."""

    def loads(self, text: bytes) -> Any:
        data = super().loads(text)
        value: list[Any] = []
        for _ in range(data["depth"]):
            value = [value]
        return {"value": value}


def test_what_is_too_deep_for_json_is_named_and_the_rest_is_copied(settings: Any) -> None:
    settings.SESSION_ENGINE = NEW
    settings.SESSION_SERIALIZER = f"{__name__}.Deep"
    stored(STOCK + "db", depth=100_000)
    fine = stored(STOCK + "db", depth=1)
    with pytest.raises(CommandError, match=r"JSON can't represent their data: 1 session\."):
        migrate(STOCK + "db")
    assert content(fine) == {"value": [[]]}


def test_an_end_that_is_no_date_is_counted_as_unreadable(settings: Any) -> None:
    settings.SESSION_ENGINE = NEW
    stored(STOCK + "db", a=1, **{lifecycle.EXPIRY_KEY: 1})
    damage = {lifecycle.EXPIRY_KEY: "tomorrow"}
    OldSession.objects.update(session_data=store_of(STOCK + "db").encode(damage))
    assert "unreadable 1" in migrate(STOCK + "db")


def test_the_time_of_the_last_login_is_copied(old: str) -> None:
    now = time.time()
    times = lifecycle.Times(now - 3 * DAY, now - 60, None, now - DAY)
    key = stored(old, a=1, **{TIMES_KEY: times.as_record()})
    migrate(old)
    assert store_of(NEW, key).load() == {"a": 1}
    assert Session.objects.get().authenticated == now - DAY


def test_what_the_new_engine_has_just_so_is_taken_for_a_copy(old: str) -> None:
    key = stored(old, a=1)
    migrate(old)
    MigratedSession.objects.all().delete()
    assert migrate(old).startswith("Copied 0, updated 0, ended 0, unchanged 1, skipped 0 ")
    change(old, key, a=2)
    assert "updated 1" in migrate(old)
    assert content(key) == {"a": 2}


def test_a_dry_run_says_what_a_run_would_do_and_does_nothing(old: str) -> None:
    same, changed, used, ended = (stored(old, n=number) for number in range(4))
    migrate(old)
    change(old, changed, by="old")
    change(old, used, by="old")
    change(NEW, used, by="new")
    store_of(old, ended).delete()
    stored(old, n=4)
    before = [list(model.objects.order_by("digest").values()) for model in MODELS]
    assert migrate(old, "--dry-run") == (
        "Would copy 1, update 1, end 1, leave 1 unchanged, skip 1 (changed in the new engine); "
        "unreadable 0.\n"
    )
    assert [list(model.objects.order_by("digest").values()) for model in MODELS] == before
    assert migrate(old).startswith("Copied 1, updated 1, ended 1, unchanged 1, skipped 1 ")
    assert content(same) == {"n": 0}


def test_many_sessions_take_few_statements(settings: Any, queries: Any) -> None:
    settings.SESSION_ENGINE = NEW
    keys = [stored(STOCK + "db", number=number) for number in range(100)]
    with queries() as first:
        assert migrate(STOCK + "db").startswith("Copied 100,")
    for key in keys:
        change(STOCK + "db", key, again=1)
    with queries() as second:
        assert "updated 100" in migrate(STOCK + "db")
    with queries() as third:
        assert "unchanged 100" in migrate(STOCK + "db")
    assert len(first) <= 20
    assert len(second) <= 120
    assert len(third) <= 10


class Waiting:
    """Waits by counting, and lets something happen after some time."""

    def __init__(self, until: float, happens: Any) -> None:
        self.waited = 0.0
        self._until = until
        self._happens = happens

    def __call__(self, seconds: float) -> None:
        self.waited += seconds
        if self.waited == self._until:
            self._happens()


def test_a_copy_of_what_can_not_be_read_any_more_is_not_ended(settings: Any) -> None:
    settings.SESSION_ENGINE = NEW
    key = stored(STOCK + "db", a=1)
    migrate(STOCK + "db")
    OldSession.objects.update(session_data="damaged")
    assert "ended 0, unchanged 0, skipped 0 " in migrate(STOCK + "db")
    assert content(key) == {"a": 1}


@pytest.mark.parametrize("step", ["_replace_many", "_remove_many"])
def test_a_run_waits_for_a_database_that_is_locked(
    settings: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    settings.SESSION_ENGINE = NEW
    keys = [stored(STOCK + "db", a=1), stored(STOCK + "db", a=2)]
    migrate(STOCK + "db")
    store_of(STOCK + "db", keys[0]).delete()
    change(STOCK + "db", keys[1], a=3)
    store_class = type(store_of(NEW))
    work = getattr(store_class, step)

    def locked(*args: Any) -> None:
        raise OperationalError("database is locked")

    waiting = Waiting(3, lambda: monkeypatch.setattr(store_class, step, work))
    monkeypatch.setattr(store_class, step, locked)
    run = transfer.Transfer(STOCK + "db", store_of(NEW), now=time.time(), wait=waiting)
    run.run()
    assert waiting.waited == 3
    assert (run.counts.updated, run.counts.ended) == (1, 1)


def test_a_walk_goes_on_where_a_lock_stopped_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = NEW
    for number in range(5):
        stored(STOCK + "db", a=number)
    monkeypatch.setattr(database, "CHUNK", 2)
    rows = database.DatabaseReader._fetched
    reads: list[Any] = []

    def locked_at_the_second(self: Any, query: Any) -> Any:
        reads.append(query)
        if len(reads) == 2:
            raise OperationalError("database is locked")
        return rows(self, query)

    monkeypatch.setattr(database.DatabaseReader, "_fetched", locked_at_the_second)
    waiting = Waiting(0, None)
    run = transfer.Transfer(STOCK + "db", store_of(NEW), now=time.time(), wait=waiting)
    run.run()
    assert waiting.waited == transfer.PAUSE
    assert run.counts == Counts(copied=5)


def test_a_database_that_stays_locked_ends_the_run(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = NEW
    stored(STOCK + "db", a=1)

    def locked(*args: Any) -> None:
        raise OperationalError("database is locked")

    waiting = Waiting(0, None)
    monkeypatch.setattr(transfer.Transfer, "_write", locked)
    run = transfer.Transfer(STOCK + "db", store_of(NEW), now=time.time(), wait=waiting)
    with pytest.raises(OperationalError):
        run.run()
    assert waiting.waited == transfer.PATIENCE


class Encrypting:
    """A serializer of which nobody knows what it stores."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()[::-1]

    def loads(self, text: bytes) -> Any:
        return json.loads(text[::-1])


class Keyless:
    """A serializer that can't serialize what is not a session."""

    def dumps(self, value: Any) -> bytes:
        if "a" not in value:
            raise LookupError("no key")
        return json.dumps(value).encode()

    def loads(self, text: bytes) -> Any:
        return json.loads(text)


class Subclass(JSONSerializer):
    """It may encrypt, too."""


class EncryptingStore(DatabaseStore):
    """Encrypts without a serializer."""

    def encode(self, session_dict: Any) -> str:
        return super().encode(session_dict)


SessionStore = EncryptingStore


@pytest.mark.parametrize("name", ["Encrypting", "Keyless", "Subclass"])
def test_what_may_be_encrypted_is_not_copied_unless_told_to(
    settings: Any, old: str, name: str
) -> None:
    settings.SESSION_SERIALIZER = f"{__name__}.{name}"
    key = stored(old, a=1)
    with pytest.raises(CommandError, match=rf"{name} is neither .* nothing was copied.* --plain"):
        migrate(old)
    assert not Session.objects.exists()
    assert not MigratedSession.objects.exists()
    assert migrate(old, "--plain").startswith("Copied 1,")
    assert content(key) == {"a": 1}


def test_a_store_that_may_encrypt_by_itself_is_not_copied(settings: Any) -> None:
    settings.SESSION_ENGINE = NEW
    with pytest.raises(CommandError, match=r"EncryptingStore\.encode is neither"):
        migrate(__name__)


def test_a_table_that_is_not_migrated_is_told_with_what_to_do(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = NEW
    stored(STOCK + "db", a=1)
    # Django keeps each column with the table's name from its first use on.
    assert all(field.cached_col for field in MigratedSession._meta.fields)
    monkeypatch.setattr(MigratedSession._meta, "db_table", "not_there")
    with pytest.raises(CommandError, match=r"manage\.py migrate"):
        migrate(STOCK + "db")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_drawn_on_a_terminal_only(settings: Any) -> None:
    settings.SESSION_ENGINE = NEW
    stored(STOCK + "db", a=1)
    terminal, file = Terminal(), io.StringIO()
    for stderr in (terminal, file):
        out = io.StringIO()
        call_command("sessions_migrate", f"--from={STOCK}db", stdout=out, stderr=stderr)
        assert len(out.getvalue().splitlines()) == 1
    assert "Copying sessions" in terminal.getvalue()
    assert file.getvalue() == ""


@pytest.mark.parametrize(
    ("engine", "origin", "reason"),
    [
        (NEW, NEW, "already"),
        (NEW, STOCK + "signed_cookies", "can't be listed"),
        (NEW, "no.such.engine", "not a session engine"),
        (STOCK + "db", STOCK + "file", "engine of dirigible_session"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_sentence(
    settings: Any, engine: str, origin: str, reason: str
) -> None:
    settings.SESSION_ENGINE = engine
    with pytest.raises(CommandError, match=reason):
        migrate(origin)


@pytest.mark.django_db(transaction=True)
def test_the_memory_outlives_a_way_back_to_the_first_migration(settings: Any) -> None:
    settings.SESSION_ENGINE = NEW
    stored(STOCK + "db", a=1)
    migrate(STOCK + "db")
    table = MigratedSession._meta.db_table
    try:
        call_command("migrate", "dirigible_session", "0001", verbosity=0)
        with connection.cursor() as cursor:
            columns = connection.introspection.get_table_description(cursor, table)
        assert "pending" not in [column.name for column in columns]
    finally:
        call_command("migrate", "dirigible_session", verbosity=0)
    assert "unchanged 1" in migrate(STOCK + "db")
