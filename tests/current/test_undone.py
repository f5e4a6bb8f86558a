"""A session that is ended in a transaction stays ended, also where the transaction is undone."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import logout
from django.core.exceptions import BadRequest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from dirigible_session import session

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

ENGINES = ("db", "cached_db", "dirigible_session.backends.db")
ONE_MIDDLEWARE = "dirigible_session.middleware.SessionMiddleware"

WAYS = {
    "invalidate": lambda request: session.invalidate(),
    "log out": logout,
    "flush": lambda request: request.session.flush(),
    "change the id and end": lambda request: (session.change_session_id(), session.invalidate()),
}


def end(request, way):
    WAYS[way](request)
    session.set_attribute("new", 1)
    raise BadRequest


def end_in_part(request, way):
    with transaction.atomic():
        WAYS[way](request)
        transaction.set_rollback(True)
    return HttpResponse()


def end_for_good(request):
    session.invalidate()
    return HttpResponse()


urlpatterns = [
    path("end/<way>/", end),
    path("part/<way>/", end_in_part),
    path("committed/", end_for_good),
]


def visit(client, address):
    if isinstance(client, AsyncClient):
        return async_to_sync(client.get)(address)
    return client.get(address)


@pytest.fixture(params=ENGINES)
def stored(request, use_engine):
    """A session that a client has: the store class and the key."""
    store = use_engine(request.param)()
    store["a"] = 1
    store.save()
    return type(store), store.session_key


@pytest.mark.parametrize("is_one_middleware", [False, True])
@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("way", WAYS)
def test_a_session_that_a_refused_request_ended_stays_ended(
    stored, settings, monkeypatch, client, way, is_one_middleware
):
    if is_one_middleware:
        settings.MIDDLEWARE = [ONE_MIDDLEWARE, *settings.MIDDLEWARE[2:]]
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    store_class, key = stored
    client = client()
    client.cookies["sessionid"] = key
    assert visit(client, f"/end/{way}/").status_code == 400
    assert not store_class(key).load()
    assert dict(store_class(client.cookies["sessionid"].value).items())["new"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_session_that_was_ended_to_a_savepoint_stays_ended(stored, way):
    store_class, key = stored
    client = Client()
    client.cookies["sessionid"] = key
    assert visit(client, f"/part/{way}/").status_code == 200
    assert not store_class(key).load()


@pytest.mark.django_db(transaction=True)
def test_an_end_that_was_committed_takes_no_further_statement(stored, monkeypatch, queries):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client = Client()
    client.cookies["sessionid"] = stored[1]
    with queries() as ran:
        client.get("/committed/")
    assert sum(statement.startswith("DELETE") for statement in ran) == 1
