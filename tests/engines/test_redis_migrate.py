"""``sessions_migrate`` into the Redis engine and out of it again."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

import pytest
from django.core.management import call_command

from dirigible_session import handles
from dirigible_session.backends.base import Query

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_anywhere")]

STOCK = "django.contrib.sessions.backends.db"
OWN_DB = "dirigible_session.backends.db"
REDIS = "dirigible_session.backends.redis"


def store(engine: str, key: str | None = None) -> Any:
    return import_module(engine).SessionStore(key)


def stored(engine: str, **attributes: Any) -> str:
    session = store(engine)
    session.update(attributes)
    session.save()
    return session.session_key


def migrate(origin: str) -> str:
    out = io.StringIO()
    call_command("sessions_migrate", f"--from={origin}", stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("origin", [STOCK, OWN_DB])
def test_sessions_come_over_and_are_found_by_their_user(origin: str) -> None:
    key = stored(origin, _auth_user_id="7", cart=[1], b=2, a=1)
    assert "Copied 1" in migrate(origin)
    session = store(REDIS, key)
    assert list(session.items()) == [("_auth_user_id", "7"), ("cart", [1]), ("b", 2), ("a", 1)]
    found = type(session).list_stored(Query(now=0, user_id="7"))
    assert [one.digest for one in found] == [handles.digest(key)]


def test_a_second_run_takes_over_what_was_written_since_and_no_more() -> None:
    changed, used, ended = (stored(STOCK, n=number) for number in range(3))
    migrate(STOCK)
    for key, engine in ((changed, STOCK), (used, STOCK), (used, REDIS)):
        session = store(engine, key)
        session["by"] = engine
        session.save()
    store(STOCK, ended).delete()
    assert "took over 1 again, ended 1" in migrate(STOCK)
    assert dict(store(REDIS, changed).items()) == {"n": 0, "by": STOCK}
    assert dict(store(REDIS, used).items()) == {"n": 1, "by": REDIS}
    assert store(REDIS, ended).load() == {}


def test_a_write_between_the_look_and_the_take_over_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    key = stored(STOCK, n=1)
    migrate(STOCK)
    session = store(STOCK, key)
    session["n"] = 2
    session.save()
    store_class = type(store(REDIS))
    replace = store_class._replace

    def replace_late(*args: Any) -> bool:
        rival = store(REDIS, key)
        rival["rival"] = 1
        rival.save()
        return replace(*args)

    monkeypatch.setattr(store_class, "_replace", replace_late)
    migrate(STOCK)
    assert dict(store(REDIS, key).items()) == {"n": 1, "rival": 1}


def test_the_way_back_is_open(settings: Any) -> None:
    key = stored(REDIS, _auth_user_id="7", cart=[1])
    settings.SESSION_ENGINE = OWN_DB
    assert "Copied 1" in migrate(REDIS)
    assert dict(store(OWN_DB, key).items()) == {"_auth_user_id": "7", "cart": [1]}
