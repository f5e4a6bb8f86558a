"""System checks of SESSION_ENGINE."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from django.core.management import call_command

from dirigible_session.checks import engines as checks

from .messages import ids, messages

OURS = "dirigible_session.backends.db"
BACKENDS = "django.contrib.sessions.backends."
STOCK = f"{BACKENDS}db"
PICKLE = "project.PickleSerializer"
LOCMEM = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
DUMMY = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
REDIS = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "x"}}


@pytest.mark.parametrize("engine", ["no.such.engine", "json", "django.contrib.auth", "", None])
def test_what_is_not_an_engine_is_an_error(settings: Any, engine: Any) -> None:
    settings.SESSION_ENGINE = engine
    (error,) = messages()
    assert error.id == "dirigible_session.E015"
    assert repr(engine) in error.msg
    assert OURS in error.hint


def test_a_session_store_that_is_not_one_of_djangos_is_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ModuleType("strange_engine")
    engine.SessionStore = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "strange_engine", engine)
    settings.SESSION_ENGINE = "strange_engine"
    assert ids() == ["E015"]
    assert "SessionBase" in messages()[0].msg


def test_another_serializer_than_json_is_reported(settings: Any) -> None:
    settings.SESSION_ENGINE = OURS
    settings.SESSION_SERIALIZER = PICKLE
    (warning,) = checks.check_serializer()
    assert warning.id == "dirigible_session.W011"
    assert PICKLE in warning.msg
    assert warning.hint


def test_saving_at_every_request_is_reported(settings: Any) -> None:
    settings.SESSION_ENGINE = OURS
    settings.SESSION_SAVE_EVERY_REQUEST = True
    assert ids() == ["W012"]


@pytest.mark.parametrize("engine", [STOCK, "no.such.engine"])
def test_another_engine_may_have_both(settings: Any, engine: str) -> None:
    settings.SESSION_ENGINE = engine
    settings.SESSION_SERIALIZER = PICKLE
    settings.SESSION_SAVE_EVERY_REQUEST = True
    assert list(checks.check_serializer()) == []
    assert list(checks.check_save_every_request()) == []


def test_nothing_is_wrong_with_the_defaults(settings: Any) -> None:
    settings.SESSION_ENGINE = OURS
    assert ids() == []


@pytest.mark.parametrize(
    ("name", "value"), [("MAX_PER_USER", 2), ("MAX_PER_USER", "a.b"), ("END_WITH_USER", True)]
)
def test_the_sessions_of_a_user_need_an_engine_of_ours(
    settings: Any, name: str, value: Any
) -> None:
    setattr(settings, f"DIRIGIBLE_SESSION_{name}", value)
    (error,) = checks.check_needs_own_engine()
    assert error.id == "dirigible_session.E030"
    assert f"DIRIGIBLE_SESSION_{name}" in error.msg
    assert STOCK in error.msg
    settings.SESSION_ENGINE = OURS
    assert list(checks.check_needs_own_engine()) == []


@pytest.mark.parametrize(
    ("engine", "caches", "expected"),
    [
        ("db", LOCMEM, []),
        ("file", LOCMEM, []),
        ("signed_cookies", LOCMEM, ["W008"]),
        ("cache", LOCMEM, ["W010"]),
        ("cache", DUMMY, ["E009"]),
        ("cache", REDIS, []),
        ("cached_db", LOCMEM, ["W010"]),
        ("cached_db", DUMMY, []),
        ("cached_db", REDIS, []),
    ],
)
def test_what_the_engine_can_keep(
    settings: Any, engine: str, caches: Any, expected: list[str]
) -> None:
    settings.SESSION_ENGINE = BACKENDS + engine
    settings.CACHES = caches
    assert ids() == expected


@pytest.mark.parametrize("engine", [OURS, STOCK])
def test_an_engine_whose_app_is_not_installed_is_an_error(engine: str) -> None:
    code = (
        "from django.conf import settings\n"
        f"settings.configure(SESSION_ENGINE={engine!r}, INSTALLED_APPS=[])\n"
        "import django; django.setup()\n"
        "from dirigible_session.checks.engines import check_model\n"
        "(error,) = check_model()\n"
        "assert error.id == 'dirigible_session.E014', error\n"
        "assert 'INSTALLED_APPS' in error.hint\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestMigrations:
    """The table of the engine has to be migrated."""

    pytestmark = pytest.mark.django_db(transaction=True)

    @pytest.mark.parametrize(("engine", "app"), [(OURS, "dirigible_session"), (STOCK, "sessions")])
    def test_that_are_not_applied_are_a_warning(self, settings: Any, engine: str, app: str) -> None:
        settings.SESSION_ENGINE = engine
        assert ids(databases=["default"]) == []
        try:
            call_command("migrate", app, "zero", verbosity=0)
            assert ids() == []
            (warning,) = messages(databases=["default"])
        finally:
            call_command("migrate", app, verbosity=0)
        assert warning.id == "dirigible_session.W016"
        assert "manage.py migrate" in warning.hint

    @pytest.mark.parametrize("engine", [f"{BACKENDS}file", "no.such.engine"])
    def test_are_not_needed_without_a_table(self, settings: Any, engine: str) -> None:
        settings.SESSION_ENGINE = engine
        assert list(checks.check_migrations(databases=["default"])) == []
