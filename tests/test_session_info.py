"""``{% session_info %}``."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.http import HttpResponse
from django.template import Context, Template
from django.test import RequestFactory

from dirigible_session import facade, handles

from .inspection.hostile import ATTRIBUTES
from .visiting import Visitor

PANEL = "{% load dirigible_session %}{% session_info %}"


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def after(self, text: str) -> str:
        return self.texts[self.texts.index(text) + 1]


async def look(session: Any) -> HttpResponse:
    await session.get_attribute("load it first where loading must be awaited")
    return HttpResponse(Template(PANEL).render(Context()))


def panel_with(store_class: Any, data: dict[str, Any]) -> str:
    request = RequestFactory().get("/")
    request.session = store_class()
    request.session.update(data)
    with facade.use_request(request):
        return Template(PANEL).render(Context())


def test_it_shows_the_session_on_every_engine(engine, visitor, clock):
    async def begin(session: Any) -> str:
        await session.set_attribute("cart", [1, 2])
        await session.set_max_inactive_interval(1800)
        return await session.get_id()

    key = visitor.visit(begin)
    clock.tick(90)
    page = Page(visitor.visit(look).content.decode())
    assert page.after("Session") == handles.handle(key)
    assert page.after("New") == "no"
    assert page.after("Idle limit") == "1800 s (30 min)"
    assert page.after("cart") == "[1, 2]"
    times = [attributes["datetime"] for tag, attributes in page.elements if tag == "time"]
    clock.tick(-90)
    assert times == [clock.datetime().isoformat()] * 2
    assert key not in visitor.response.content.decode()


def test_looking_creates_no_session(engine, visitor):
    page = Page(visitor.visit(look).content.decode())
    assert page.after("Session") == "none stored yet"
    assert page.after("New") == "yes"
    assert "No attributes." in page.texts
    assert visitor.cookie is None


def test_a_cookie_from_before_the_app_was_installed_has_no_id_yet(use_engine, visitor):
    store = use_engine("signed_cookies")()
    store["cart"] = [1, 2]
    store.save()
    visitor.session_key = store.session_key
    page = Page(visitor.visit(look).content.decode())
    assert page.after("Session") == "stored, without an id yet"
    assert page.after("New") == "no"
    assert page.after("cart") == "[1, 2]"


def test_outside_a_request_it_says_that_there_is_none():
    page = Page(Template(PANEL).render(Context()))
    assert page.texts == ["There is no current session here."]


def test_a_session_that_never_times_out_says_so(use_engine, store_class):
    visitor = Visitor(is_async=False)

    async def begin(session: Any) -> None:
        await session.set_max_inactive_interval(0)

    use_engine("db")
    visitor.visit(begin)
    assert Page(visitor.visit(look).content.decode()).after("Idle limit") == "never times out"


def test_secrets_are_stars(use_engine):
    html = panel_with(use_engine("db"), {"api_token": "hunter2", "in": [{"password": "hunter3"}]})
    assert "hunter" not in html
    assert html.count("*" * 20) == 2


def test_the_filter_of_the_request_is_asked(use_engine):
    class Filter:
        def cleanse_setting(self, key: str, value: Any) -> Any:
            return "hidden" if key == "colour" else value

    request = RequestFactory().get("/")
    request.session = use_engine("db")()
    request.session["colour"] = "crimson"
    request.exception_reporter_filter = Filter()
    with facade.use_request(request):
        html = Template(PANEL).render(Context())
    assert "crimson" not in html


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_hostile_content_is_text(use_engine, name):
    html = panel_with(use_engine("db"), ATTRIBUTES[name])
    assert {tag for tag, _ in Page(html).elements} <= {
        *("section", "link", "dl", "div", "dt", "dd", "code", "time", "p"),
        *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    }
    assert len(html) < 50_000
    assert html.replace("\n", "").isprintable()
    if name == "html":
        assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("template", "context"),
    [
        (PANEL, {"autoescape": False}),
        (PANEL.replace("{% s", "{% autoescape off %}{% s") + "{% endautoescape %}", {}),
    ],
    ids=["context", "block"],
)
def test_a_page_that_escapes_nothing_gets_an_escaped_panel(use_engine, template, context):
    request = RequestFactory().get("/")
    request.session = use_engine("db")()
    request.session["<b>name</b>"] = "<script>alert(1)</script>"
    with facade.use_request(request):
        html = Template(template).render(Context(**context))
    assert "<b>" not in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_of_many_attributes_it_shows_the_first(use_engine):
    html = panel_with(use_engine("db"), ATTRIBUTES["many"])
    assert html.count('<th scope="row">') == 100
    assert "And 9900 more." in html


def test_a_strict_content_security_policy_lets_it_be(use_engine):
    elements = Page(panel_with(use_engine("db"), {"n": 1})).elements
    assert all(tag not in ("script", "style") for tag, _ in elements)
    assert all(
        not name.startswith("on") and name != "style"
        for _, attributes in elements
        for name in attributes
    )
    (sheet,) = [attributes for tag, attributes in elements if tag == "link"]
    assert sheet["rel"] == "stylesheet"
    assert sheet["href"].endswith("dirigible_session/session_info.css")
    assert finders.AppDirectoriesFinder().find("dirigible_session/session_info.css")
