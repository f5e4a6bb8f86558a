"""The sessions of a user end with the user: ``DIRIGIBLE_SESSION_END_WITH_USER``."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.test import Client
from django.test.utils import isolate_apps
from django.urls import reverse

from dirigible_session import users
from dirigible_session.signals import Reason, session_invalidated
from dirigible_session.users import sessions_of

pytestmark = pytest.mark.usefixtures("own")


@pytest.fixture(autouse=True)
def _ends(settings: Any) -> None:
    settings.DIRIGIBLE_SESSION_END_WITH_USER = True


@pytest.fixture
def admin(admin_client: Client, settings: Any) -> Client:
    settings.ROOT_URLCONF = f"{__name__}_urls"
    messages = "django.contrib.messages.middleware.MessageMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, messages]
    return admin_client


@pytest.fixture
def pk(ada: Any, site: Any) -> Any:
    """The primary key of a user who is logged in twice."""
    for _ in range(2):
        site.log_in(ada)
    assert len(sessions_of(ada.pk)) == 2
    return ada.pk


def deactivate(user: Any, **named: Any) -> None:
    user.is_active = False
    user.save(**named)


class TestADeletedUser:
    def test_has_no_sessions_any_more(self, ada, pk):
        ada.delete()
        assert sessions_of(pk) == []

    def test_of_a_queryset_has_none_and_others_keep_theirs(self, ada, pk, bob, site):
        site.log_in(bob)
        get_user_model().objects.filter(pk=pk).delete()
        assert (len(sessions_of(pk)), len(sessions_of(bob))) == (0, 1)

    def test_by_way_of_the_admin_has_none(self, pk, admin, receive):
        received = receive(session_invalidated)
        address = reverse("admin:auth_user_delete", args=[pk])
        assert admin.post(address, {"post": "yes"}).status_code == 302
        assert sessions_of(pk) == []
        assert {named["request"].path for _, named in received} == {address}

    def test_is_told_as_the_reason(self, ada, pk, receive):
        received = receive(session_invalidated)
        ada.delete()
        told = {(named["reason"], named["user_id"]) for _, named in received}
        assert told == {(Reason.USER, str(pk))}
        assert len(received) == 2


class TestWhoLeavesInARequest:
    @pytest.mark.parametrize("leave", ["delete", "deactivate"])
    def test_is_answered_and_has_no_session_after_it(self, ada, pk, site, leave):
        visitor = site.log_in(ada)
        visitor.visit(lambda session: session.set_attribute("cart", ["tea"]))

        async def visit(session: Any, request: HttpRequest) -> str:
            user = await request.auser() if site.is_async else request.user
            act = user.delete if leave == "delete" else partial(deactivate, user)
            await (sync_to_async(act)() if site.is_async else _done(act))
            assert await session.get_attribute_names() == []
            # The view may still say goodbye.
            return (user if site.is_async else request.user).get_username()

        assert visitor.visit(visit) == "ada"
        assert visitor.response.status_code == 200
        assert visitor.session_key is None
        assert sessions_of(pk) == []


async def _done(act: Any) -> None:
    act()


class TestADeactivatedUser:
    @pytest.mark.parametrize("named", [{}, {"update_fields": ["is_active", "first_name"]}])
    def test_has_no_sessions_any_more(self, ada, pk, named):
        deactivate(ada, **named)
        assert sessions_of(pk) == []

    def test_by_way_of_the_admin_has_none(self, ada, pk, admin):
        address = reverse("admin:auth_user_change", args=[pk])
        joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
        response = admin.post(address, {"username": "ada", **joined})
        assert response.status_code == 302
        ada.refresh_from_db()
        assert not ada.is_active
        assert sessions_of(pk) == []

    def test_finds_the_old_sessions_ended_when_active_again(self, ada, pk):
        deactivate(ada)
        ada.is_active = True
        ada.save()
        assert sessions_of(pk) == []

    def test_through_a_proxy_has_none(self, pk, monkeypatch):
        with isolate_apps("django.contrib.auth") as apps:

            class Proxy(get_user_model()):
                class Meta:
                    proxy = True
                    app_label = "auth"

            # As at start, when the project's models are known.
            monkeypatch.setattr(users, "apps", apps)
            users.connect()
        deactivate(Proxy.objects.get(pk=pk))
        assert sessions_of(pk) == []

    def test_has_none_that_a_rival_began_before_the_transaction_ended(
        self, ada, pk, django_capture_on_commit_callbacks
    ):
        with django_capture_on_commit_callbacks(execute=True):
            deactivate(ada)
            # To the rival, the user is still active.
            Client().force_login(ada)
            assert len(sessions_of(pk)) == 1
        assert sessions_of(pk) == []


class TestAUserWhoStays:
    def test_keeps_the_sessions(self, ada, pk):
        ada.first_name = "Ada"
        ada.save()
        ada.is_active = False
        ada.save(update_fields=["first_name"])
        assert len(sessions_of(pk)) == 2

    def test_keeps_the_sessions_where_the_setting_is_off(self, ada, pk, settings):
        settings.DIRIGIBLE_SESSION_END_WITH_USER = False
        deactivate(ada)
        ada.delete()
        assert len(sessions_of(pk)) == 2

    def test_costs_nothing_to_save(self, ada, pk, monkeypatch):
        monkeypatch.setattr(users, "_stored", None)
        ada.save()
        get_user_model().objects.create_user("new", is_active=False)


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_the_sessions_end_once(ada, pk, receive):
    received = receive(session_invalidated)
    deactivate(ada)
    assert len(received) == 2
    assert sessions_of(pk) == []


def test_a_project_without_users_has_nothing_to_end(monkeypatch):
    monkeypatch.setattr(users, "apps", SimpleNamespace(is_installed=lambda app: False))
    users.connect()


def test_a_store_that_fails_stops_no_deletion(ada, pk, monkeypatch, caplog):
    def fail(*args: Any, **named: Any) -> Any:
        raise OSError("unplugged")

    monkeypatch.setattr(users, "_stored", fail)
    ada.delete()
    assert not get_user_model().objects.filter(pk=pk).exists()
    assert "could not be ended" in caplog.text
