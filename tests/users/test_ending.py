"""Ending one session of a user, or all of them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext
from redis.connection import Connection

from dirigible_session import users
from dirigible_session.exceptions import NoCurrentRequest
from dirigible_session.handles import digest, handle
from dirigible_session.inspection import AmbiguousHandle
from dirigible_session.signals import Reason, session_invalidated
from dirigible_session.users import end_session, end_sessions, sessions_of
from tests.visiting import Visitor

from .conftest import elsewhere


def is_logged_in(visitor: Visitor) -> bool:
    async def visit(session: Any, request: HttpRequest) -> bool:
        user = await request.auser() if visitor.is_async else request.user
        return bool(user.is_authenticated)

    return bool(visitor.visit(visit))


def are_logged_in(*visitors: Visitor) -> list[bool]:
    return [is_logged_in(visitor) for visitor in visitors]


@pytest.mark.usefixtures("listable")
class TestEndSession:
    def test_ends_the_one_that_is_named(self, site, ada):
        ways = (
            digest,
            handle,
            lambda key: handle(key).upper(),
            lambda key: digest(key)[:9],
            lambda key: key,
        )
        other = site.log_in(ada)
        for name in ways:
            one = site.log_in(ada)
            assert site.call("end_session", ada, name(one.session_key)) is True
            assert not is_logged_in(one)
        assert is_logged_in(other)

    def test_says_that_it_was_gone(self, site, ada):
        one, other = site.log_in(ada), site.log_in(ada)
        name = handle(one.session_key)
        assert site.call("end_session", ada, name) is True
        assert site.call("end_session", ada, name) is False
        assert is_logged_in(other)

    def test_never_ends_the_session_of_another_user(self, site, ada, bob):
        visitor = site.log_in(bob)
        for name in (digest(visitor.session_key), visitor.session_key):
            assert site.call("end_session", ada, name) is False
        assert is_logged_in(visitor)

    def test_ends_nothing_for_what_names_nothing(self, site, ada):
        visitor = site.log_in(ada)
        for name in ("", "abc", "nothing", "0" * 40, "é", "\0", "\udc80", "%"):
            assert site.call("end_session", ada, name) is False
        assert is_logged_in(visitor)

    def test_ends_none_of_several_that_a_prefix_names(self, site, ada, monkeypatch):
        visitors = site.log_in(ada), site.log_in(ada)
        stored = "dirigible_session.handles.SHORTEST"
        monkeypatch.setattr(stored, 0)
        with pytest.raises(AmbiguousHandle) as caught:
            site.call("end_session", ada, "")
        assert set(caught.value.digests) == {digest(visitor.session_key) for visitor in visitors}
        assert are_logged_in(*visitors) == [True, True]

    def test_of_the_current_request_leaves_it_a_new_one(self, site, ada):
        here, there = site.log_in(ada), site.log_in(ada)
        key = here.session_key

        async def visit(session: Any, request: HttpRequest) -> Any:
            await session.set_attribute("n", 1)
            if site.is_async:
                user = await request.auser()
                ended = await _aend(user, handle(key))
            else:
                user = request.user
                ended = end_session(user, handle(key))
            assert ended
            assert not request.user.is_authenticated
            assert await session.get_attribute_names() == []
            await session.set_attribute("left", "behind")

        here.visit(visit)
        assert here.response.status_code == 200
        assert here.session_key != key
        assert are_logged_in(here, there) == [False, True]
        assert here.visit(lambda session: session.get_attribute_names()) == ["left"]


async def _aend(user: Any, name: str) -> bool:
    from dirigible_session.users import aend_session

    return await aend_session(user, name)


def _setting(number: int) -> Any:
    return lambda session: session.set_attribute("n", number)


@pytest.mark.usefixtures("listable")
class TestEndSessions:
    def test_ends_all_of_the_user(self, site, ada, bob):
        hers = [site.log_in(ada) for _ in range(3)]
        his = site.log_in(bob)
        assert site.call("end_sessions", ada) == 3
        assert are_logged_in(*hers, his) == [False, False, False, True]
        assert site.call("end_sessions", ada.pk) == 0

    def test_keeps_the_current_one_if_told_to(self, site, ada):
        here, *elsewhere = (site.log_in(ada) for _ in range(3))
        assert site.call_in(here, "end_sessions", keep_current=True) == 2
        assert here.response.status_code == 200
        assert are_logged_in(here, *elsewhere) == [True, False, False]

    def test_keeps_none_of_another_user(self, site, ada, bob):
        here, there = site.log_in(bob), site.log_in(ada)

        async def visit(session: Any) -> int:
            if site.is_async:
                from dirigible_session.users import aend_sessions

                return await aend_sessions(ada, keep_current=True)
            return end_sessions(ada, keep_current=True)

        assert here.visit(visit) == 1
        assert are_logged_in(here, there) == [True, False]

    def test_keeps_the_one_that_is_being_logged_in(self, site, ada):
        other = site.log_in(ada)
        here = Visitor(is_async=site.is_async)

        async def visit(session: Any, request: HttpRequest) -> None:
            from django.contrib import auth

            from dirigible_session.users import aend_sessions

            if site.is_async:
                await auth.alogin(request, ada)
                await aend_sessions(ada, keep_current=True)
            else:
                auth.login(request, ada)
                end_sessions(ada, keep_current=True)

        here.visit(visit)
        assert are_logged_in(here, other) == [True, False]

    def test_needs_a_request_to_keep_its_session(self, site, ada):
        visitor = site.log_in(ada)
        name = "aend_sessions" if site.is_async else "end_sessions"
        with pytest.raises(NoCurrentRequest, match=rf"\b{name}\(\) needs a current request"):
            site.call("end_sessions", ada, keep_current=True)
        assert is_logged_in(visitor)

    def test_of_the_current_request_leaves_it_a_new_one(self, site, ada):
        here, there = site.log_in(ada), site.log_in(ada)
        here.visit(lambda session: session.set_attribute("cart", ["tea"]))
        assert site.call_in(here, "end_sessions") == 2
        assert here.response.status_code == 200
        assert here.session_key is None
        assert are_logged_in(here, there) == [False, False]

    def test_counts_those_that_were_live(self, site, ada, clock):
        over = site.log_in(ada)
        over.visit(lambda session: session.set_max_inactive_interval(60))
        clock.tick(61)
        site.log_in(ada)
        assert site.call("end_sessions", ada) == 1

    def test_tells_each_once_with_its_attributes(self, site, ada, bob, receive):
        received = receive(session_invalidated)
        hers = [site.log_in(ada) for _ in range(3)]
        site.log_in(bob)
        for number, visitor in enumerate(hers):
            visitor.visit(_setting(number))
        site.call("end_sessions", ada)
        site.call("end_sessions", ada)
        told = sorted(
            (named["session"]["n"], named["handle"], named["user_id"], named["reason"])
            for _, named in received
        )
        assert told == [
            (number, handle(visitor.session_key), str(ada.pk), Reason.OPERATOR)
            for number, visitor in enumerate(hers)
        ]

    def test_tells_of_the_request_in_which_it_is_called(self, site, ada, receive):
        here, *_ = (site.log_in(ada) for _ in range(2))
        received = receive(session_invalidated)
        assert site.call_in(here, "end_sessions") == 2
        assert [named["request"] for _, named in received] == [here.request] * 2
        here, there = site.log_in(ada), site.log_in(ada)
        site.call_in(here, "end_session", handle(there.session_key))
        assert received[-1][1]["request"] is here.request
        site.call("end_sessions", ada)
        assert received[-1][1]["request"] is None


class TestARivalBetween:
    """What others do after the sessions were listed, and before they are ended."""

    @pytest.mark.usefixtures("listable")
    def test_may_end_one(self, site, ada, between, receive):
        received = receive(session_invalidated)
        one, _ = site.log_in(ada), site.log_in(ada)
        between(lambda: end_session(ada, handle(one.session_key)))
        assert site.call("end_sessions", ada) == 1
        assert sessions_of(ada) == []
        assert len({named["handle"] for _, named in received}) == len(received) == 2

    @pytest.mark.usefixtures("listable")
    def test_may_end_the_one_that_is_named(self, site, ada, between):
        one = site.log_in(ada)
        between(lambda: end_sessions(ada))
        assert site.call("end_session", ada, handle(one.session_key)) is False

    @pytest.mark.usefixtures("own")
    def test_may_change_the_id_of_one(self, site, ada, between):
        one, _ = site.log_in(ada), site.log_in(ada)
        between(lambda: one.visit(lambda session: session.change_session_id()))
        assert site.call("end_sessions", ada) == 2
        assert not is_logged_in(one)

    @pytest.mark.usefixtures("own")
    def test_may_change_the_id_again_and_again_and_keep_nobody_waiting(
        self, site, ada, monkeypatch
    ):
        one = site.log_in(ada)
        read = users._stored

        def read_and_let(*args: Any, **named: Any) -> Any:
            stored = read(*args, **named)
            one.visit(lambda session: session.change_session_id())
            return stored

        monkeypatch.setattr(users, "_stored", read_and_let)
        assert site.call("end_sessions", ada) == 0

    @pytest.mark.usefixtures("own")
    def test_may_save_one(self, site, ada, between):
        one = site.log_in(ada)
        between(lambda: one.visit(lambda session: session.set_attribute("n", 1)))
        assert site.call("end_sessions", ada) == 1
        assert not is_logged_in(one)

    @pytest.mark.usefixtures("listable")
    def test_is_answered_as_django_does_and_brings_nothing_back(self, site, ada):
        visitor = site.log_in(ada)

        async def visit(session: Any) -> None:
            await session.set_attribute("n", 1)
            await elsewhere(end_sessions, ada)

        visitor.visit(visit)
        assert visitor.response.status_code == 400
        assert sessions_of(ada) == []


class TestStatements:
    def test_ending_the_others_takes_two(self, use_engine, site, ada, bob):
        use_engine("dirigible_session.backends.db")
        for _ in range(20):
            site.log_in(ada)
            site.log_in(bob)
        with CaptureQueriesContext(connection) as captured:
            assert end_sessions(ada) == 20
        assert len(captured) == 2

    def test_ending_one_takes_two(self, use_engine, site, ada):
        use_engine("dirigible_session.backends.db")
        visitor = site.log_in(ada)
        with CaptureQueriesContext(connection) as captured:
            assert end_session(ada, handle(visitor.session_key))
        assert len(captured) == 2

    @pytest.mark.parametrize("size", [1, 20])
    def test_on_redis_it_takes_two_round_trips_to_list_and_two_to_end(
        self, redis_server, site, ada, bob, monkeypatch, size
    ):
        for _ in range(size):
            site.log_in(ada)
            site.log_in(bob)
        # The connections are there, and the server knows the script.
        end_session(bob, sessions_of(bob)[0].digest)
        sent = []
        send = Connection.send_packed_command

        def send_and_count(connection: Any, command: Any, *args: Any, **named: Any) -> Any:
            sent.append(command)
            return send(connection, command, *args, **named)

        monkeypatch.setattr(Connection, "send_packed_command", send_and_count)
        assert len(sessions_of(ada)) == size
        assert len(sent) == 2
        sent.clear()
        assert end_sessions(ada) == size
        assert len(sent) == 4
