"""What transactions do to a save: undo it, or have the database refuse it for a rival's sake."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.contrib.auth import get_user_model, login
from django.contrib.sessions.backends.base import UpdateError
from django.core.exceptions import BadRequest
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from dirigible_session import handles, session
from dirigible_session.backends.db import SessionStore, transactions
from dirigible_session.exceptions import SessionConflict
from dirigible_session.models import Session
from tests.stores import THREADED, Api, in_threads

from .test_rivals import loaded, new_session

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@contextmanager
def undone() -> Iterator[None]:
    """A transaction that is rolled back. Sync, since Django knows no async ones."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def content(store_class: Any, store: Any) -> dict[str, Any]:
    return dict(store_class(store.session_key).items())


# What a transaction undid, the next save stores again.


def test_a_session_whose_creation_was_undone_is_stored_under_the_same_key(
    api: Api, db_engine: Any
) -> None:
    store = db_engine()
    store["a"] = 1
    with undone():
        store.create()
        store["b"] = [2]
        store.save()
    key = store.session_key
    assert not Session.objects.exists()
    store["b"].append(3)
    api.save(store)
    assert store.session_key == key
    assert content(db_engine, store) == {"a": 1, "b": [2, 3]}
    store["c"] = 4
    api.save(store)
    assert content(db_engine, store) == {"a": 1, "b": [2, 3], "c": 4}


def test_a_session_whose_creation_was_undone_twice_is_stored(api: Api, db_engine: Any) -> None:
    store = db_engine()
    with undone():
        store.create()
    with undone():
        store["a"] = 1
        store.save()
    api.save(store)
    assert content(db_engine, store) == {"a": 1}


