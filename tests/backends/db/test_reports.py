"""An error report shows no value and no key among the variables of our frames."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

import dirigible_session
from dirigible_session.backends.db import SessionStore
from tests.stores import Api

pytestmark = pytest.mark.django_db

PACKAGE = str(Path(dirigible_session.__file__).parent)
SECRET = "-".join(["4111", "1111"])


def failing(verb: str) -> Any:
    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith(verb):
            raise OperationalError("the disk is full")
        return execute(sql, *rest)

    return connection.execute_wrapper(wrapper)


def ways(secret: Any) -> dict[str, Any]:
    """Return what can be done to a session that holds a secret, and fails."""

    def create(api: Api, store: Any) -> None:
        fresh = SessionStore()
        fresh["card"] = secret
        api.save(fresh)

    def change(api: Api, store: Any) -> None:
        api.keys(store)
        store["card"] = [secret]
        store["wallet"]["card"] = secret
        api.save(store)

    def clear(api: Api, store: Any) -> None:
        store.clear()
        store["card"] = secret
        api.save(store)

    def cycle(api: Api, store: Any) -> None:
        store["card"] = secret
        api.cycle_key(store)

    def touch(api: Api, store: Any) -> None:
        api.get(store, "card")
        api.touch(store, store.times.accessed + 100)

    def end(api: Api, store: Any) -> None:
        api.get(store, "card")
        api.flush(store)

    return {
        "create": (create, "INSERT"),
        "change": (change, "UPDATE"),
        "clear": (clear, "UPDATE"),
        "change of key": (cycle, "UPDATE"),
        "touch": (touch, "UPDATE"),
        "end": (end, "DELETE"),
        "load": (lambda api, store: api.load(store), "SELECT"),
    }


def stored() -> Any:
    store = SessionStore()
    store["card"] = SECRET
    store["wallet"] = {"card": SECRET}
    store.save()
    return SessionStore(store.session_key)


def frames(problem: TracebackType | None) -> list[Any]:
    return [
        frame
        for frame, _ in traceback.walk_tb(problem)
        if frame.f_code.co_filename.startswith(PACKAGE)
    ]


def reported(way: str, api: Api) -> tuple[str, str, Any]:
    """Return what our frames hold, what Django reports, and the session, when a way fails."""
    action, verb = ways(SECRET)[way]
    store = stored()
    key = store.session_key
    try:
        with failing(verb):
            action(api, store)
    except OperationalError:
        kind, error, problem = sys.exc_info()
    while problem.tb_frame not in (ours := frames(problem)):
        # The caller's frames are the caller's.
        problem = problem.tb_next
    held = " ".join(repr(value) for frame in ours for value in frame.f_locals.values())
    report = ExceptionReporter(RequestFactory().get("/"), kind, error, problem)
    return held, report.get_traceback_text() + report.get_traceback_html(), key


@pytest.mark.parametrize("way", ways(SECRET))
def test_no_value_and_no_key_is_in_our_frames(api: Api, way: str) -> None:
    held, _, key = reported(way, api)
    assert SECRET not in held
    assert key not in held


@pytest.mark.parametrize("way", ways(SECRET))
def test_no_value_and_no_key_is_in_djangos_report(way: str) -> None:
    _, report, key = reported(way, Api(""))
    assert SECRET not in report
    assert key not in report


@pytest.mark.parametrize("is_async", [False, True])
def test_no_value_is_in_our_frames_where_json_cannot_hold_one(is_async: bool) -> None:
    store = stored()
    store["wallet"]["card"] = [SECRET, object()]
    store["card"] = SECRET + "0"
    with pytest.raises(TypeError) as failure:
        async_to_sync(store.asave)() if is_async else store.save()
    for frame in frames(failure.tb):
        assert SECRET not in repr(list(frame.f_locals.values()))
