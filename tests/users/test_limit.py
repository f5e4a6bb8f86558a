"""No more sessions of a user than ``DIRIGIBLE_SESSION_MAX_PER_USER`` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import auth
from django.http import HttpRequest
from django.test import Client

from dirigible_session import users
from dirigible_session.handles import handle
from dirigible_session.signals import Reason, session_invalidated
from dirigible_session.users import end_sessions, sessions_of
from tests.visiting import Visitor

from .conftest import elsewhere


@pytest.fixture(autouse=True)
def _limit(settings: Any) -> None:
    settings.DIRIGIBLE_SESSION_MAX_PER_USER = 2


def handles_of(*visitors: Visitor) -> set[str]:
    return {handle(visitor.session_key) for visitor in visitors}


def left(user: Any) -> set[str]:
    return {record.handle for record in sessions_of(user)}


def log_in(user: Any) -> Visitor:
    visitor = Visitor(is_async=False)
    visitor.log_in(user)
    return visitor


def use(visitor: Visitor) -> None:
    visitor.visit(lambda session: session.get_attribute_names())


def two_for_most(user: Any) -> int | None:
    return None if user.is_superuser else 2


def nonsense(user: Any) -> str:
    return "two"


@pytest.mark.usefixtures("own")
class TestALogin:
    def test_ends_what_was_accessed_longest_ago(self, site, ada, bob, clock):
        first, second = (site.log_in(ada) for _ in range(2) if not clock.tick(100))
        his = site.log_in(bob)
        clock.tick(100)
        use(first)
        third = site.log_in(ada)
        assert left(ada) == handles_of(first, third)
        assert left(bob) == handles_of(his)
        assert second.response.status_code == 200

    def test_is_kept_itself_where_the_clock_stands_still(self, site, ada, clock):
        for _ in range(6):
            visitor = site.log_in(ada)
            assert handles_of(visitor) <= left(ada)
        assert len(left(ada)) == 2

    def test_is_kept_itself_although_another_was_accessed_after_it(
        self, site, ada, settings, clock
    ):
        settings.DIRIGIBLE_SESSION_MAX_PER_USER = 1
        old, new = log_in(ada), Visitor(is_async=site.is_async)
        clock.tick(100)

        async def visit(session: Any, request: HttpRequest) -> None:
            await login(site, request, ada)
            clock.tick(100)
            await elsewhere(use, old)

        new.visit(visit)
        assert left(ada) == handles_of(new)

    def test_is_told_with_its_reason(self, site, ada, receive):
        received = receive(session_invalidated)
        first = site.log_in(ada)
        ended = handles_of(first)
        site.log_in(ada)
        assert not received
        last = site.log_in(ada)
        ((_, named),) = received
        assert {named["handle"]} == ended
        assert named["request"] is last.request
        assert (named["reason"], named["user_id"]) == (Reason.LIMIT, str(ada.pk))
        assert named["session"]["_auth_user_id"] == str(ada.pk)

    def test_ends_as_many_as_there_are_too_many(self, site, ada, settings):
        settings.DIRIGIBLE_SESSION_MAX_PER_USER = None
        for _ in range(5):
            site.log_in(ada)
        settings.DIRIGIBLE_SESSION_MAX_PER_USER = 2
        last = site.log_in(ada)
        assert len(left(ada)) == 2
        assert handles_of(last) <= left(ada)

    def test_does_not_count_what_is_over(self, site, ada, clock):
        over = site.log_in(ada)
        over.visit(lambda session: session.set_max_inactive_interval(60))
        clock.tick(30)
        one = site.log_in(ada)
        clock.tick(31)
        assert left(ada) == handles_of(one)
        another = site.log_in(ada)
        assert left(ada) == handles_of(one, another)

    def test_of_whom_the_function_exempts_ends_nothing(self, site, ada, bob, settings):
        settings.DIRIGIBLE_SESSION_MAX_PER_USER = f"{__name__}.two_for_most"
        ada.is_superuser = True
        ada.save()
        for user in (ada, bob):
            for _ in range(4):
                site.log_in(user)
        assert (len(left(ada)), len(left(bob))) == (4, 2)

    def test_by_a_client_that_no_middleware_serves_counts(self, ada):
        for _ in range(4):
            client = Client()
            client.force_login(ada)
        assert len(left(ada)) == 2
        assert {handle(client.cookies["sessionid"].value)} <= left(ada)

    def test_where_no_middleware_of_ours_is_counts_at_once(self, site, ada, settings, caplog):
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "dirigible" not in name]
        visitors = [site.log_in(ada) for _ in range(4)]
        assert len(left(ada)) == 2
        assert handles_of(visitors[-1]) <= left(ada)
        assert not caplog.records

    def test_by_the_same_user_again_counts_once(self, site, ada):
        one, two = site.log_in(ada), site.log_in(ada)
        two.log_in(ada)
        assert left(ada) == handles_of(one, two)

    def test_that_is_undone_in_its_request_ends_nothing(self, site, ada):
        visitors = site.log_in(ada), site.log_in(ada)

        async def visit(session: Any, request: HttpRequest) -> None:
            await login(site, request, ada)
            await (auth.alogout(request) if site.is_async else _sync(auth.logout, request))
            await session.set_attribute("n", 1)

        Visitor(is_async=site.is_async).visit(visit)
        assert left(ada) == handles_of(*visitors)


async def login(site: Any, request: HttpRequest, user: Any) -> None:
    await (auth.alogin(request, user) if site.is_async else _sync(auth.login, request, user))


async def _sync(function: Callable[..., Any], *args: Any) -> None:
    function(*args)


@pytest.mark.usefixtures("own")
class TestARivalLogin:
    def test_may_end_the_session_of_a_login_that_is_not_answered_yet(self, site, ada, settings):
        settings.DIRIGIBLE_SESSION_MAX_PER_USER = 1

        async def visit(session: Any, request: HttpRequest) -> None:
            await login(site, request, ada)
            await (request.session.asave() if site.is_async else _sync(request.session.save))
            await elsewhere(end_sessions, ada.pk)
            await session.set_attribute("n", 1)

        visitor = Visitor(is_async=site.is_async)
        visitor.visit(visit)
        assert visitor.response.status_code == 200
        assert left(ada) == set()

    def test_that_came_later_is_not_ended_by_one_that_is_answered_after_it(
        self, site, ada, settings, clock
    ):
        settings.DIRIGIBLE_SESSION_MAX_PER_USER = 1
        rival = []

        async def visit(session: Any, request: HttpRequest) -> None:
            await login(site, request, ada)
            clock.tick(1)
            rival.append(await elsewhere(log_in, ada))
            clock.tick(1)

        slow = Visitor(is_async=site.is_async)
        slow.visit(visit)
        assert slow.response.status_code == 200
        assert left(ada) == handles_of(*rival)

    def test_that_came_later_is_left_beside_the_slow_one_where_two_may_be(self, site, ada, clock):
        old = site.log_in(ada)
        clock.tick(1)
        rival = []

        async def visit(session: Any, request: HttpRequest) -> None:
            await login(site, request, ada)
            clock.tick(1)
            rival.append(await elsewhere(log_in, ada))
            clock.tick(1)

        slow = Visitor(is_async=site.is_async)
        slow.visit(visit)
        assert left(ada) == handles_of(slow, *rival)
        assert old.session_key


@pytest.mark.usefixtures("own")
def test_a_store_that_fails_stops_no_login(site, ada, monkeypatch, caplog):
    def fail(*args: Any, **named: Any) -> Any:
        raise OSError("unplugged")

    monkeypatch.setattr(users, "_stored", fail)
    assert site.log_in(ada).response.status_code == 200
    assert "unplugged" in caplog.text


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("wrong", [True, 2.5, f"{__name__}.nonsense"])
def test_a_wrong_value_is_logged_at_the_login(site, ada, settings, wrong, caplog):
    settings.DIRIGIBLE_SESSION_MAX_PER_USER = wrong
    assert site.log_in(ada).response.status_code == 200
    assert "MAX_PER_USER must be None, a number, or the dotted path" in caplog.text


@pytest.mark.parametrize("engine", ["db", "file", "signed_cookies"])
def test_engines_of_others_are_left_alone(use_engine, engine, ada):
    use_engine(engine)
    for _ in range(3):
        Visitor(is_async=False).log_in(ada)


@pytest.mark.usefixtures("own")
def test_without_a_limit_nothing_is_read(site, ada, settings, monkeypatch):
    settings.DIRIGIBLE_SESSION_MAX_PER_USER = None
    monkeypatch.setattr(users, "_stored", None)
    assert site.log_in(ada).response.status_code == 200
