"""``manage.py sessions_invalidate``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command

from dirigible_session import handles, signals

pytestmark = pytest.mark.django_db


def invalidate(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("sessions_invalidate", *arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def store(data: dict[str, Any] | None = None, **attributes: Any) -> SessionStore:
    session = SessionStore()
    session.update(data or {})
    session.update(attributes)
    session.create()
    return session


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that sets what is answered when it asks."""
    asked = []

    def answer(text: str | BaseException) -> list[str]:
        def reply(prompt: str = "") -> str:
            asked.append(prompt)
            if isinstance(text, BaseException):
                raise text
            return text

        monkeypatch.setattr("builtins.input", reply)
        return asked

    return answer


def left() -> set[str]:
    return set(Session.objects.values_list("session_key", flat=True))


def test_without_a_filter_it_refuses():
    store(n=1)
    for arguments in ((), ("--limit=1",), ("--no-input",)):
        with pytest.raises(CommandError, match="a filter such as --user, or --all") as raised:
            invalidate(*arguments)
        assert raised.value.returncode == 2
    assert len(left()) == 1


@pytest.mark.parametrize(
    "filters",
    [
        {"attribute": ()},
        {"attribute": set()},
        {"attribute": iter(())},
        {"attribute": [], "anonymous": 0},
        {"anonymous": ""},
    ],
)
def test_a_filter_that_chooses_nothing_is_none(filters):
    store(n=1)
    with pytest.raises(CommandError, match="a filter such as --user, or --all") as raised:
        invalidate(interactive=False, **filters)
    assert raised.value.returncode == 2
    assert len(left()) == 1


@pytest.mark.parametrize("attribute", [{"n": 3}, {}, 3, [3], b"n=3", False])
def test_an_attribute_that_is_no_text_is_wrong_usage(attribute):
    store(n=4)
    with pytest.raises(CommandError, match="--attribute") as raised:
        invalidate(interactive=False, attribute=attribute)
    assert raised.value.returncode == 2
    assert len(left()) == 1


def test_filters_may_come_one_by_one():
    kept = store(n=1)
    store(n=1, m=1)
    given = (name for name in ("n=1", "m"))
    assert invalidate(interactive=False, attribute=given) == "Ended 1 session.\n"
    assert left() == {kept.session_key}


def test_all_and_a_filter_exclude_each_other():
    with pytest.raises(CommandError) as raised:
        invalidate("--all", "--idle-over=1h")
    assert str(raised.value) == "--all and --idle-over exclude each other"
    assert raised.value.returncode == 2


def test_it_ends_the_sessions_of_a_user(user):
    store({"_auth_user_id": str(user.pk)})
    store({"_auth_user_id": str(user.pk)})
    other = store(n=1)
    assert invalidate("--user=ada", "--no-input") == "Ended 2 sessions.\n"
    assert left() == {other.session_key}


def test_it_says_what_it_will_end_before_it_asks(answer):
    session = store(cart=[1], api_token="hunter2")
    asked = answer("y")
    said = invalidate("--attribute=cart")
    assert asked == ["End them? [y/N] "]
    first, _, line, last = said.splitlines()
    assert first == "This ends 1 session (1 active):"
    assert line.startswith(handles.handle(session.session_key))
    assert last == "Ended 1 session."
    assert "hunter2" not in said
    assert session.session_key not in said


def test_of_many_it_shows_the_first(answer):
    answer("yes")
    for n in range(12):
        store(n=n)
    said = invalidate("--all").splitlines()
    assert len(said) == 1 + 1 + 10 + 1 + 1
    assert said[-2:] == ["and 2 more.", "Ended 12 sessions."]


@pytest.mark.parametrize("text", ["n", "", "no", "what?"])
def test_any_other_answer_ends_nothing(answer, text):
    answer(text)
    store(n=1)
    assert invalidate("--all").splitlines()[-1] == "Ended 0 sessions."
    assert len(left()) == 1


def test_an_interrupt_is_a_no(answer):
    answer(KeyboardInterrupt())
    store(n=1)
    assert invalidate("--all").endswith("\nEnded 0 sessions.\n")
    assert len(left()) == 1


