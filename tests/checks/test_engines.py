from __future__ import annotations

from typing import Any

import pytest

from dirigible_session.checks import engines as engine_checks

OURS = "dirigible_session.backends.db"
STOCK = "django.contrib.sessions.backends.db"
PICKLE = "project.PickleSerializer"


def ids(messages: Any) -> list[str]:
    return [message.id for message in messages]


def test_another_serializer_than_json_is_reported(settings: Any) -> None:
    settings.SESSION_ENGINE = OURS
    settings.SESSION_SERIALIZER = PICKLE
    (warning,) = engine_checks.check_serializer()
    assert warning.id == "dirigible_session.W011"
    assert PICKLE in warning.msg
    assert warning.hint


def test_saving_at_every_request_is_reported(settings: Any) -> None:
    settings.SESSION_ENGINE = OURS
    settings.SESSION_SAVE_EVERY_REQUEST = True
    (warning,) = engine_checks.check_save_every_request()
    assert warning.id == "dirigible_session.W012"
    assert warning.hint


@pytest.mark.parametrize("engine", [STOCK, "no.such.engine", "json", "django.contrib.auth"])
def test_another_engine_may_have_both(settings: Any, engine: str) -> None:
    settings.SESSION_ENGINE = engine
    settings.SESSION_SERIALIZER = PICKLE
    settings.SESSION_SAVE_EVERY_REQUEST = True
    assert ids(engine_checks.check_serializer()) == []
    assert ids(engine_checks.check_save_every_request()) == []


def test_nothing_is_wrong_with_the_defaults(settings: Any) -> None:
    settings.SESSION_ENGINE = OURS
    assert ids(engine_checks.check_serializer()) == []
    assert ids(engine_checks.check_save_every_request()) == []
