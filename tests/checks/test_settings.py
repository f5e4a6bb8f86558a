"""System checks of the values of our settings."""

from __future__ import annotations

import pytest
from django.http import HttpResponse
from django.test import override_settings
from django.urls import include, path

from .messages import ids, messages

OWN_ENGINE = "dirigible_session.backends.db"
NO_NUMBERS = [float("nan"), float("inf"), 10**400]


def at_most_two(user):
    return 2


def view(request):
    return HttpResponse()


app_urls = ([path("poll/", view, name="poll")], "shop")
urlpatterns = [
    path("shop/", include(app_urls)),
    path("de/", include(app_urls, namespace="laden")),
    path("count/", view, name="count"),
    path("unnamed/", view),
]

SETTINGS = [
    ("TOUCH_INTERVAL", [60, 0, 1.5], [-1, None, "60", True, *NO_NUMBERS], "E004"),
    ("TOUCH_EVERY_REQUEST", [True, False], [1, None, "yes"], "E005"),
    ("ABSOLUTE_TIMEOUT", [None, 1, 3600.5], [0, -1, "1", True, *NO_NUMBERS], "E006"),
    ("PASSIVE", [[], (), ["count"]], ["count", None, [3], 3, {"count": 1}], "E017"),
    (
        "MAX_PER_USER",
        [None, 1, 10**400, f"{__name__}.at_most_two"],
        [
            0,
            -1,
            True,
            2.5,
            "two",
            f"{__name__}.OWN_ENGINE",
            "no.such.function",
            [],
            *NO_NUMBERS[:2],
        ],
        "E019",
    ),
    ("END_WITH_USER", [True, False], [1, None, "yes"], "E031"),
]


@pytest.fixture(autouse=True)
def _settings(settings):
    settings.SESSION_ENGINE = OWN_ENGINE
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, []) for name, good, _, _ in SETTINGS for value in good]
    + [(name, value, [id_]) for name, _, bad, id_ in SETTINGS for value in bad],
)
def test_what_the_settings_may_be(settings, name, value, expected):
    setattr(settings, f"DIRIGIBLE_SESSION_{name}", value)
    assert ids() == expected
    for message in messages():
        assert repr(value) in message.msg
        assert f"DIRIGIBLE_SESSION_{name} must be" in message.msg


def test_a_number_that_can_not_even_be_shown(settings):
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 10**5000
    (message,) = messages()
    assert "too large to be shown" in message.msg


def test_a_setting_that_is_none_of_ours(settings):
    settings.DIRIGIBLE_SESSION_TOUCH_INTERVALL = 60
    assert ids() == ["W007"]
    assert "TOUCH_INTERVALL" in messages()[0].msg
    assert "DIRIGIBLE_SESSION_TOUCH_INTERVAL" in messages()[0].hint


@pytest.mark.parametrize("name", ["count", "shop:poll", "laden:poll", f"{__name__}.view"])
def test_a_passive_view_that_is_there(settings, name):
    settings.DIRIGIBLE_SESSION_PASSIVE = [name]
    assert ids() == []


def test_passive_views_that_no_url_has(settings):
    settings.DIRIGIBLE_SESSION_PASSIVE = ["count", "poll", "shop:count"]
    assert [message.id for message in messages()] == ["dirigible_session.W018"] * 2
    assert "'poll'" in messages()[0].msg


def test_urls_that_can_not_be_imported_are_left_to_django(settings):
    settings.DIRIGIBLE_SESSION_PASSIVE = ["count"]
    from dirigible_session.checks.settings import check_passive_views

    with override_settings(ROOT_URLCONF="no.such.urls"):
        assert list(check_passive_views()) == []
