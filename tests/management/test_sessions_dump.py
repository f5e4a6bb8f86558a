"""``manage.py sessions_dump``."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core import signing
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.http import HttpResponse
from django.utils import timezone
from rich.cells import cell_len

from dirigible_session import handles
from dirigible_session.inspection import Inspector
from dirigible_session.management import output, progress
from dirigible_session.management.commands.sessions_dump import Command

from ..inspection.hostile import ATTRIBUTES

pytestmark = pytest.mark.django_db

FORMATS = ("table", "json", "jsonl", "csv")
SHM = Path("/dev/shm")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def dump(*arguments: str, stdout: io.StringIO | None = None, **options: Any) -> str:
    out = io.StringIO() if stdout is None else stdout
    options.setdefault("stderr", io.StringIO())
    call_command("sessions_dump", *arguments, stdout=out, **options)
    return out.getvalue()


def store(data: dict[str, Any] | None = None, **attributes: Any) -> SessionStore:
    session = SessionStore()
    session.update(data or {})
    session.update(attributes)
    session.create()
    return session


def shown(*arguments: str, **options: Any) -> list[dict[str, Any]]:
    return json.loads(dump("--format=json", *arguments, **options))


# What it shows.


def test_the_table_has_a_line_for_the_titles_and_one_a_session():
    session = store(cart=[1, 2])
    titles, line = dump().splitlines()
    assert titles.startswith("HANDLE")
    assert line.startswith(handles.handle(session.session_key))
    assert "cart=[1, 2]" in line


def test_of_no_session_the_table_is_empty():
    assert dump() == ""


def test_json_gives_an_object_a_session(user):
    session = store({"_auth_user_id": str(user.pk)}, cart=[1, 2])
    (record,) = shown()
    assert record["handle"] == handles.handle(session.session_key)
    assert record["state"] == "active"
    assert record["username"] == "ada"
    assert record["attributes"] == {"cart": [1, 2]}


def test_json_lines_and_csv_give_a_line_a_session():
    store(n=1)
    store(n=2)
    assert len([json.loads(line) for line in dump("--format=jsonl").splitlines()]) == 2
    assert len(list(csv.DictReader(io.StringIO(dump("--format=csv"), newline="")))) == 2


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ((), {1, 2}),
        (("--state=all",), {1, 2, 3}),
        (("--state=expired",), {3}),
        (("--user=ada",), {1}),
        (("--anonymous",), {2}),
        (("--attribute=n=2",), {2}),
        (("--attribute=n", "--attribute=n=1"), {1}),
        (("--idle-over=10m",), {2}),
        (("--idle-under=600s",), {1}),
        (("--idle-over=1h30m",), {2}),
        (("--idle-under=600",), {1}),
        (("--idle-under=1w",), {1, 2}),
        (("--limit=0",), set()),
        ((f"--limit={2**63}",), {1, 2}),
    ],
)
def test_filters_choose(user, clock, arguments, numbers):
    recent = {"_dirigible": {"created": clock.now - 9000, "accessed": clock.now - 60}}
    idle = {"_dirigible": {"created": clock.now - 9000, "accessed": clock.now - 6000}}
    store(recent | {"_auth_user_id": str(user.pk)}, n=1)
    store(idle, n=2)
    over = store(n=3)
    Session.objects.filter(pk=over.session_key).update(
        expire_date=clock.django_now() - timedelta(1)
    )
    assert {record["attributes"]["n"] for record in shown(*arguments)} == numbers


def test_one_session_is_shown_whatever_its_state(clock):
    session = store(n=1)
    store(n=2)
    clock.tick(days=15)
    handle = handles.handle(session.session_key)
    assert [record["state"] for record in shown(f"--session={handle}")] == ["expired"]
    assert shown(f"--session={handle}", "--state=active") == []
    assert shown(f"--session={session.session_key}")[0]["handle"] == handle


def test_a_summary_counts_all_states(clock):
    store(n=1)
    clock.tick(days=15)
    store(n=2)
    summary = json.loads(dump("--summary", "--format=json"))
    assert (summary["active"], summary["expired"]) == (1, 1)
    table = dump("--summary")
    assert "expired                         1" in table
    assert "\n  n                             2" in table


def test_options_may_be_given_in_code():
    store(n=1)
    store(m=1)
    assert len(shown(attribute="n", limit=5)) == 1
    assert len(shown(attribute=["n"])) == 1
    with pytest.raises(CommandError, match="--limit inf is not a number"):
        shown(limit=float("inf"))


@pytest.mark.parametrize("limit", [(), ("--limit=9",), ("--limit=2",)])
@pytest.mark.parametrize(
    ("order", "numbers"), [("accessed", [3, 1, 2, 4]), ("created", [2, 1, 3, 4])]
)
def test_the_most_recent_come_first(clock, order, numbers, limit):
    for n, created, accessed in ((1, 200, 20), (2, 100, 30), (3, 300, 10)):
        times = {"created": clock.now - created, "accessed": clock.now - accessed}
        store({"_dirigible": times}, n=n)
    store(n=4)
    records = shown(f"--sort={order}", *limit)
    assert [record["attributes"]["n"] for record in records] == numbers[
        : 2 if "2" in str(limit) else 9
    ]


def test_the_largest_come_first():
    for n in (1, 3, 2):
        store(n=n, noise=os.urandom(n * 100).hex())
    assert [record["attributes"]["n"] for record in shown("--sort=size")] == [3, 2, 1]


def test_another_engine_may_be_read(tmp_path, use_engine):
    file_store = use_engine("file")
    use_engine("db")
    session = file_store()
    session["n"] = 1
    session.create()
    assert shown() == []
    assert len(shown("--engine=django.contrib.sessions.backends.file")) == 1


# What goes wrong.


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format=xml",),
        ("--state=live",),
        ("--user=ada", "--anonymous"),
        ("--idle-over=5x",),
        ("--idle-under=soon",),
        ("--idle-over=2h", "--idle-under=1h"),
        ("--limit=-1",),
        ("--limit=few",),
        ("--sort=user",),
        ("--attribute==3",),
        ("--attribute=_auth_user_id",),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(arguments):
    with pytest.raises(CommandError) as raised:
        dump(*arguments)
    assert raised.value.returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--engine=django.contrib.sessions.backends.signed_cookies",),
        ("--engine=django.contrib.sessions.backends.cache",),
        ("--engine=no.such.engine",),
        ("--session=ffffffff",),
        ("--session=ffffffff", "--summary"),
        ("--session=abc",),
        ("--user=eve",),
        ("--output=/no/such/folder/file",),
        ("--output=/dev/null",),
        ("--output=.",),
    ],
)
def test_what_cannot_be_read_or_written_ends_with_exit_code_1_and_one_line(arguments):
    store(n=1)
    with pytest.raises(CommandError) as raised:
        dump(*arguments)
    assert raised.value.returncode == 1
    assert len(str(raised.value).splitlines()) == 1


def test_an_ambiguous_handle_lists_what_matches(monkeypatch):
    monkeypatch.setattr(handles, "digest", lambda key: f"abcd{'1' if key[0] == 'a' else '2':0<36}")
    for key in ("a" * 32, "b" * 32):
        Session.objects.create(
            session_key=key,
            session_data=SessionStore().encode({}),
            expire_date=timezone.now() + timedelta(1),
        )
    with pytest.raises(CommandError, match="abcd10000000, abcd20000000"):
        dump("--session=abcd")


# Notes and files.


def test_notes_go_to_stderr():
    store(n=1)
    Session.objects.create(
        session_key="x" * 32, session_data="x", expire_date=timezone.now() + timedelta(1)
    )
    errors = io.StringIO()
    dump("--limit=2", stderr=errors)
    assert errors.getvalue().splitlines() == [
        "2 sessions",
        "1 unreadable: signature does not match: signed with another key, or altered",
    ]
    silent = io.StringIO()
    dump("--verbosity=0", stderr=silent)
    assert silent.getvalue() == ""


def test_the_output_file_is_readable_by_its_owner_only(tmp_path):
    store(n=1)
    path = tmp_path / "dump.jsonl"
    path.write_text("old")
    path.chmod(0o666)
    errors = io.StringIO()
    assert dump("--format=jsonl", f"--output={path}", stderr=errors) == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["attributes"] == {"n": 1}
    assert os.listdir(tmp_path) == ["dump.jsonl"]
    assert errors.getvalue() == "1 session\n"


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_and_the_summary_can_be_written_to_a_file(tmp_path, name):
    store(n=1)
    path = tmp_path / "dump"
    dump(f"--format={name}", f"--output={path}", stdout=Terminal())
    whole = path.read_text()
    assert "\x1b" not in whole
    assert whole.splitlines() == dump(f"--format={name}").splitlines()
    dump(f"--format={name}", f"--output={path}", "--summary")
    assert path.read_text() != whole


def test_an_output_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    store(n=1)
    path = tmp_path / "dump"
    write_half = output.written_file(str(path))
    write_half.__enter__()("half")
    write_half.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert os.listdir(tmp_path) == []

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CommandError, match="No space left on device"):
        dump(f"--output={path}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("counted", [(), ("--summary",)])
def test_a_progress_bar_shows_on_a_terminal_only(tmp_path, counted):
    store(n=1)
    errors = Terminal()
    dump("--format=jsonl", f"--output={tmp_path / 'dump'}", *counted, stderr=errors)
    assert "Reading sessions" in errors.getvalue()
    watched = Terminal()
    assert "Reading" not in dump("--format=jsonl", *counted, stderr=watched, stdout=Terminal())
    assert "Reading" not in watched.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_no_progress_bar_is_drawn_into_a_pager(name):
    store(n=1)
    errors = Terminal()
    dump(f"--format={name}", stderr=errors)
    assert "Reading" not in errors.getvalue()
    assert "\x1b" not in errors.getvalue()


def test_a_progress_bar_fills(monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0)

    def drawn(total: int | None) -> list[str]:
        out = io.StringIO()
        watched = progress.with_progress("Reading", "abcd", total, OutputWrapper(out))
        assert list(watched) == list("abcd")
        return out.getvalue().split("\r\x1b[2K")

    assert drawn(4)[2] == f"Reading [{'#' * 15}{'-' * 15}] 2 of 4"
    assert drawn(1)[2].endswith("2 of 2")
    assert drawn(None)[2] == "Reading 2"
    assert drawn(4)[-1] == ""


def test_a_progress_bar_is_drawn_in_one_place_and_goes_away(tmp_path):
    store(n=1)
    errors = Terminal()
    dump("--format=jsonl", f"--output={tmp_path / 'dump'}", stderr=errors)
    drawn = errors.getvalue()
    assert "Reading sessions" in drawn
    # Each time it goes back to the beginning of its line, and once it clears it.
    assert drawn.count("\n") <= 3
    assert "\x1b[2K" in drawn


def test_without_colour_a_terminal_is_still_one(monkeypatch):
    store(n=1, text="x" * 500)
    monkeypatch.setenv("COLUMNS", "90")
    errors, out = Terminal(), Terminal()
    dump("--no-color", stderr=errors, stdout=out)
    assert "Reading" not in errors.getvalue()
    assert "\x1b" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 90


@pytest.mark.parametrize("reveal", [True, False])
def test_what_is_revealed_is_not_cut(monkeypatch, reveal):
    store(api_token="secret" * 100)
    monkeypatch.setenv("COLUMNS", "80")
    out = dump("--no-color", *(["--reveal"] if reveal else []), stdout=Terminal())
    assert ("secret" * 100 in out) is reveal
    assert (max(map(cell_len, out.splitlines())) <= 80) is not reveal


@pytest.mark.parametrize("path", ["/dev/no-such", "/proc/self/fd/no-such", "/dev/null"])
def test_no_file_is_put_among_devices(path):
    with pytest.raises(CommandError, match="--output"):
        dump(f"--output={path}")
    assert path == "/dev/null" or not os.path.lexists(path)


@pytest.mark.parametrize("is_shm", [False, True])
def test_a_file_is_written_wherever_there_are_files(tmp_path, is_shm):
    if is_shm and not SHM.is_dir():
        pytest.skip("there is no /dev/shm here")
    store(n=1)
    with tempfile.TemporaryDirectory(dir=SHM if is_shm else tmp_path) as place:
        # Longer, it would have no room for an addition.
        path = Path(place) / ("n" * 255)
        dump("--format=jsonl", f"--output={path}")
        assert json.loads(path.read_text())["attributes"] == {"n": 1}


def test_an_interrupt_ends_the_command_with_one_line(monkeypatch, capsys, tmp_path):
    def interrupted(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Inspector, "records", interrupted)
    arguments = ["manage.py", "sessions_dump", f"--output={tmp_path / 'dump'}"]
    with pytest.raises(SystemExit) as ended:
        Command().run_from_argv(arguments)
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        dump()


def test_what_was_not_read_is_closed_when_the_walk_is_broken_off(monkeypatch):
    closed = []

    def records(*args: Any, **options: Any) -> Any:
        try:
            yield from real(*args, **options)
        finally:
            closed.append(True)

    real = Inspector.records
    monkeypatch.setattr(Inspector, "records", records)
    for n in range(3):
        store(n=n)
    with pytest.raises(CommandError, match="No space left"):
        dump("--format=jsonl", stdout=Failing(OSError(28, "No space left on device")))
    assert closed == [True]


class Failing(io.StringIO):
    """A stream on which nothing can be written, and a file of the system if it has a number."""

    def __init__(self, error: OSError, descriptor: int | None = None) -> None:
        super().__init__()
        self.error = error
        self.descriptor = descriptor

    def write(self, text: str) -> int:
        raise self.error

    def fileno(self) -> int:
        return super().fileno() if self.descriptor is None else self.descriptor


@pytest.mark.parametrize("is_file", [True, False])
def test_a_full_disk_behind_stdout_is_told_in_one_line(monkeypatch, tmp_path, is_file):
    store(n=1)
    with open(tmp_path / "full", "w") as file:
        full = Failing(OSError(28, "No space left on device"), file.fileno() if is_file else None)
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(CommandError, match="stdout can't be written: No space left"):
            dump(stdout=full)
        file.write("dropped")
    assert ((tmp_path / "full").read_text() == "") is is_file


@pytest.mark.parametrize("name", FORMATS)
def test_a_stream_that_breaks_off_is_no_reason_to_touch_the_callers_stdout(capfd, name):
    store(n=1)
    dump(f"--format={name}", stdout=Failing(BrokenPipeError()))
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "w")
    call_command("sessions_dump", f"--format={name}", stdout=pipe, stderr=io.StringIO())
    with pytest.raises(BrokenPipeError):
        pipe.close()
    print("after")  # noqa: T201
    assert capfd.readouterr().out == "after\n"


def test_a_stdout_that_is_closed_from_the_start_is_read_by_nobody(monkeypatch):
    store(n=1)
    monkeypatch.setattr(sys, "stdout", None)
    errors = io.StringIO()
    call_command("sessions_dump", stderr=errors)
    assert errors.getvalue() == ""


@pytest.mark.parametrize("stream", [None, Failing(BrokenPipeError())])
def test_a_stderr_that_nobody_reads_is_no_reason_to_fail(monkeypatch, stream):
    store(n=1)
    monkeypatch.setattr(sys, "stderr", stream)
    out = io.StringIO()
    call_command("sessions_dump", stdout=out)
    assert "n=1" in out.getvalue()


class Bare:
    """A stream that can be written to and nothing else, as Django's own commands ask."""

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> None:
        self.written += text

    def getvalue(self) -> str:
        return self.written


