"""System checks: each fires where it should, and nowhere else."""

from __future__ import annotations

import pytest
from django.core import checks as django_checks

from dirigible_session.checks import project as checks
from dirigible_session.exceptions import MIDDLEWARE, SESSION_MIDDLEWARE
from dirigible_session.middleware import DirigibleSessionMiddleware

BACKENDS = "django.contrib.sessions.backends."
LOCMEM = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
DUMMY = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
REDIS = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "x"}}
OTHER = "django.middleware.common.CommonMiddleware"


class OurOwn(DirigibleSessionMiddleware):
    """A subclass in a project."""


def _messages():
    return [
        message
        for message in django_checks.run_checks()
        if (message.id or "").startswith("dirigible_session.")
    ]


def _ids():
    return [message.id.removeprefix("dirigible_session.") for message in _messages()]


def test_a_good_set_up_has_nothing_to_say():
    assert _messages() == []


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ([SESSION_MIDDLEWARE, MIDDLEWARE], []),
        ([OTHER, SESSION_MIDDLEWARE, MIDDLEWARE, OTHER], []),
        ([SESSION_MIDDLEWARE, f"{__name__}.OurOwn"], []),
        ([SESSION_MIDDLEWARE], ["E001"]),
        ([], ["E001"]),
        (["no.such.Middleware", f"{__name__}.test_a_good_set_up_has_nothing_to_say"], ["E001"]),
        ([MIDDLEWARE], ["E002"]),
        ([MIDDLEWARE, SESSION_MIDDLEWARE], ["E002"]),
        ([SESSION_MIDDLEWARE, OTHER, MIDDLEWARE], ["W003"]),
        ([SESSION_MIDDLEWARE, MIDDLEWARE, SESSION_MIDDLEWARE], ["E013"]),
        ([SESSION_MIDDLEWARE, MIDDLEWARE, f"{__name__}.OurOwn"], ["E013"]),
    ],
)
def test_where_the_middleware_stands(settings, middleware, expected):
    settings.MIDDLEWARE = middleware
    assert _ids() == expected
    for message in _messages():
        assert MIDDLEWARE in message.hint
        assert SESSION_MIDDLEWARE in message.hint


@pytest.mark.parametrize("broken", [f"{__package__}.broken_import.Middleware", 3])
def test_what_can_not_be_imported_is_left_to_django(settings, broken):
    settings.MIDDLEWARE = [SESSION_MIDDLEWARE, MIDDLEWARE, broken]
    assert list(checks.check_middleware()) == []


NO_NUMBERS = [float("nan"), float("inf"), 10**400]
SETTINGS = [
    ("TOUCH_INTERVAL", [60, 0, 1.5], [-1, None, "60", True, *NO_NUMBERS], "E004"),
    ("TOUCH_EVERY_REQUEST", [True, False], [1, None, "yes"], "E005"),
    ("ABSOLUTE_TIMEOUT", [None, 1, 3600.5], [0, -1, "1", True, *NO_NUMBERS], "E006"),
]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, []) for name, good, _, _ in SETTINGS for value in good]
    + [(name, value, [id_]) for name, _, bad, id_ in SETTINGS for value in bad],
)
def test_what_the_settings_are(settings, name, value, expected):
    setattr(settings, f"DIRIGIBLE_SESSION_{name}", value)
    assert _ids() == expected
    for message in _messages():
        assert repr(value) in message.msg
        assert message.hint


def test_a_number_that_can_not_even_be_shown(settings):
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 10**5000
    (message,) = _messages()
    assert "too large to be shown" in message.msg


def test_a_setting_that_is_none_of_ours(settings):
    settings.DIRIGIBLE_SESSION_TOUCH_INTERVALL = 60
    assert _ids() == ["W007"]
    assert "TOUCH_INTERVALL" in _messages()[0].msg
    assert "DIRIGIBLE_SESSION_TOUCH_INTERVAL" in _messages()[0].hint


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
def test_what_the_engine_can_keep(settings, engine, caches, expected):
    settings.SESSION_ENGINE = BACKENDS + engine
    settings.CACHES = caches
    assert _ids() == expected
    for message in _messages():
        assert message.hint
