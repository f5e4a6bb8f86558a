"""The tag session_attribute."""

from __future__ import annotations

import pytest
from django.template import Context, Template

from dirigible_session import facade
from dirigible_session.exceptions import ReservedAttributeName
from dirigible_session.testing import session_request

pytestmark = pytest.mark.usefixtures("engine")


def _render(source, **context):
    return Template("{% load dirigible_session %}" + source).render(Context(context))


def test_it_shows_an_attribute():
    with session_request({"name": "Ada", "cart": ["tea", "milk"]}):
        assert _render('Hello {% session_attribute "name" %}') == "Hello Ada"
        source = '{% session_attribute "cart" as cart %}{{ cart|length }} {{ cart.0 }}'
        assert _render(source) == "2 tea"
        assert _render("{% session_attribute which %}", which="name") == "Ada"


def test_it_shows_the_default_where_there_is_none():
    with session_request():
        assert _render('[{% session_attribute "name" %}]') == "[]"
        assert _render('{% session_attribute "name" default="nobody" %}') == "nobody"
        assert _render('{% session_attribute "n" default=0 as n %}{{ n }}') == "0"
        assert not facade.get_attribute_names()


def test_it_escapes_as_any_value():
    with session_request({"name": "<b>&"}):
        assert _render('{% session_attribute "name" %}') == "&lt;b&gt;&amp;"
        assert _render('{% session_attribute "name" as n %}{{ n }}') == "&lt;b&gt;&amp;"
        source = '{% autoescape off %}{% session_attribute "name" %}{% endautoescape %}'
        assert _render(source) == "<b>&"


def test_outside_a_request_it_shows_the_default():
    source = '{% session_attribute "name" default=default %}'
    assert _render(source, default="<none>") == "&lt;none&gt;"
    assert _render('[{% session_attribute "name" %}]') == "[]"


def test_a_reserved_name_is_an_error():
    with session_request(), pytest.raises(ReservedAttributeName):
        _render('{% session_attribute "_auth_user_id" %}')


def test_it_shows_a_value_in_a_view(visitor):
    visitor.visit(lambda session: session.set_attribute("name", "Ada"))

    async def visit(session):
        await session.get_attribute_names()
        return _render('{% session_attribute "name" %}')

    assert visitor.visit(visit) == "Ada"
