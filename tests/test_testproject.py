from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from config import settings as site_settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import AsyncClient, Client
from django.test.utils import override_settings
from django.urls import reverse
from pages.forms import PRODUCTS
from pages.visitors import Page

ROOT = Path(__file__).resolve().parent.parent
STOCK_ENGINES = [
    f"django.contrib.sessions.backends.{name}"
    for name in ("db", "cached_db", "cache", "file", "signed_cookies")
]
SESSION_PAGES = ["home", "basic", "basic-async", "cart", "session", "login"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    names = (
        *("INSTALLED_APPS", "MIDDLEWARE", "ROOT_URLCONF", "TEMPLATES", "STATIC_URL", "LOGIN_URL"),
        *("LOGIN_REDIRECT_URL", "LOGOUT_REDIRECT_URL", "SESSION_ENGINE"),
    )
    with override_settings(**{name: getattr(site_settings, name) for name in names}):
        yield


@pytest.fixture
def visitor() -> Client:
    return Client(enforce_csrf_checks=True)


def get(visitor: Client, name: str) -> Page:
    response = visitor.get(reverse(name))
    assert response.status_code == 200
    return Page(response.content.decode())


def post(visitor: Client, name: str, at: str, **fields: str) -> Page:
    token = get(visitor, at).token
    response = visitor.post(reverse(name), {**fields, "csrfmiddlewaretoken": token}, follow=True)
    assert response.status_code == 200
    return Page(response.content.decode())


@pytest.mark.parametrize("engine", STOCK_ENGINES)
@pytest.mark.parametrize("name", ["basic", "basic-async"])
def test_basic_usage_shows_the_attribute_on_every_stock_engine(
    visitor, name, engine, settings, tmp_path
):
    settings.SESSION_ENGINE, settings.SESSION_FILE_PATH = engine, str(tmp_path)
    assert get(visitor, name).said == "[Attribute]: value1"


def test_basic_usage_works_under_asgi():
    response = async_to_sync(AsyncClient().get)(reverse("basic-async"))
    assert Page(response.content.decode()).said == "[Attribute]: value1"


def test_a_page_shows_the_code_that_it_ran(visitor):
    html = visitor.get(reverse("basic")).content.decode()
    assert "session.setAttribute(&quot;attr1&quot;, &quot;value1&quot;)" in html


def test_the_home_page_shows_an_attribute_by_its_tag(visitor):
    before = visitor.get(reverse("home")).content.decode()
    visitor.get(reverse("basic"))
    after = visitor.get(reverse("home")).content.decode()
    assert "not set yet" in before
    assert "<strong>value1</strong>" in after


@pytest.mark.parametrize("engine", STOCK_ENGINES)
def test_a_cart_that_is_changed_in_place_is_kept(visitor, engine, settings, tmp_path):
    settings.SESSION_ENGINE, settings.SESSION_FILE_PATH = engine, str(tmp_path)
    assert get(visitor, "cart").said == "The cart is empty."
    post(visitor, "cart-add", at="cart", product="Tea")
    post(visitor, "cart-add", at="cart", product="Cake")
    assert (
        post(visitor, "cart-add", at="cart", product="Tea").said == "In the cart: Tea, Cake, Tea."
    )
    assert post(visitor, "cart-remove", at="cart", product="Tea").said == "In the cart: Cake, Tea."
    assert get(visitor, "cart").said == "In the cart: Cake, Tea."


def test_removing_what_is_not_in_the_cart_changes_nothing(visitor):
    assert post(visitor, "cart-remove", at="cart", product="Tea").said == "The cart is empty."
    assert not Session.objects.exists()


@pytest.mark.parametrize("name", ["cart-add", "cart-remove"])
@pytest.mark.parametrize("product", ["", "Caviar", "<script>"])
def test_the_shop_has_only_its_own_products(visitor, name, product):
    token = get(visitor, "cart").token
    response = visitor.post(reverse(name), {"product": product, "csrfmiddlewaretoken": token})
    assert response.status_code == 400
    assert not Session.objects.exists()


@pytest.mark.parametrize("name", ["cart-add", "cart-remove", "session", "session-end", "login"])
def test_a_form_without_its_token_is_refused(visitor, name):
    assert visitor.post(reverse(name), {"product": "Tea", "seconds": "60"}).status_code == 403


@pytest.mark.parametrize("name", ["cart-add", "cart-remove", "session-end", "logout"])
def test_what_changes_something_is_no_link(visitor, name):
    assert visitor.get(reverse(name)).status_code == 405


def test_a_cart_survives_the_login_and_goes_with_the_logout(visitor):
    User.objects.create_user("ada", password="lovelace")
    post(visitor, "cart-add", at="cart", product="Tea")
    key = visitor.cookies["sessionid"].value
    welcome = post(visitor, "login", at="login", username="ada", password="lovelace")
    assert welcome.said == "Welcome, ada."
    assert visitor.cookies["sessionid"].value != key
    assert get(visitor, "cart").said == "In the cart: Tea."
    assert post(visitor, "logout", at="home").said == "Welcome, whoever you are."
    assert get(visitor, "cart").said == "The cart is empty."


def test_a_wrong_password_is_told(visitor):
    assert (
        "Please enter a correct username"
        in post(visitor, "login", at="login", username="ada", password="wrong").said
    )


def test_a_visitor_sets_the_idle_limit(visitor):
    assert get(visitor, "session").said == "No session of yours is stored."
    assert post(visitor, "session", at="session", seconds="900").said == "Idle limit: 900 seconds."
    assert visitor.cookies["sessionid"]["max-age"] == 900


def test_a_session_may_never_time_out(visitor):
    page = post(visitor, "session", at="session", seconds="0")
    assert page.said == "Idle limit: none, your session never times out."


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        ("", "This field is required."),
        ("soon", "Enter a whole number."),
        ("1.5", "Enter a whole number."),
        ("-1", "Ensure this value is greater than or equal to 0."),
        ("9" * 30, "Ensure this value is less than or equal to 34560000."),
    ],
)
def test_a_wrong_idle_limit_is_told_and_changes_nothing(visitor, seconds, error):
    page = post(visitor, "session", at="session", seconds=seconds)
    assert page.said == f"No session of yours is stored. {error}"
    assert not Session.objects.exists()


