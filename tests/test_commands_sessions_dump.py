"""``manage.py sessions_dump``."""

from __future__ import annotations

import io
import json

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import CommandError, call_command

from dirigible_session import handles

pytestmark = pytest.mark.django_db


def dump(*arguments: str) -> str:
    out = io.StringIO()
    call_command("sessions_dump", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def stored() -> SessionStore:
    session = SessionStore()
    session["cart"] = [1, 2]
    session["api_token"] = "hunter2"
    session.create()
    return session


def test_the_table_has_a_line_for_the_titles_and_one_a_session(stored):
    titles, line = dump().splitlines()
    assert titles.startswith("HANDLE")
    assert line.startswith(handles.handle(stored.session_key))
    assert "cart=[1, 2]" in line


def test_json_gives_an_object_a_session(stored):
    (session,) = json.loads(dump("--format=json"))
    assert session["handle"] == handles.handle(stored.session_key)
    assert session["state"] == "active"
    assert session["attributes"]["cart"] == [1, 2]


@pytest.mark.parametrize("name", ["table", "json", "jsonl", "csv"])
def test_no_format_shows_a_key_or_a_secret_unless_told_to(stored, name):
    hidden, revealed = dump(f"--format={name}"), dump(f"--format={name}", "--reveal")
    for secret in (stored.session_key, "hunter2"):
        assert secret not in hidden
        assert secret in revealed


def test_an_unknown_format_is_wrong_usage():
    with pytest.raises(CommandError) as raised:
        dump("--format=xml")
    assert raised.value.returncode == 2