@pytest.mark.parametrize("error", [EOFError(), RuntimeError("input(): lost sys.stdin")])
def test_where_nobody_can_answer_it_ends_nothing(answer, error):
    answer(error)
    store(n=1)
    with pytest.raises(CommandError, match="--no-input") as raised:
        invalidate("--all")
    assert raised.value.returncode == 1
    assert len(left()) == 1


class Closed(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_what_nobody_reads_is_no_reason_to_fail():
    store(n=1)
    for option in ("--dry-run", "--no-input"):
        assert len(left()) == 1
        call_command("sessions_invalidate", "--all", option, stdout=Closed(), stderr=io.StringIO())
    assert left() == set()


def test_where_nobody_can_read_what_it_would_end_it_ends_nothing(answer):
    asked = answer("y")
    store(n=1)
    with pytest.raises(CommandError, match="--no-input"):
        call_command("sessions_invalidate", "--all", stdout=Closed(), stderr=io.StringIO())
    assert asked == []
    assert len(left()) == 1


def test_it_asks_nothing_where_there_is_nothing_to_end(answer):
    asked = answer("y")
    assert invalidate("--all") == "Ended 0 sessions.\n"
    assert asked == []


def test_a_dry_run_ends_nothing():
    store(n=1)
    assert invalidate("--all", "--dry-run") == "Would end 1 session (1 active).\n"
    assert invalidate("--attribute=m", "--dry-run") == "Would end 0 sessions.\n"
    assert len(left()) == 1


def test_all_are_those_of_every_state(clock):
    broken = store(n=1)
    Session.objects.filter(pk=broken.session_key).update(session_data="garbage")
    store(n=2)
    clock.tick(days=15)
    store(n=3)
    described = "Would end 3 sessions (1 active, 1 expired, 1 unreadable).\n"
    assert invalidate("--all", "--dry-run") == described
    assert invalidate("--all", "--no-input") == "Ended 3 sessions.\n"


def test_an_unreadable_session_is_ended_by_its_handle():
    session, other = store(n=1), store(n=2)
    Session.objects.filter(pk=session.session_key).update(session_data="garbage")
    handle = handles.handle(session.session_key)
    assert invalidate(f"--session={handle}", "--no-input") == "Ended 1 session.\n"
    assert left() == {other.session_key}


def test_a_limit_bounds_what_is_ended():
    for n in range(3):
        store(n=n)
    assert invalidate("--all", "--limit=2", "--no-input") == "Ended 2 sessions.\n"
    assert len(left()) == 1
    beyond = f"--limit={2**64}"
    assert invalidate("--all", beyond, "--no-input") == "Ended 1 session.\n"


def test_receivers_are_told(receive):
    received = receive(signals.session_invalidated)
    session = store(n=1)
    invalidate("--all", "--no-input")
    ((_, named),) = received
    assert named["sender"] is SessionStore
    assert named["handle"] == handles.handle(session.session_key)
    assert named["request"] is None


@pytest.mark.parametrize("arguments", [("--no-input",), ("--dry-run",), ()])
def test_a_handle_of_no_session_is_an_error(arguments):
    with pytest.raises(CommandError, match="begins with 'ffff'") as raised:
        invalidate("--session=ffff", *arguments)
    assert raised.value.returncode == 1


@pytest.mark.parametrize("arguments", [("--no-input",), ("--dry-run",), ()])
def test_an_ambiguous_handle_is_an_error(monkeypatch, arguments):
    keys = [store(n=n).session_key for n in range(2)]
    monkeypatch.setattr(
        handles, "digest", lambda key: f"abcd{keys.index(key) if key in keys else 9:036}"
    )
    with pytest.raises(CommandError, match="'abcd' is ambiguous") as raised:
        invalidate("--session=abcd", *arguments)
    assert raised.value.returncode == 1
    assert len(left()) == 2


def test_what_the_store_keeps_is_not_counted(use_engine, tmp_path):
    use_engine("file")
    session = FileStore()
    session["n"] = 1
    session.save()
    # No engine of Django's deletes what has so short a key.
    short = tmp_path / "sessionidshort"
    short.write_text(Path(session._key_to_file()).read_text())
    with pytest.raises(CommandError, match=r"^Ended 1\. The store keeps ") as raised:
        invalidate("--all", "--no-input")
    assert handles.handle("short") in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["sessionidshort"]
