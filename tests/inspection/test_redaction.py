"""Secrets as stars."""

from __future__ import annotations

import re
from collections import OrderedDict, UserDict, UserList, deque
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from django.http import QueryDict
from django.views.debug import SafeExceptionReporterFilter

from dirigible_session.inspection import Redactor, UnknownFilter, redaction

from .hostile import ATTRIBUTES, nested

STARS = SafeExceptionReporterFilter.cleansed_substitute


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({"cart": [1]}, {"cart": [1]}),
        ({"api_token": "x"}, {"api_token": STARS}),
        ({"Password": {"old": 1}}, {"Password": STARS}),
        ({"sessionid": "x"}, {"sessionid": STARS}),
        ({"a": {"b": [{"secret": 1, "c": 2}]}}, {"a": {"b": [{"secret": STARS, "c": 2}]}}),
        ({"a": [[{"signature": 1}]]}, {"a": [[{"signature": STARS}]]}),
        ({"a": ({"api": 1}, 2)}, {"a": [{"api": STARS}, 2]}),
        ({"a": [None, True, 1.5, "x"]}, {"a": [None, True, 1.5, "x"]}),
        ({"a": {}}, {"a": {}}),
        ({"a": {1: {"key": 2}}}, {"a": {1: {"key": STARS}}}),
    ],
)
def test_a_secret_is_stars_at_every_depth(attributes, shown):
    assert Redactor().redacted(attributes) == shown


class Login(NamedTuple):
    user: str
    password: str


@dataclass
class Card:
    owner: str
    api_key: str


class Broken:
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (UserDict({"password": "x", "n": 1}), {"password": STARS, "n": 1}),
        (OrderedDict(deep=MappingProxyType({"token": 1})), {"deep": {"token": STARS}}),
        (Login("ada", "x"), ["ada", STARS]),
        ({Login("ada", "x")}, [["ada", STARS]]),
        (deque([{"secret": 1}]), [{"secret": STARS}]),
        (UserList([{"secret": 1}]), [{"secret": STARS}]),
        (Card("ada", "x"), {"owner": "ada", "api_key": STARS}),
        ({b"password": 1, b"n": 2}, {b"password": STARS, b"n": 2}),
        ({b"sessionid": 1}, {b"sessionid": STARS}),
        (QueryDict("a=1&a=2&token=x"), {"a": ["1", "2"], "token": STARS}),
        ({("token", 1): 1, 5: 2, None: 3}, {("token", 1): STARS, 5: 2, None: 3}),
    ],
)
def test_a_secret_is_stars_in_whatever_was_pickled(settings, value, shown):
    assert Redactor().redacted({"a": value}) == {"a": shown}
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{__name__}.OwnRule"
    assert Redactor().redacted({"a": value}) == {"a": shown}


def test_a_name_that_has_no_text_hides_nothing():
    broken = Broken()
    assert Redactor().redacted({"a": {broken: {"token": 1}}}) == {"a": {broken: {"token": STARS}}}


def test_the_session_is_left_as_it_is():
    attributes = {"a": [{"secret": 1}]}
    Redactor().redacted(attributes)
    assert attributes == {"a": [{"secret": 1}]}


def test_what_is_nested_too_deep_to_recurse_is_redacted():
    shown = Redactor().redacted({"a": [nested(20_000), {"token": 1}]})
    assert shown["a"][1] == {"token": STARS}


def test_what_refers_to_itself_is_cut_off():
    ring: list[Any] = [1]
    ring.append({"ring": ring, "key": 2})
    assert Redactor().redacted({"a": ring}) == {"a": [1, {"ring": "…", "key": STARS}]}


class OwnNames(SafeExceptionReporterFilter):
    cleansed_substitute = "---"
    hidden_settings = re.compile("iban", re.IGNORECASE)


class Nothing(SafeExceptionReporterFilter):
    cleansed_substitute = None


class Empty(SafeExceptionReporterFilter):
    cleansed_substitute = ""


class EmptyByRule(Empty):
    def cleanse_setting(self, key: Any, value: Any) -> Any:
        return super().cleanse_setting(key, value)


class OwnRule(SafeExceptionReporterFilter):
    def cleanse_setting(self, key: Any, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("4111"):
            return "card"
        return super().cleanse_setting(key, value)


class Choosy(SafeExceptionReporterFilter):
    def cleanse_setting(self, key: Any, value: Any) -> Any:
        return int(value)


class ChoosyByName(SafeExceptionReporterFilter):
    hidden_settings = "api"


class OwnObject:
    def cleanse_setting(self, key: Any, value: Any) -> Any:
        return "x" if key == "colour" else value


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("OwnNames", {"IBAN": "---", "token": "t", "in": [{"card": "4111 1", "iban": "---"}]}),
        ("OwnRule", {"IBAN": "DE", "token": STARS, "in": [{"card": "card", "iban": "DE"}]}),
        ("OwnObject", {"IBAN": "DE", "token": "t", "in": [{"card": "4111 1", "iban": "DE"}]}),
    ],
)
def test_the_projects_own_filter_is_asked(settings, name, shown):
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{__name__}.{name}"
    attributes = {"IBAN": "DE", "token": "t", "in": [{"card": "4111 1", "iban": "DE"}]}
    assert Redactor().redacted(attributes) == shown


@pytest.mark.parametrize("rule", [Choosy, ChoosyByName])
def test_a_filter_that_fails_is_named_and_quoted_nowhere(settings, rule):
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{__name__}.{rule.__name__}"
    reason = rf"{rule.__name__} can't tell what is a secret: its cleanse_setting\(\) raised \w+\.$"
    for attributes in ({"n": "hunter2"}, {"n": [{"m": "hunter2"}]}):
        with pytest.raises(UnknownFilter, match=reason) as raised:
            Redactor().redacted(attributes)
        assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("rule", [Nothing, Empty, EmptyByRule])
def test_a_secret_may_be_hidden_by_nothing(settings, rule):
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{__name__}.{rule.__name__}"
    attributes = {"token": "t", "password": [1], "in": [{"api_key": {"a": 1}, "b": ""}]}
    hidden = rule.cleansed_substitute
    shown = {"token": hidden, "password": hidden, "in": [{"api_key": hidden, "b": ""}]}
    assert Redactor().redacted(attributes) == shown


def test_the_projects_own_filter_may_hide_a_container(settings):
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{__name__}.OwnObject"
    assert Redactor().redacted({"a": {"colour": [1, 2]}}) == {"a": {"colour": "x"}}


def test_the_filter_of_a_request_comes_first():
    request = SimpleNamespace(exception_reporter_filter=OwnNames())
    assert Redactor(request).redacted({"iban": 1, "token": 2}) == {"iban": "---", "token": 2}


def test_names_are_not_remembered_without_end():
    redactor = Redactor()
    redactor.redacted(ATTRIBUTES["many"])
    assert len(redactor._by_name) <= redaction.NAMES_REMEMBERED


def test_long_names_are_not_remembered():
    redactor = Redactor()
    shown = redactor.redacted({"x" * 1000: 1, "token" * 1000: 2, "n": {"y" * 1000: 3}})
    assert shown["x" * 1000] == 1
    assert set(shown["token" * 1000]) == {"*"}
    assert len(redactor._by_name) == 1