def test_a_visitor_ends_the_session(visitor):
    post(visitor, "cart-add", at="cart", product="Tea")
    page = post(visitor, "session-end", at="session")
    assert page.said == "No session of yours is stored."
    assert not Session.objects.exists()


def test_the_page_without_session_leaves_no_trace(visitor, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = visitor.get(reverse("plain"))
    assert not response.has_header("Vary")
    assert not response.cookies


@pytest.mark.parametrize("name", SESSION_PAGES)
def test_a_page_shows_the_panel_of_its_session(visitor, name):
    visitor.get(reverse("basic"))
    html = visitor.get(reverse(name)).content.decode()
    assert html.count('aria-label="Current session"') == 1
    assert '<th scope="row">attr1</th>' in html
    assert visitor.cookies["sessionid"].value not in html


def test_the_page_without_session_has_no_panel(visitor):
    assert "Current session" not in visitor.get(reverse("plain")).content.decode()


def test_looking_around_stores_nothing(visitor):
    for name in ("home", "cart", "session", "login", "plain"):
        get(visitor, name)
    assert not Session.objects.exists()


class Outline(HTMLParser):
    """What a reader by ear, or a strict policy for content, needs to know of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.mark.parametrize("name", [*SESSION_PAGES, "plain"])
def test_pages_are_accessible_without_script_or_inline_style(visitor, name):
    visitor.get(reverse("basic"))
    outline = Outline(visitor.get(reverse(name)).content.decode())
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("main")) == len(outline.all("h1")) == len(outline.all("title")) == 1
    assert not outline.all("script", "style")
    assert not [attributes for _, attributes in outline.tags if "style" in attributes]
    labelled = {attributes.get("for") for attributes in outline.all("label")}
    fields = [field for field in outline.all("input") if field.get("type") != "hidden"]
    assert all(field["id"] in labelled for field in fields)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_product_can_be_added(visitor):
    outline = Outline(visitor.get(reverse("cart")).content.decode())
    buttons = [button["value"] for button in outline.all("button") if "value" in button]
    assert buttons == list(PRODUCTS)


def test_a_long_request_shows_its_progress_to_another(visitor, monkeypatch):
    seen = []

    def look(seconds):
        other = Client()
        other.cookies.update(visitor.cookies)
        response = other.get(reverse("progress"))
        assert "sessionid" not in response.cookies
        seen.append(Page(response.content.decode()).said)

    monkeypatch.setattr("pages.views.sleep", look)
    visitor.get(reverse("basic"))
    post(visitor, "progress-work", "progress")
    assert seen == [f"Done: {done} of 5." for done in range(6)]


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "testproject" / "manage.py"), *arguments],
        env={**os.environ, "PYTHONPATH": paths, "DJANGO_SETTINGS_MODULE": "config.settings"}
        | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_project_passes_its_checks():
    result = manage("check", "--fail-level", "WARNING")
    assert result.returncode == 0, result.stderr


def test_the_engine_can_be_chosen_from_outside():
    engine = "django.contrib.sessions.backends.file"
    result = manage("diffsettings", "--output", "unified", DIRIGIBLE_DEMO_ENGINE=engine)
    assert f"+ SESSION_ENGINE = {engine!r}" in result.stdout


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_servers_find_the_application(kind):
    code = f"from config.{kind} import application; assert callable(application)"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT / "testproject",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=60,
    )


def test_no_migration_is_missing():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
