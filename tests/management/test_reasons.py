"""One line of reason from each command, whatever is wrong with a site."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import CommandError, call_command
from django.db import connection

from dirigible_session.exceptions import SessionConflict, StoreUnavailable
from dirigible_session.models import MigratedSession

from ..inspection import declared_engine

pytestmark = pytest.mark.django_db

STOCK = "django.contrib.sessions.backends."
OWN = "dirigible_session.backends.db"
DECLARED = declared_engine.__name__


def reason(command: str, *arguments: str) -> str:
    """Return the one line with which a command ends."""
    with pytest.raises(CommandError) as raised:
        call_command(command, *arguments, stdout=io.StringIO(), stderr=io.StringIO())
    assert raised.value.returncode == 1
    (line,) = str(raised.value).splitlines()
    return line


@pytest.fixture
def manage(tmp_path: Path) -> Any:
    """Give a function that runs a command in a process of its own, with settings of its own."""

    def manage(*arguments: str, settings: str = "", **options: Any) -> Any:
        (tmp_path / "own_settings.py").write_text(
            "from tests.settings import *\n"
            f"DATABASES['default'] = {{'ENGINE': 'django.db.backends.sqlite3',"
            f" 'NAME': {str(tmp_path / 'db.sqlite3')!r}}}\n{settings}"
        )
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "own_settings",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        }
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        command = [sys.executable, "-m", "django", *arguments]
        return subprocess.run(command, env=environment, text=True, **options)

    return manage


# Engines.


@pytest.mark.parametrize("path", [".foo", ".", "..x", "", "no.such", "os"])
def test_what_is_no_path_of_an_engine(path):
    assert "is not a session engine" in reason("sessions_dump", f"--engine={path}")


@pytest.mark.parametrize(
    "source",
    [
        "def f(:",
        "raise ImportError('line one\\nline two')",
        "from django.core.exceptions import ImproperlyConfigured as E; raise E('x')",
        "raise ZeroDivisionError",
    ],
)
@pytest.mark.parametrize(
    ("command", "option"), [("sessions_dump", "--engine"), ("sessions_migrate", "--from")]
)
def test_an_engine_that_can_not_be_imported(
    tmp_path, monkeypatch, settings, command, option, source
):
    settings.SESSION_ENGINE = OWN
    (tmp_path / "failing_engine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert "is not a session engine" in reason(command, f"{option}=failing_engine")


@pytest.mark.parametrize("command", ["sessions_dump", "sessions_invalidate"])
@pytest.mark.parametrize("engine", ["cached_db", "cache"])
def test_a_cache_that_is_not_configured(settings, command, engine):
    settings.SESSION_ENGINE = STOCK + engine
    settings.SESSION_CACHE_ALIAS = "nope"
    assert "The connection 'nope' doesn't exist" in reason(
        command, *(["--all"] if "invalidate" in command else [])
    )


@pytest.mark.parametrize(
    ("backend", "client"),
    [
        ("django.core.cache.backends.redis.RedisCache", "redis"),
        ("django.core.cache.backends.memcached.PyMemcacheCache", "pymemcache"),
    ],
)
def test_a_cache_whose_client_is_not_installed(settings, monkeypatch, backend, client):
    settings.SESSION_ENGINE = f"{STOCK}cache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1"}}
    monkeypatch.setitem(sys.modules, client, None)
    assert client in reason("sessions_dump")


def test_a_serializer_that_is_none(settings):
    settings.SESSION_SERIALIZER = "no.such.Serializer"
    assert "can't be opened" in reason("sessions_dump")


def test_the_stock_engine_without_its_app(manage):
    done = manage("sessions_dump", settings="INSTALLED_APPS.remove('django.contrib.sessions')")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"CommandError: The store of {STOCK}db can't be opened: ")


# Stores.


@pytest.mark.parametrize(
    "error", [StoreUnavailable("Redis can't be reached."), SessionConflict(50), OSError(5, "I/O")]
)
def test_a_store_that_does_not_answer(settings, monkeypatch, error):
    monkeypatch.setattr(declared_engine, "shelf", declared_engine.Shelf(failure=error))
    settings.SESSION_ENGINE = DECLARED
    said = f"The store of {DECLARED} can't be read: {error}"
    assert reason("sessions_dump") == said
    assert reason("sessions_dump", "--summary") == said
    assert reason("sessions_invalidate", "--all", "--no-input") == said
    settings.SESSION_ENGINE = OWN
    assert reason("sessions_migrate", f"--from={DECLARED}") == said


@pytest.mark.parametrize("error", [StoreUnavailable("Redis is full."), SessionConflict(50)])
def test_a_store_that_ends_nothing(settings, monkeypatch, error):
    def fail(digests: list[str]) -> set[str]:
        raise error

    monkeypatch.setattr(declared_engine, "shelf", shelf := declared_engine.Shelf())
    monkeypatch.setattr(declared_engine.SessionStore, "end_stored", fail)
    settings.SESSION_ENGINE = DECLARED
    shelf.put("ab" * 20, {})
    assert str(error) in reason("sessions_invalidate", "--all", "--no-input")


@pytest.mark.slow
def test_a_redis_that_is_not_there(settings):
    pytest.importorskip("redis")
    settings.SESSION_ENGINE = "dirigible_session.backends.redis"
    settings.DIRIGIBLE_SESSION_REDIS_URL = "redis://127.0.0.1:1/0"
    assert "can't be reached" in reason("sessions_dump")
    assert "can't be reached" in reason("sessions_invalidate", "--all", "--no-input")


# Who reads no further.


@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions_invalidate", "--all", "--dry-run"),
        ("sessions_invalidate", "--all", "--no-input"),
        ("sessions_migrate", "--skip-checks", f"--from={STOCK}file"),
    ],
)
def test_a_closed_pipe_is_no_reason_to_complain(manage, arguments):
    own = f"SESSION_ENGINE = {OWN!r}"
    assert manage("migrate", "--skip-checks", settings=own).returncode == 0
    reading, writing = os.pipe()
    os.close(reading)
    done = manage(*arguments, settings=own, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


# Taking sessions over.


def test_a_table_to_remember_copies_in_that_is_not_there(settings):
    settings.SESSION_ENGINE = OWN
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {MigratedSession._meta.db_table}")
    assert "The sessions can't be copied: " in reason("sessions_migrate", f"--from={STOCK}db")


def test_a_target_that_takes_no_writes(settings, monkeypatch):
    def fail(*args: Any) -> None:
        raise StoreUnavailable("Redis has no memory left.")

    settings.SESSION_ENGINE = OWN
    monkeypatch.setattr("dirigible_session.transfer.Transfer.run", fail)
    said = reason("sessions_migrate", f"--from={STOCK}db")
    assert said == "The sessions can't be copied: Redis has no memory left."


# Settings.


@pytest.mark.parametrize("value", ["3600", "", timedelta(hours=1), True, float("nan")])
@pytest.mark.parametrize("setting", ["DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT", "SESSION_COOKIE_AGE"])
def test_a_time_that_is_no_number_is_not_the_fault_of_the_sessions(settings, setting, value):
    session = SessionStore()
    session["_dirigible"] = {"created": time.time(), "accessed": time.time()}
    session.create()
    setattr(settings, setting, value)
    kind = type(value).__name__
    said = f"{setting} is not a number of seconds that a date can hold: its type is {kind}."
    assert reason("sessions_dump") == said
    assert reason("sessions_dump", "--summary") == said
    assert reason("sessions_invalidate", "--state=expired", "--no-input") == said
    assert session.exists(session.session_key)


# What tells secrets.


class NoFilter:
    pass


class FailingFilter:
    def cleanse_setting(self, key: str, value: Any) -> Any:
        raise ZeroDivisionError(value)


def test_a_filter_that_fails(settings):
    session = SessionStore()
    session["n"] = "hunter2"
    session.create()
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{__name__}.FailingFilter"
    said = (
        "FailingFilter can't tell what is a secret: its cleanse_setting() raised ZeroDivisionError."
    )
    assert reason("sessions_dump") == f"The exception reporter filter {said}"


@pytest.mark.parametrize("path", ["no.such.Filter", "nodots", "os.path", f"{__name__}.NoFilter"])
def test_a_filter_that_is_none(settings, path):
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = path
    assert "filter" in reason("sessions_dump").lower()
