from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import path

from dirigible_session.models import Session
from dirigible_session.signals import session_invalidated

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture(autouse=True)
def engine(settings: Any) -> None:
    settings.SESSION_ENGINE = "dirigible_session.backends.db"
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    processors = [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]
    (templates,) = settings.TEMPLATES
    settings.TEMPLATES = [templates | {"OPTIONS": {"context_processors": processors}}]


@pytest.fixture
def stored(engine: None, settings: Any) -> Session:
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store.update({"cart": ["<b>tea</b>"], "api_token": "hush"})
    store.create()
    return Session.objects.get()


@pytest.fixture
def operator(engine: None, stored: Session) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("op", password="op"))
    return client


def test_the_list_shows_handles(operator: Client, stored: Session) -> None:
    page = operator.get("/admin/dirigible_session/session/").content.decode()
    assert stored.digest[:12] in page
    assert page.count('class="field-handle"') == 2


def test_an_end_beyond_all_dates_does_not_hide_the_rest(operator: Client, stored: Session) -> None:
    Session.objects.filter(digest=stored.digest).update(expires=1e12)
    page = operator.get("/admin/dirigible_session/session/").content.decode()
    assert page.count('class="field-handle"') == 2


def test_a_handle_finds_its_session(operator: Client, stored: Session) -> None:
    page = operator.get("/admin/dirigible_session/session/", {"q": stored.digest[:8]})
    assert page.content.decode().count('class="field-handle"') == 1


def test_a_session_key_finds_its_session(operator: Client) -> None:
    key = operator.cookies["sessionid"].value
    page = operator.get("/admin/dirigible_session/session/", {"q": f" {key} "})
    assert page.content.decode().count('class="field-handle"') == 1
    page = operator.get("/admin/dirigible_session/session/", {"q": key[:-1]})
    assert page.content.decode().count('class="field-handle"') == 0


def test_a_session_is_shown_with_its_secrets_as_stars(operator: Client, stored: Session) -> None:
    page = operator.get(f"/admin/dirigible_session/session/{stored.pk}/change/").content.decode()
    assert "&lt;b&gt;tea&lt;/b&gt;" in page
    assert "api_token" in page
    assert "hush" not in page


def test_one_that_never_times_out_says_so(operator: Client, stored: Session) -> None:
    Session.objects.filter(pk=stored.pk).update(expires=None)
    page = operator.get(f"/admin/dirigible_session/session/{stored.pk}/change/")
    assert "never" in page.content.decode()


def test_one_that_is_damaged_is_shown_as_such(operator: Client, stored: Session) -> None:
    Session.objects.filter(pk=stored.pk).update(session_data="{")
    page = operator.get(f"/admin/dirigible_session/session/{stored.pk}/change/")
    assert page.status_code == 200


def test_nobody_adds_or_changes_one(operator: Client, stored: Session) -> None:
    assert operator.get("/admin/dirigible_session/session/add/").status_code == 403
    address = f"/admin/dirigible_session/session/{stored.pk}/change/"
    assert operator.post(address, {"user_id": "1"}).status_code == 403


def test_a_session_that_is_deleted_is_ended(
    operator: Client, stored: Session, receive: Any
) -> None:
    heard = receive(session_invalidated)
    operator.post(f"/admin/dirigible_session/session/{stored.pk}/delete/", {"post": "yes"})
    assert not Session.objects.filter(pk=stored.pk).exists()
    assert [named["handle"] for _, named in heard] == [stored.digest[:12]]


def test_several_are_ended_at_once(operator: Client, stored: Session, receive: Any) -> None:
    heard = receive(session_invalidated)
    form = {"action": "delete_selected", "_selected_action": [stored.pk], "post": "yes"}
    operator.post("/admin/dirigible_session/session/", form)
    assert not Session.objects.filter(pk=stored.pk).exists()
    assert len(heard) == 1
