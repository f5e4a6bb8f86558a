"""An engine that derives from the db engine, with a table of its own, as Django's docs show it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.core import checks
from django.db import connection, models
from django.db.models import F
from django.test.utils import isolate_apps

from dirigible_session.backends import db
from dirigible_session.checks import engines as engine_checks
from dirigible_session.inspection import Inspector
from dirigible_session.models import AbstractSession, Session
from dirigible_session.stored import Query
from tests.stores import THREADED, Api

ENGINE = "derived_engine"


def derived(monkeypatch: pytest.MonkeyPatch, settings: Any, model: Any) -> Any:
    """Set up an engine with this model and return its store class."""

    class SessionStore(db.SessionStore):
        @classmethod
        def get_model_class(cls) -> Any:
            return model

        def create_model_instance(self, data: dict[str, Any]) -> Any:
            instance: Any = super().create_model_instance(data)
            instance.account_id = int(data.get("_auth_user_id", 0)) or None
            instance.seen = data.get("seen", [])
            return instance

    module = ModuleType(ENGINE)
    module.SessionStore = SessionStore  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, ENGINE, module)
    settings.SESSION_ENGINE = ENGINE
    return SessionStore


@pytest.fixture
def visits(transactional_db: None) -> Iterator[Any]:
    """A model with columns of its own, and its table."""
    with isolate_apps("dirigible_session"):

        class Visit(AbstractSession):
            account_id = models.IntegerField(null=True, db_column="account")
            seen = models.JSONField(default=list)
            kind = models.CharField(max_length=9, db_default="visit")
            saved = models.DateTimeField(auto_now=True)
            twice = models.GeneratedField(
                expression=F("version") * 2, output_field=models.IntegerField(), db_persist=True
            )

            class Meta(AbstractSession.Meta):
                app_label = "dirigible_session"

    with connection.schema_editor() as editor:
        editor.create_model(Visit)
    yield Visit
    with connection.schema_editor() as editor:
        editor.delete_model(Visit)


@THREADED
def test_its_columns_are_filled_in_with_each_save(
    api: Api, monkeypatch: pytest.MonkeyPatch, settings: Any, visits: Any
) -> None:
    store_class = derived(monkeypatch, settings, visits)
    store = store_class()
    store["seen"] = [1]
    api.save(store)
    (row,) = visits.objects.all()
    assert (row.account_id, row.seen, row.get_decoded()) == (None, [1], {"seen": [1]})
    rival = store_class(store.session_key)
    rival["_auth_user_id"] = "7"
    api.save(rival)
    store["seen"].append(2)
    api.save(store)
    first_saved = row.saved
    row.refresh_from_db()
    assert (row.account_id, row.seen, row.kind, row.twice) == (7, [1, 2], "visit", 2 * row.version)
    assert row.saved > first_saved
    api.cycle_key(store)
    assert api.touch(store, time.time() + 100)
    (row,) = visits.objects.all()
    assert (row.account_id, row.seen, row.digest) == (7, [1, 2], store.digest)
    assert dict(store_class(store.session_key).items()) == {"seen": [1, 2], "_auth_user_id": "7"}
    assert not Session.objects.exists()


@THREADED
def test_the_tools_see_its_sessions(
    monkeypatch: pytest.MonkeyPatch, settings: Any, visits: Any
) -> None:
    store_class = derived(monkeypatch, settings, visits)
    for user in ("7", "8"):
        store = store_class()
        store["_auth_user_id"] = user
        store.save()
    assert len(list(store_class.list_stored(Query(now=time.time(), user_id="7")))) == 1
    assert {record.user_id for record in Inspector().records()} == {"7", "8"}
    visits.objects.update(expires=1.0, expires_day=0)
    store_class.clear_expired()
    assert not visits.objects.exists()


def test_a_model_that_can_not_be_had_is_an_error(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    store_class = derived(monkeypatch, settings, None)

    def fail() -> None:
        raise RuntimeError("no app_label")

    monkeypatch.setattr(store_class, "get_model_class", fail)
    (found,) = engine_checks.check_model()
    assert "RuntimeError: no app_label" in found.msg
    settings.SESSION_ENGINE = "tests.broken_import"
    assert list(engine_checks.check_model()) == []


@isolate_apps("dirigible_session")
@pytest.mark.parametrize("kind", ["abstract", "proxy", "child", "stranger"])
def test_a_model_without_the_columns_is_an_error(
    monkeypatch: pytest.MonkeyPatch, settings: Any, kind: str
) -> None:
    base = {"abstract": AbstractSession, "stranger": models.Model}.get(kind, Session)
    meta = type("Meta", (), {"app_label": "dirigible_session", "proxy": kind == "proxy"})
    model = type("Visit", (base,), {"Meta": meta, "__module__": __name__})
    derived(monkeypatch, settings, model)
    found = [message.id for message in checks.run_checks() if "E014" in str(message.id)]
    assert bool(found) == (kind in ("child", "stranger"))


LONG = "VisitOfAnAccountThatHasASubscriptionInOneOfManyCountries"


@isolate_apps("dirigible_session", "tests.facade")
def test_a_long_name_and_models_of_one_name_in_two_apps_pass_the_checks() -> None:
    def model(name: str, app_label: str) -> Any:
        meta = type("Meta", (AbstractSession.Meta,), {"app_label": app_label})
        return type(name, (AbstractSession,), {"Meta": meta, "__module__": __name__})

    made = [model(LONG, "dirigible_session"), model("Visit", "dirigible_session")]
    made.append(model("Visit", "another_app_whose_name_is_rather_long"))
    names = [index.name for one in made for index in one._meta.indexes]
    assert len(set(names)) == len(names) == 9
    assert max(map(len, names)) <= 30
    found = [message for one in made for message in one.check()]
    assert [message for message in found if message.id in ("models.E030", "models.E034")] == []
