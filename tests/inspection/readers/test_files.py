"""Reading the files of sessions."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends import file

from dirigible_session.inspection import Inspector, NoSuchSession, StoreFailed


@pytest.fixture(autouse=True)
def folder(use_engine: Any, tmp_path: Path) -> Path:
    use_engine("file")
    return tmp_path


def test_each_file_is_a_session(store, read, clock):
    session = store(cart=[1])
    (record,) = read(reveal=True)
    assert record.session_key == session.session_key
    assert record.attributes == {"cart": [1]}
    assert record.expires == clock.datetime() + timedelta(weeks=2)
    assert record.size == Path(session._key_to_file()).stat().st_size
    assert Inspector().count() == 1


def test_strangers_and_files_being_written_are_passed_over(store, read, folder):
    store(n=1)
    (folder / "README").write_text("x")
    (folder / f"sessionid{'a' * 32}_out_b1").write_text("x")
    (folder / f"sessionid{'d' * 32}").mkdir()
    os.mkfifo(folder / f"sessionid{'f' * 32}")
    (folder / "sessionid").write_text("x")
    assert [record.attributes for record in read()] == [{"n": 1}]


def test_what_cannot_be_decoded_is_reported_and_the_rest_still_comes(store, read, folder):
    store(n=1)
    (folder / f"sessionid{'a' * 32}").write_bytes(b"\xff\x00")
    (folder / f"sessionid{'b' * 32}").write_text("garbage")
    assert sorted(record.state for record in read()) == ["active", "unreadable", "unreadable"]


def test_a_file_that_cannot_be_opened_is_reported(store, read, monkeypatch):
    store(n=1)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    (record,) = read()
    assert record.error == "file can't be read (PermissionError)"


def test_a_file_that_goes_meanwhile_is_passed_over(store, read, monkeypatch):
    store(n=1)

    def gone(*args: Any, **kwargs: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", gone)
    assert read() == []


@pytest.mark.parametrize("key", ["a" * 300, "folder"])
def test_a_key_that_can_have_no_file_names_no_session(folder, key):
    (folder / "sessionidfolder").mkdir()
    with pytest.raises(NoSuchSession):
        Inspector().find(key)


def test_an_empty_file_is_a_session_being_created(read, folder):
    (folder / f"sessionid{'a' * 32}").touch()
    (record,) = read()
    assert (record.state, record.attributes) == ("active", {})


@pytest.mark.parametrize(
    ("expiry", "expires"),
    [
        (None, timedelta(weeks=2)),
        (0, timedelta(weeks=2)),
        (300, None),
        (-5, timedelta(0)),
        ("2100-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00"),
    ],
)
def test_it_expires_as_the_engine_ends_it(store, read, clock, expiry, expires):
    store({"_session_expiry": expiry})
    (record,) = read()
    if isinstance(expires, timedelta):
        assert record.expires == clock.datetime() + expires
    else:
        assert (record.expires and record.expires.isoformat()) == expires


def test_an_expiry_that_is_none_makes_a_session_unreadable(store, read, clock):
    times = {"created": clock.now, "accessed": clock.now}
    store({"_session_expiry": "tomorrow", "_dirigible": times})
    store({"_session_expiry": "tomorrow"})
    store({"_session_expiry": [1]})
    assert [record.state for record in read()] == ["unreadable"] * 3


def test_a_folder_that_is_not_there_is_one_line_of_reason(store, read, folder, settings):
    store(n=1)
    settings.SESSION_FILE_PATH = str(folder / "none")
    del file.SessionStore._storage_path
    with pytest.raises(StoreFailed, match="doesn't exist"):
        read()


def test_a_folder_that_cannot_be_listed_is_one_line_of_reason(store, read, folder, monkeypatch):
    store(n=1)

    def refuse(path: str) -> Any:
        raise PermissionError("no")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreFailed, match=str(folder)):
        read()


def test_a_name_that_is_no_key_opens_no_file(store, read):
    store(n=1)
    assert list(Inspector()._reader.read(["../../etc/passwd"])) == []
