"""Which sessions a user has."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from dirigible_session import facade, users
from dirigible_session.handles import digest, handle
from dirigible_session.inspection import NotListable
from dirigible_session.users import sessions_of
from tests.visiting import Visitor


def handles_of(user: Any) -> list[str]:
    return [record.handle for record in sessions_of(user)]


@pytest.mark.usefixtures("listable")
class TestSessionsOf:
    def test_are_those_of_the_user_the_one_accessed_last_first(self, site, ada, bob, clock):
        first, second, third = (site.log_in(ada) for _ in range(3) if not clock.tick(100))
        site.log_in(bob)
        Visitor(is_async=site.is_async).visit(lambda session: session.set_attribute("n", 1))
        clock.tick(100)
        first.visit(lambda session: session.set_attribute("n", 1))
        records = site.call("sessions_of", ada)
        assert [record.handle for record in records] == [
            handle(visitor.session_key) for visitor in (first, third, second)
        ]
        assert {(r.username, r.user_id, r.state) for r in records} == {
            ("ada", str(ada.pk), "active")
        }
        assert records[0].attributes == {"n": 1}
        assert [record.last_accessed.timestamp() for record in records] == [
            clock.now, clock.now - 100, clock.now - 200
        ]  # fmt: skip

    def test_tell_which_is_the_current_one(self, site, ada):
        here, _ = site.log_in(ada), site.log_in(ada)
        assert [record.is_current for record in site.call("sessions_of", ada)] == [False, False]
        records = site.call_in(here, "sessions_of")
        assert {r.digest: r.is_current for r in records}[digest(here.session_key)] is True
        assert sorted(record.is_current for record in records) == [False, True]

    def test_are_not_current_to_another_user(self, site, ada, bob):
        site.log_in(ada)
        here = site.log_in(bob)
        (record,) = here.visit(lambda session, request: _async(sessions_of, site, ada))
        assert not record.is_current

    def test_are_live(self, site, ada, clock):
        visitor = site.log_in(ada)
        visitor.visit(lambda session: session.set_max_inactive_interval(60))
        assert len(site.call("sessions_of", ada)) == 1
        clock.tick(61)
        assert site.call("sessions_of", ada) == []

    def test_are_found_by_whatever_names_the_user(self, ada, site):
        site.log_in(ada)
        for user in (ada.pk, str(ada.pk), SimpleLazyObject(lambda: ada)):
            (record,) = site.call("sessions_of", user)
            assert record.username == "ada"

    def test_of_a_deleted_user_are_found_by_primary_key(self, ada, site):
        site.log_in(ada)
        pk = ada.pk
        ada.delete()
        (record,) = site.call("sessions_of", pk)
        assert (record.user_id, record.username) == (str(pk), None)

    def test_hide_secrets(self, ada, site):
        site.log_in(ada).visit(lambda session: session.set_attribute("api_token", "t0ps3cret"))
        (record,) = site.call("sessions_of", ada)
        assert "t0ps3cret" not in repr(record)
        assert record.session_key is None


async def _async(function: Any, site: Any, *args: Any) -> Any:
    return (
        (await getattr(users, f"a{function.__name__}")(*args)) if site.is_async else function(*args)
    )


@pytest.mark.usefixtures("listable")
def test_what_a_process_without_this_package_stored_is_there(ada, site, store_class):
    session = store_class()
    session["_auth_user_id"] = str(ada.pk)
    session.save()
    new = site.log_in(ada)
    assert set(handles_of(ada)) == {handle(session.session_key), handle(new.session_key)}
    assert site.call("end_sessions", ada) == 2


@pytest.mark.usefixtures("own")
def test_of_two_accessed_at_once_the_one_logged_in_last_comes_first(ada, site, clock):
    first = site.log_in(ada)
    clock.tick(10)
    second = site.log_in(ada)
    clock.tick(100)
    for visitor in (second, first):
        visitor.visit(lambda session: session.set_attribute("n", 1))
    assert handles_of(ada) == [handle(visitor.session_key) for visitor in (second, first)]


@pytest.mark.usefixtures("listable")
@pytest.mark.parametrize("nobody", [AnonymousUser(), None, get_user_model()(username="new")])
def test_nobody_has_sessions(site, ada, nobody):
    Visitor(is_async=site.is_async).visit(lambda session: session.set_attribute("n", 1))
    site.log_in(ada)
    assert site.call("sessions_of", nobody) == []
    assert site.call("end_sessions", nobody) == 0
    assert site.call("end_session", nobody, handles_of(ada)[0]) is False
    assert len(handles_of(ada)) == 1


@pytest.mark.usefixtures("db_engine", "db")
def test_what_is_no_user_is_told(site):
    with pytest.raises(ValueError, match="'ada' is not a valid primary key of a user"):
        site.call("sessions_of", "ada")
    with pytest.raises(TypeError, match="<Group: staff> is not a user: AUTH_USER_MODEL is"):
        site.call("end_sessions", Group(pk=1, name="staff"))


@pytest.mark.parametrize("engine", ["signed_cookies", "cache"])
def test_an_engine_that_cannot_be_listed_says_so(use_engine, engine, site, ada):
    use_engine(engine)
    for function, args in (("sessions_of", ()), ("end_sessions", ()), ("end_session", ("abcd",))):
        with pytest.raises(NotListable):
            site.call(function, ada, *args)


def test_listing_takes_one_statement_however_many_others_there_are(use_engine, ada, bob, site):
    use_engine("dirigible_session.backends.db")
    site.log_in(ada)
    for _ in range(20):
        site.log_in(bob)
    with CaptureQueriesContext(connection) as captured:
        assert len(sessions_of(ada)) == 1
    assert len(captured) == 1
    with CaptureQueriesContext(connection) as captured:
        assert len(sessions_of(ada.pk)) == 1
    assert len(captured) == 2


@pytest.mark.parametrize("name", ["sessions_of", "end_session", "end_sessions"])
def test_an_async_twin_has_the_signature_of_its_function(name):
    function, twin = getattr(users, name), getattr(users, f"a{name}")
    assert inspect.iscoroutinefunction(twin)
    assert inspect.signature(function) == inspect.signature(twin)


@pytest.mark.usefixtures("listable")
def test_an_opened_session_is_the_current_one(ada, site):
    visitor = site.log_in(ada)
    with facade.open_session(visitor.session_key):
        (record,) = sessions_of(ada)
    assert record.is_current