def test_a_change_of_key_that_was_undone_is_made_again(api: Api, db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    old = store.session_key
    with undone():
        store["b"] = 2
        store.cycle_key()
    store["c"] = 3
    api.save(store)
    assert store.session_key != old
    assert content(db_engine, store) == {"a": 1, "b": 2, "c": 3}
    assert Session.objects.count() == 1
    late = db_engine(old)
    assert api.load(late) == {}


def test_two_changes_of_key_of_which_the_last_was_undone(api: Api, db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    with transaction.atomic():
        store.cycle_key()
        kept = store.session_key
        with undone():
            store.cycle_key()
        assert Session.objects.get().digest == handles.digest(kept)
        store.save()
    assert Session.objects.get().digest == store.digest
    assert content(db_engine, store) == {"a": 1}


def test_a_session_made_and_given_another_key_in_what_was_undone(api: Api, db_engine: Any) -> None:
    store = db_engine()
    with undone():
        store["a"] = 1
        store.save()
        store.cycle_key()
    api.save(store)
    assert content(db_engine, store) == {"a": 1}
    with undone():
        store.cycle_key()
    api.cycle_key(store)
    assert content(db_engine, store) == {"a": 1}
    assert Session.objects.count() == 1


def test_a_session_that_was_ended_after_an_undone_change_of_key_stays_dead(
    api: Api, db_engine: Any
) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    old = store.session_key
    with undone():
        store.cycle_key()
    db_engine(old).flush()
    with pytest.raises(UpdateError):
        api.save(store)
    assert not Session.objects.exists()


def test_a_flush_after_an_undone_change_of_key_ends_the_session(api: Api, db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    with undone():
        store.cycle_key()
    api.flush(store)
    assert not Session.objects.exists()
    store["b"] = 1
    api.save(store)
    assert content(db_engine, store) == {"b": 1}


def test_a_session_ended_in_the_transaction_that_made_it_stays_dead(
    api: Api, db_engine: Any
) -> None:
    store = db_engine()
    with transaction.atomic():
        store.create()
        db_engine(store.session_key).flush()
        store["a"] = 1
        with pytest.raises(UpdateError):
            store.save()
    with pytest.raises(UpdateError):
        api.save(store)


@THREADED
def test_a_session_ended_after_the_commit_stays_dead(api: Api, db_engine: Any) -> None:
    store = db_engine()
    with transaction.atomic():
        store.create()
    db_engine(store.session_key).flush()
    store["a"] = 1
    with pytest.raises(UpdateError):
        api.save(store)


def test_a_cleared_session_that_was_undone_is_cleared_again(api: Api, db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    with undone():
        store.clear()
        store["b"] = 2
        store.save()
    store["c"] = 3
    api.save(store)
    assert content(db_engine, store) == {"b": 2, "c": 3}


def test_a_change_in_place_that_is_taken_back_in_one_transaction_is_not_stored(
    db_engine: Any,
) -> None:
    store = loaded(db_engine, new_session(db_engine, cart={}))
    with transaction.atomic():
        store["cart"]["tea"] = 1
        store.save()
        del store["cart"]["tea"]
        store.save()
    assert content(db_engine, store) == {"cart": {}}


def test_a_second_save_in_a_transaction_is_one_statement(db_engine: Any, queries: Any) -> None:
    store = loaded(db_engine, new_session(db_engine))
    with transaction.atomic():
        store["a"] = 1
        store.save()
        store["b"] = 1
        with queries() as ran:
            store.save()
    assert len(ran) == 1


@THREADED
def test_a_hook_that_saves_when_the_transaction_commits_loses_nothing(db_engine: Any) -> None:
    store = db_engine()

    def save_again() -> None:
        store["late"] = 1
        store.save()

    with transaction.atomic():
        transaction.on_commit(save_again)
        store["early"] = 1
        store.create()
        store.cycle_key()
    assert content(db_engine, store) == {"early": 1, "late": 1}


def test_a_session_can_be_copied_and_pickled_in_a_transaction(db_engine: Any) -> None:
    store = db_engine()
    with transaction.atomic():
        store["a"] = 1
        store.create()
        store["b"] = 1
        store.save()
        for twin in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
            twin["c"] = 1
            twin.save()
            assert content(db_engine, twin) == {"a": 1, "b": 1, "c": 1}


# ATOMIC_REQUESTS.


def refuse(request: HttpRequest, what: str) -> HttpResponse:
    if what == "id":
        session.get_id()
    elif what == "login":
        login(request, get_user_model().objects.get(), "django.contrib.auth.backends.ModelBackend")
    elif what == "cycle":
        request.session.cycle_key()
    session.set_attribute("a", what)
    raise BadRequest("refused by the view")


def show(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{session.get_attribute('a')} {request.user.is_authenticated}")


urlpatterns = [path("refuse/<what>/", refuse), path("show/", show)]


@THREADED
@pytest.mark.parametrize("has_session", [False, True])
@pytest.mark.parametrize("what", ["id", "login", "cycle", "set"])
def test_the_views_own_refusal_is_the_answer_and_its_cookie_opens_the_session(
    db_engine: Any, monkeypatch: pytest.MonkeyPatch, user: Any, what: str, has_session: bool
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client = Client()
    if has_session:
        client.cookies["sessionid"] = new_session(db_engine, before=1)
    response = client.get(f"/refuse/{what}/")
    assert response.status_code == 400
    assert b"session was deleted" not in response.content
    shown = client.get("/show/").content.decode()
    assert shown == f"{what} {what == 'login'}"
    assert Session.objects.count() == 1


# What the database refuses because of a rival.


def refusing(times: int, state: str = "40001") -> Any:
    """Refuse the next so many statements that write, as PostgreSQL does."""
    left = [times]

    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        if left[0] and not sql.startswith("SELECT"):
            left[0] -= 1
            cause = Exception()
            cause.sqlstate = state  # type: ignore[attr-defined]
            raise OperationalError("could not serialize access") from cause
        return execute(sql, *rest)

    return connection.execute_wrapper(wrapper)


ACTIONS: dict[str, Callable[[Api, Any], Any]] = {
    "save": lambda api, store: api.save(store),
    "change of key": lambda api, store: api.cycle_key(store),
    "touch": lambda api, store: api.touch(store, store.times.accessed + 100),
    "flush": lambda api, store: api.flush(store),
    "create": lambda api, store: api.create(type(store)()),
    "end": lambda api, store: type(store).end_stored([store.digest]),
    "clear": lambda api, store: api.clear_expired(type(store)),
}


@THREADED
@pytest.mark.parametrize("state", ["40001", "40P01"])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_refused_for_a_rivals_sake_is_tried_again(
    api: Api, db_engine: Any, action: str, state: str
) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    store["b"] = 2
    with refusing(3, state):
        ACTIONS[action](api, store)


@THREADED
def test_what_is_always_refused_is_a_conflict(api: Api, db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    store["b"] = 2
    with refusing(10_000), pytest.raises(SessionConflict):
        api.save(store)


def test_in_a_transaction_around_it_it_is_not_tried_again(db_engine: Any) -> None:
    store = loaded(db_engine, new_session(db_engine, a=1))
    store["b"] = 2
    with pytest.raises(OperationalError), transaction.atomic(), refusing(1):
        store.save()
    store.save()
    assert content(db_engine, store) == {"a": 1, "b": 2}


@THREADED
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_80_contended_saves_at_a_strict_level_all_succeed(
    db_engine: Any, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite knows one level")
    key = new_session(db_engine, cart={})

    def request(number: int) -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(f"SET default_transaction_isolation = '{level.lower()}'")
            else:
                cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
        store = loaded(db_engine, key)
        store[f"n{number}"] = number
        store["cart"][str(number)] = number
        store.save()

    in_threads(8, request, range(80))
    kept = dict(loaded(db_engine, key).items())
    assert kept.pop("cart") == {str(number): number for number in range(80)}
    assert kept == {f"n{number}": number for number in range(80)}


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (OperationalError(1213, "Deadlock found"), 2),
        (OperationalError(2006, "server has gone away"), 1),
        (OperationalError(), 1),
    ],
)
def test_a_deadlock_on_mysql_is_tried_again_and_another_error_is_not(
    transactional_db: None, error: OperationalError, attempts: int
) -> None:
    made = []

    @transactions.tried_again
    def operation(store: Any) -> None:
        made.append(store)
        if len(made) == 1:
            raise error

    with suppress(OperationalError):
        operation(SessionStore())
    assert len(made) == attempts


def test_a_save_leaves_no_callback_in_the_transaction_of_a_test(
    db_engine: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        store = loaded(db_engine, new_session(db_engine, a=1))
        store["b"] = 2
        store.save()
    assert callbacks == []
