"""The system checks of the Redis engine."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from django.core import checks

from dirigible_session.backends import redis
from dirigible_session.checks import redis as redis_checks

ENGINE = "dirigible_session.backends.redis"


def found() -> list[str]:
    messages = [
        *redis_checks.check_redis_installed(),
        *redis_checks.check_redis_url(),
        *redis_checks.check_redis_client(),
    ]
    assert all(message.hint for message in messages)
    return [str(message.id).rpartition(".")[2] for message in messages]


def test_they_are_registered() -> None:
    registered = checks.registry.registry.get_checks()
    assert redis_checks.check_redis_installed in registered
    assert redis_checks.check_redis_url in registered
    assert redis_checks.check_redis_client in registered


def test_another_engine_needs_nothing() -> None:
    assert found() == []


def test_a_missing_url_is_an_error(settings: Any) -> None:
    settings.SESSION_ENGINE = ENGINE
    assert found() == ["E021"]


def test_an_engine_derived_from_it_needs_the_same(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ModuleType("derived_engine")
    engine.SessionStore = type("SessionStore", (redis.SessionStore,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "derived_engine", engine)
    settings.SESSION_ENGINE = "derived_engine"
    assert found() == ["E021"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis+cluster://a:1,b:2",
        "unix:///run/redis.sock?db=1",
        "rediss://u:p@host:1/2?socket_timeout=0.5",
        "redis+sentinel://a,b:1/main/2",
        "valkeys://host",
    ],
)
def test_a_url_that_names_a_server_is_fine(settings: Any, url: str) -> None:
    settings.SESSION_ENGINE = ENGINE
    settings.DIRIGIBLE_SESSION_REDIS_URL = url
    assert found() == []


@pytest.mark.parametrize(
    "url",
    [
        *("", 6379, "localhost:6379", "http://localhost", "redis://", "redis+sentinel://a"),
        *("redis://host?health_check_interval=2.5", "redis://host?ssl_certfile=x"),
    ],
)
def test_a_wrong_url_is_an_error_whatever_the_engine(settings: Any, url: object) -> None:
    settings.DIRIGIBLE_SESSION_REDIS_URL = url
    assert found() == ["E022"]


def test_what_redis_py_itself_refuses_is_told(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, **options: Any) -> None:
        raise TypeError("got an unexpected keyword argument 'client_name'")

    monkeypatch.setattr("redis.connection.Connection.__init__", refuse)
    settings.DIRIGIBLE_SESSION_REDIS_URL = "redis://localhost?client_name=a"
    (message,) = redis_checks.check_redis_url()
    assert message.id == "dirigible_session.E022"
    assert "client_name" in message.msg


def test_a_password_in_two_places_is_an_error_that_does_not_show_it(settings: Any) -> None:
    settings.DIRIGIBLE_SESSION_REDIS_URL = "redis://:hidden@localhost"
    settings.DIRIGIBLE_SESSION_REDIS_PASSWORD = "hidden"
    (message,) = redis_checks.check_redis_url()
    assert message.id == "dirigible_session.E022"
    assert "DIRIGIBLE_SESSION_REDIS_PASSWORD" in message.msg
    assert "hidden" not in str(message)


def test_a_function_of_ones_own_needs_no_url(settings: Any) -> None:
    settings.SESSION_ENGINE = ENGINE
    settings.DIRIGIBLE_SESSION_REDIS_CLIENT = "tests.checks.test_redis.found"
    assert found() == []


@pytest.mark.parametrize("path", ["no.such.function", "found", "tests.checks.test_redis.ENGINE", 5])
def test_a_client_that_no_function_makes_is_an_error(settings: Any, path: object) -> None:
    settings.DIRIGIBLE_SESSION_REDIS_CLIENT = path
    assert found() == ["E023"]


def test_a_missing_redis_py_is_an_error_that_says_how_to_install_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = ENGINE
    settings.DIRIGIBLE_SESSION_REDIS_URL = "redis://localhost"
    monkeypatch.setattr(redis_checks, "find_spec", lambda name: None)
    (message,) = redis_checks.check_redis_installed()
    assert message.id == "dirigible_session.E020"
    assert "dirigible-session[redis]" in str(message.hint)


def test_without_redis_py_the_other_checks_still_run() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from django.conf import settings\n"
        "settings.configure(\n"
        f"    SESSION_ENGINE={ENGINE!r}, SESSION_SAVE_EVERY_REQUEST=True,\n"
        "    SESSION_SERIALIZER='no.such.Serializer', INSTALLED_APPS=['dirigible_session'],\n"
        ")\n"
        "import django; django.setup()\n"
        "from django.core import checks\n"
        "assert checks.run_checks()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_redis_py_the_engine_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from django.conf import settings; settings.configure()\n"
        "from django.core.exceptions import ImproperlyConfigured\n"
        "try:\n"
        "    import dirigible_session.backends.redis.client\n"
        "except ImproperlyConfigured as error:\n"
        "    assert 'dirigible-session[redis]' in str(error)\n"
        "else:\n"
        "    raise SystemExit('imported')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