@pytest.mark.parametrize("colour", ["--force-color", "--no-color"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_stream_need_only_be_written_to(name, colour):
    store(n=1)
    assert dump(f"--format={name}", colour, stdout=Bare()) == dump(f"--format={name}", colour)
    response = HttpResponse(content_type="text/plain")
    call_command("sessions_dump", f"--format={name}", colour, stdout=response, stderr=Bare())
    assert response.content.decode() == dump(f"--format={name}", colour)


def test_the_stdout_of_another_command_gets_no_lines_of_its_own():
    store(n=1)
    store(n=2)
    assert dump("--format=json", stdout=OutputWrapper(io.StringIO())) == dump("--format=json")


def test_a_closed_pipe_ends_it_quietly(tmp_path):
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    (tmp_path / "piped_settings.py").write_text(
        f"from tests.settings import *\nDATABASES['default'] = {database!r}\n"
    )
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "piped_settings",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }

    def manage(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", f"import django; django.setup(); {script}"]
        return subprocess.run(
            command, env=environment, text=True, stderr=subprocess.PIPE, **options
        )

    made = manage(
        "from django.core.management import call_command as call; call('migrate', verbosity=0); "
        "from django.contrib.sessions.backends.db import SessionStore as S; "
        "[s.update({'n': 'x' * 50000}) or s.create() for s in [S() for _ in range(20)]]"
    )
    assert made.returncode == 0, made.stderr
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (
        ["sessions_dump", "--format=jsonl"],
        ["sessions_dump", "--force-color"],
    ):
        done = manage(
            "from django.core.management import execute_from_command_line as run; "
            f"run(['manage.py', *{arguments}])",
            stdout=writing,
        )
        assert (done.returncode, done.stderr) == (0, ""), arguments
    os.close(writing)


# On a terminal.


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("columns", ["0", "", "wide"])
def test_a_width_that_is_none_is_no_limit_and_hides_nothing(monkeypatch, columns, stream):
    store(n=1)
    monkeypatch.setenv("COLUMNS", columns)
    _, line = dump("--force-color", stdout=stream()).splitlines()
    assert "n=1" in line


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_the_table_fits_the_width_of_the_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    store(text="漢字" * 100)
    store(n=1, long="x" * 1000)
    for line in dump().splitlines():
        assert cell_len(line) <= width


def test_a_line_of_wide_characters_ends_with_an_ellipsis(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    store(text="漢字" * 100)
    line = dump().splitlines()[1]
    assert line.endswith("…")
    assert cell_len(line) in (99, 100)


@pytest.mark.parametrize(("columns", "is_cut"), [("", False), ("160", False), ("80", True)])
def test_usernames_are_cut_only_where_there_is_no_room(monkeypatch, user, columns, is_cut):
    user.username = "ada.lovelace@analytical-engine.example"
    user.save()
    store({"_auth_user_id": str(user.pk)}, n=1)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    titles, line = dump().splitlines()
    assert (user.username in line) is not is_cut
    assert ("…" in line) is is_cut
    assert line.index("n=1") == titles.index("ATTRIBUTES")


def test_no_colour_is_shown_where_the_environment_says_so(monkeypatch):
    store(n=1)
    monkeypatch.setattr("dirigible_session.management.base.supports_color", lambda: True)
    assert "\x1b[" in dump(stdout=Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in dump(stdout=Terminal())


def test_a_summary_on_a_terminal_draws_when_sessions_were_created_and_accessed(monkeypatch, clock):
    for minutes in (0, 0, 0, 0, 5):
        moment = clock.now - minutes * 60
        store({"_dirigible": {"created": clock.now - 86400, "accessed": moment}})
    store(n=1)
    monkeypatch.setenv("COLUMNS", "60")
    drawn = dump("--summary", stdout=Terminal())
    created, accessed = drawn.split("created (UTC)")[1].split("last accessed (UTC)")
    assert created.count("█") == 60 - len("2026-01-01 00:00") - 5
    assert accessed.splitlines()[1].endswith(" 1")
    assert accessed.splitlines()[-2].endswith(" 4")
    assert "unknown" in accessed.splitlines()[-1]
    assert max(map(cell_len, drawn.splitlines())) <= 60
    assert "█" not in dump("--summary")

    class Ascii(Terminal):
        encoding = "ascii"

    assert "####" in dump("--summary", stdout=Ascii())


def test_a_terminal_gets_colours_and_a_pipe_none():
    store(n=1)
    assert "\x1b[" in dump("--force-color")
    assert "\x1b" not in dump()
    assert "\x1b" not in dump("--no-color", stdout=Terminal())


def test_times_are_told_as_people_do(clock):
    store({"_dirigible": {"created": clock.now - 7200, "accessed": clock.now - 180}}, n=1)
    line = dump().splitlines()[1]
    for told in ("2 h ago", "3 min ago", "in 14 d"):
        assert told in line


def test_a_session_that_never_expires_says_so(clock):
    times = {"created": clock.now, "accessed": clock.now, "interval": 0}
    store({"_dirigible": times, "_session_expiry": 400 * 24 * 60 * 60})
    assert "never" in dump()


def test_a_user_that_is_no_more_is_shown_by_number(user):
    store({"_auth_user_id": "999"})
    store({"_auth_user_id": str(user.pk)})
    table = dump()
    assert " #999 " in table
    assert " ada " in table


def test_what_the_terminal_cannot_encode_is_escaped():
    class Latin(io.TextIOWrapper):
        def getvalue(self) -> str:
            self.flush()
            return self.buffer.getvalue().decode("latin-1")

    store(text="漢ä")
    assert r'text="\u6f22ä"' in dump(stdout=Latin(io.BytesIO(), encoding="latin-1"))


# Hostile content.


@pytest.fixture
def hostile_sessions() -> None:
    for attributes in ATTRIBUTES.values():
        store(attributes)
    salt = SessionStore().key_salt
    rows = {
        "garbage0": "garbage",
        "otherkey": signing.dumps({"n": 1}, key="other", salt=salt),
        "pickled0": signing.TimestampSigner(salt=salt).sign("gASVBQAAAAAAAAB9lC4"),
        "escaped0": "\x1b[2J\n\u202e",
    }
    for key, text in rows.items():
        Session.objects.create(
            session_key=key * 4, session_data=text, expire_date=timezone.now() + timedelta(1)
        )


@pytest.mark.parametrize("width", ["60", "200", ""])
def test_hostile_content_keeps_to_its_line_of_the_table(hostile_sessions, monkeypatch, width):
    if width:
        monkeypatch.setenv("COLUMNS", width)
    table = dump()
    lines = table.splitlines()
    assert table.count("\n") == len(lines) == 1 + len(ATTRIBUTES) + 4
    assert all(line.isprintable() for line in lines)
    assert sum(" unreadable " in line for line in lines) == 4


def test_hostile_content_is_no_markup_on_a_terminal(hostile_sessions):
    table = dump("--force-color")
    assert "[bold]x[/bold]" in table
    styles = {part.partition("m")[0] for part in table.split("\x1b[")[1:]}
    assert styles <= {"0", "1", "2", "31", "32"}


def test_hostile_content_leaves_json_and_csv_valid(hostile_sessions):
    records = shown()
    assert len(records) == len(ATTRIBUTES) + 4
    assert sum(record["state"] == "unreadable" for record in records) == 4
    attributes = [record["attributes"] for record in records]
    assert all(expected in attributes for expected in ATTRIBUTES.values())
    csv.field_size_limit(10_000_000)
    rows = list(csv.DictReader(io.StringIO(dump("--format=csv"), newline="")))
    assert [json.loads(row["attributes"]) for row in rows] == attributes
    assert dump("--summary").isascii()
    assert all(line.isprintable() for line in dump("--summary").splitlines())


@pytest.mark.parametrize("name", FORMATS)
def test_a_hostile_user_keeps_to_its_line_in_each_format(tmp_path, user, name):
    user.username = "\x1b[2Jforged\n\u202eline"
    user.save()
    store({"_auth_user_id": str(user.pk)})
    store({"_auth_user_id": "\ud800\x1b[2J\n=1"})
    path = tmp_path / "dump"
    dump(f"--format={name}", f"--output={path}")
    lines = path.read_text().splitlines()
    assert len(lines) == {"table": 3, "json": 4, "jsonl": 2, "csv": 3}[name]
    assert all(line.isprintable() for line in lines)


# Secrets.


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_shows_a_key_or_a_secret_unless_told_to(name, tmp_path, caplog, capfd):
    secrets = {"api_token": "hunter2", "deep": [{"password": {"a": "hunter3"}}]}
    session = store(secrets)
    path, errors = tmp_path / "dump", io.StringIO()
    dump(f"--format={name}", f"--output={path}", stderr=errors)
    said = [dump(f"--format={name}", stderr=errors), path.read_text()]
    said += [dump(f"--format={name}", "--summary", stderr=errors)]
    for wrong in (session.session_key[:-1], f"{session.session_key}x"):
        with pytest.raises(CommandError) as raised:
            dump(f"--session={wrong}")
        said.append(str(raised.value))
    said += [errors.getvalue(), caplog.text, *capfd.readouterr()]
    everything = "".join(said)
    for secret in (session.session_key, session.session_key[:16], "hunter2", "hunter3"):
        assert secret not in everything
    revealed = dump(f"--format={name}", "--reveal")
    for secret in (session.session_key, "hunter2", "hunter3"):
        assert secret in revealed


def test_a_key_is_never_the_name_of_an_unreadable_session(caplog):
    Session.objects.create(
        session_key="k" * 32, session_data="x", expire_date=timezone.now() + timedelta(1)
    )
    errors = io.StringIO()
    assert "kkkk" not in dump(stderr=errors) + errors.getvalue() + caplog.text
    assert [record["session_key"] for record in shown("--reveal")] == ["k" * 32]


def test_an_engine_that_keeps_no_key_has_none_to_reveal(use_engine, monkeypatch):
    from ..inspection import declared_engine

    use_engine(declared_engine.__name__)
    monkeypatch.setattr(declared_engine, "shelf", shelf := declared_engine.Shelf())
    shelf.put("ab" * 20, {"n": 1})
    assert shown("--reveal", "--state=all")[0]["session_key"] is None


def test_what_it_writes_is_no_path_of_the_callers(tmp_path):
    store(n=1)
    path = Path(tmp_path, "dump")
    path.symlink_to(tmp_path / "elsewhere")
    dump("--format=json", f"--output={path}")
    assert not path.is_symlink()
    assert not (tmp_path / "elsewhere").exists()
