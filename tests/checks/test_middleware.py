"""System checks of MIDDLEWARE: each fires where it should, and nowhere else."""

from __future__ import annotations

import pytest

from dirigible_session.checks import middleware as checks
from dirigible_session.exceptions import MIDDLEWARE, SESSION_MIDDLEWARE
from dirigible_session.exceptions import OWN_SESSION_MIDDLEWARE as BOTH
from dirigible_session.middleware import DirigibleSessionMiddleware, SessionMiddleware

from .messages import ids, messages

OTHER = "django.middleware.common.CommonMiddleware"
OWN_ENGINE = "dirigible_session.backends.db"
STOCK_ENGINE = "django.contrib.sessions.backends.db"


class OurOwn(DirigibleSessionMiddleware):
    """A subclass in a project."""


class Tenants:
    """A session middleware of a project, which does not derive from Django's."""


class OneLine(SessionMiddleware):
    """A subclass in a project of the middleware that does both."""


def sessions_by_function(get_response):
    return get_response


def test_a_good_set_up_has_nothing_to_say():
    assert messages() == []


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ([SESSION_MIDDLEWARE, MIDDLEWARE], []),
        ([OTHER, SESSION_MIDDLEWARE, MIDDLEWARE, OTHER], []),
        ([SESSION_MIDDLEWARE, f"{__name__}.OurOwn"], []),
        ([BOTH], []),
        ([OTHER, f"{__name__}.OneLine", OTHER], []),
        ([SESSION_MIDDLEWARE], ["E001"]),
        ([], ["E001"]),
        (["no.such.Middleware", f"{__name__}.OTHER"], ["E001"]),
        ([MIDDLEWARE], ["E002"]),
        ([OTHER, MIDDLEWARE], ["E002"]),
        ([MIDDLEWARE, SESSION_MIDDLEWARE], ["E002"]),
        ([f"{__name__}.Tenants", MIDDLEWARE, SESSION_MIDDLEWARE], ["E002"]),
        ([f"{__name__}.Tenants", MIDDLEWARE], ["W002"]),
        ([f"{__name__}.sessions_by_function", OTHER, MIDDLEWARE], ["W002"]),
        ([SESSION_MIDDLEWARE, OTHER, MIDDLEWARE], ["W003"]),
        ([SESSION_MIDDLEWARE, MIDDLEWARE, SESSION_MIDDLEWARE], ["E013"]),
        ([SESSION_MIDDLEWARE, MIDDLEWARE, f"{__name__}.OurOwn"], ["E013"]),
        ([BOTH, BOTH], ["E013"]),
        ([SESSION_MIDDLEWARE, BOTH], ["E013"]),
        ([BOTH, MIDDLEWARE], ["E013"]),
    ],
)
def test_where_the_middleware_stands(settings, middleware, expected):
    settings.MIDDLEWARE = middleware
    assert ids() == expected
    for message in messages():
        assert BOTH in message.hint


def test_two_that_give_a_session_are_named(settings):
    settings.MIDDLEWARE = [SESSION_MIDDLEWARE, BOTH, OTHER, MIDDLEWARE]
    (message,) = messages()
    assert f"remove {SESSION_MIDDLEWARE!r}, {MIDDLEWARE!r}" in message.hint


@pytest.mark.parametrize(("engine", "expected"), [(OWN_ENGINE, "W001"), (STOCK_ENGINE, "E001")])
def test_an_engine_of_ours_is_of_use_without_the_middleware(settings, engine, expected):
    settings.SESSION_ENGINE = engine
    settings.MIDDLEWARE = [SESSION_MIDDLEWARE]
    assert ids() == [expected]


@pytest.mark.parametrize("broken", [f"{__package__}.broken_import.Middleware", 3])
def test_middleware_that_can_not_be_imported_is_left_to_django(settings, broken):
    settings.MIDDLEWARE = [SESSION_MIDDLEWARE, MIDDLEWARE, broken]
    assert list(checks.check_middleware()) == []
