"""Statements counted, side by side with Django's own db engine."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth import get_user_model, login, logout
from django.http import HttpRequest
from django.test import Client

from tests.stores import THREADED

pytestmark = [THREADED, pytest.mark.urls("tests.backends.urls")]

STOCK = "django.contrib.sessions.backends.db"
OURS = "dirigible_session.backends.db"


def load(store_class: Any, key: str) -> None:
    store_class(key).load()


def first_save(store_class: Any, key: str) -> None:
    store = store_class()
    store["a"] = 1
    store.save()


def change(store_class: Any, key: str) -> None:
    store = store_class(key)
    store["a"] = 2
    store.save()


def touch(store_class: Any, key: str) -> None:
    store = store_class(key)
    store.keys()
    if hasattr(store, "touch"):
        store.touch(time.time() + 100)
    else:
        store.save()


def log_in(store_class: Any, key: str) -> None:
    request = HttpRequest()
    request.session = store_class(key)
    login(
        request, get_user_model()(pk=1, username="ada"), "django.contrib.auth.backends.ModelBackend"
    )
    request.session.save()


def log_out(store_class: Any, key: str) -> None:
    request = HttpRequest()
    request.session = store_class(key)
    request.session.keys()
    logout(request)


def invalidate(store_class: Any, key: str) -> None:
    store_class(key).flush()


#: What is done, and how many statements it takes us.
COSTS = [
    (load, 1),
    (first_save, 1),
    (change, 2),
    (touch, 2),
    (log_in, 3),
    (log_out, 2),
    (invalidate, 1),
]


@pytest.mark.parametrize(
    ("action", "cost"), COSTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_no_action_takes_more_statements_than_on_the_stock_engine(
    action: Any, cost: int, queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.contrib.auth.signals.user_logged_in.receivers", [])
    counts = {}
    for engine in (STOCK, OURS):
        store_class = import_module(engine).SessionStore
        store = store_class()
        store["a"] = 1
        store.save()
        with queries(transactions=True) as ran:
            action(store_class, store.session_key)
        counts[engine] = len(ran)
    assert counts[OURS] == cost
    assert counts[OURS] <= counts[STOCK]


@pytest.mark.parametrize(("path", "cost"), [("/read/", 1), ("/set/", 2), ("/none/", 0)])
def test_what_a_request_costs(path: str, cost: int, queries: Any, settings: Any) -> None:
    settings.SESSION_ENGINE = OURS
    client = Client()
    client.get("/set/")
    with queries(transactions=True) as ran:
        client.get(path)
    assert len(ran) == cost


def test_a_request_that_keeps_the_last_access_reads_and_touches(
    queries: Any, settings: Any
) -> None:
    settings.SESSION_ENGINE = OURS
    settings.DIRIGIBLE_SESSION_TOUCH_INTERVAL = 0
    client = Client()
    client.get("/set/")
    with queries(transactions=True) as ran:
        client.get("/read/")
    read, write = ran
    assert read.startswith("SELECT")
    assert write.startswith("UPDATE")
    assert "session_data" not in write
