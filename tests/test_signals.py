"""The signals: which, how often, in which order, with what, and who may fail."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from functools import partial

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpResponse
from django.test import RequestFactory

from dirigible_session import facade, signals
from dirigible_session.exceptions import AttributeNotSerializable
from dirigible_session.facade import open_session, use_request
from dirigible_session.handles import handle
from dirigible_session.signals import (
    Reason,
    attribute_added,
    attribute_removed,
    attribute_replaced,
    session_created,
    session_id_changed,
    session_invalidated,
)

from .conftest import ENGINES_ON_SERVER
from .visiting import Visitor

ALL = [value for value in vars(signals).values() if isinstance(value, signals.Signal)]


async def _store(session):
    await session.set_attribute("name", 1)


def _without(named, *names):
    return {name: value for name, value in named.items() if name not in names}


def _told(received):
    return [(signal, _without(named, "sender", "session", "request")) for signal, named in received]


@pytest.mark.usefixtures("engine")
class TestAttributes:
    def test_each_change_through_the_facade_is_told_in_order(self, visitor, receive):
        received = receive(attribute_added, attribute_replaced, attribute_removed)

        async def visit(session):
            await session.set_attribute("name", (1,))
            await session.set_attribute("name", 2)
            await session.remove_attribute("name")
            await session.remove_attribute("name")
            await session.set_attribute("name", 3)
            await session.set_attribute("name", None)
            await session.set_attribute("name", None)

        visitor.visit(visit)
        assert _told(received) == [
            (attribute_added, {"name": "name", "value": [1]}),
            (attribute_replaced, {"name": "name", "value": 2, "old_value": [1]}),
            (attribute_removed, {"name": "name", "old_value": 2}),
            (attribute_added, {"name": "name", "value": 3}),
            (attribute_removed, {"name": "name", "old_value": 3}),
        ]

    def test_each_carries_its_sender_session_and_request(self, visitor, receive, store_class):
        received = receive(attribute_added)
        visitor.visit(_store)
        [(_, named)] = received
        assert named["sender"] is store_class
        assert named["session"] is visitor.request.session
        assert named["request"] is visitor.request

    def test_they_are_told_after_the_change_took_effect(self, visitor):
        seen = []

        def receiver(signal, session, **named):
            seen.append((facade.is_valid(), session.get("name")))

        attribute_added.connect(receiver)
        attribute_removed.connect(receiver)
        try:
            visitor.visit(_store)
            visitor.visit(lambda session: session.remove_attribute("name"))
        finally:
            attribute_added.disconnect(receiver)
            attribute_removed.disconnect(receiver)
        assert seen[0] == (not visitor.is_async or True, 1)
        assert seen[1][1] is None

    def test_a_value_changed_in_place_is_told_at_the_end_of_the_request(self, visitor, receive):
        visitor.visit(lambda session: session.set_attribute("cart", [1]))
        received = receive(*ALL)

        async def visit(session):
            (await session.get_attribute("cart")).append(2)
            assert received == []

        visitor.visit(visit)
        assert _told(received) == [
            (attribute_replaced, {"name": "cart", "value": [1, 2], "old_value": [1]})
        ]

    def test_the_old_value_is_the_one_before_it_was_changed_in_place(self, visitor, receive):
        visitor.visit(lambda session: session.set_attribute("cart", [1]))
        received = receive(attribute_replaced, attribute_removed)

        async def visit(session):
            (await session.get_attribute("cart")).append(2)
            (await session.set_attribute("cart", [])).append(3)
            await session.remove_attribute("cart")

        visitor.visit(visit)
        assert [named["old_value"] for _, named in received] == [[1], []]

    def test_what_is_refused_or_only_read_is_not_told(self, visitor, receive):
        visitor.visit(lambda session: session.set_attribute("cart", [1]))
        received = receive(*ALL)

        async def visit(session):
            await session.get_attribute("cart")
            with pytest.raises(AttributeNotSerializable):
                await session.set_attribute("cart", object())

        visitor.visit(visit)
        assert received == []

    def test_changes_made_on_request_session_are_not_told(self, visitor, receive):
        received = receive(attribute_added, attribute_replaced, attribute_removed)

        async def visit(session, request):
            await session.get_attribute_names()
            request.session["name"] = 1
            request.session["name"] = 2
            del request.session["name"]

        visitor.visit(visit)
        assert received == []


@pytest.mark.usefixtures("engine")
class TestCreated:
    def test_once_at_the_end_of_the_request(self, visitor, receive):
        received = receive(session_created)

        async def visit(session):
            await session.get_id()
            await _store(session)
            await session.change_session_id()
            assert received == []

        visitor.visit(visit)
        visitor.visit(_store)
        [(_, named)] = received
        assert named["request"] is not None
        assert named["session"].session_key

    def test_whoever_created_it(self, visitor, another_visitor, receive, user):
        received = receive(session_created)
        visitor.log_in(user)
        assert len(received) == 1

        async def visit(session, request):
            await session.get_attribute_names()
            request.session["name"] = 1

        another_visitor.visit(visit)
        assert len(received) == 2

    def test_not_for_who_only_reads(self, visitor, receive):
        received = receive(session_created)
        visitor.visit(lambda session: session.get_attribute("name"))
        visitor.visit(lambda session: session.invalidate())
        assert received == []

    def test_not_for_a_login_in_a_known_session(self, visitor, receive, user):
        visitor.visit(_store)
        received = receive(session_created)
        visitor.log_in(user)
        assert received == []

    def test_for_the_session_that_follows_an_invalidated_one(self, visitor, receive):
        visitor.visit(_store)
        received = receive(session_created, session_invalidated)

        async def visit(session):
            await session.invalidate()
            await _store(session)

        visitor.visit(visit)
        assert [signal for signal, _ in received] == [session_invalidated, session_created]

    def test_one_that_is_ended_in_the_same_request_is_told_before_its_end(
        self, engine, visitor, receive
    ):
        received = receive(session_created, session_invalidated)

        async def visit(session):
            await session.get_id()
            await session.invalidate()

        visitor.visit(visit)
        told = [signal for signal, _ in received]
        # A cookie that was never sent was never stored.
        is_cookie = engine == "signed_cookies"
        assert told == ([] if is_cookie else [session_created, session_invalidated])


@pytest.mark.usefixtures("server_engine")
class TestCreatedWhateverTheResponse:
    def test_a_5xx(self, visitor, receive):
        received = receive(session_created)

        async def visit(session):
            await session.get_id()
            return HttpResponse(status=500)

        visitor.visit(visit)
        assert len(received) == 1

    def test_not_for_a_5xx_that_stored_nothing(self, visitor, receive):
        received = receive(session_created)

        async def visit(session):
            await _store(session)
            return HttpResponse(status=500)

        visitor.visit(visit)
        assert received == []

    @pytest.mark.parametrize("error", [LookupError, SystemExit])
    def test_a_view_that_raises(self, visitor, receive, error):
        received = receive(session_created)

        async def visit(session):
            await session.get_id()
            raise error

        with pytest.raises(error):
            visitor.visit(visit)
        assert len(received) == 1
        assert facade.is_valid() is False

    def test_a_value_that_cannot_be_stored(self, visitor, receive):
        received = receive(session_created)

        async def visit(session):
            await session.get_id()
            (await session.set_attribute("cart", [])).append(object())

        with pytest.raises(AttributeNotSerializable):
            visitor.visit(visit)
        assert len(received) == 1


@pytest.mark.usefixtures("engine")
class TestEndAndChangeOfId:
    def test_an_invalidated_session_is_told_while_it_can_be_read(self, visitor):
        session_id = visitor.visit(lambda session: session.get_id())
        visitor.visit(_store)
        told = []

        def receiver(signal, session, handle, request, **named):
            told.append((session["name"], handle, request is not None))

        session_invalidated.connect(receiver)
        try:
            visitor.visit(lambda session: session.invalidate())
        finally:
            session_invalidated.disconnect(receiver)
        assert told == [(1, handle(session_id), True)]

    def test_it_stands_for_all_attributes(self, visitor, receive):
        visitor.visit(_store)
        received = receive(attribute_removed)
        visitor.visit(lambda session: session.invalidate())
        assert received == []

    def test_it_is_told_once_by_two_tasks_that_end_it_at_once(self, receive):
        visitor = Visitor(is_async=True)
        visitor.visit(_store)
        received = receive(session_invalidated)

        async def end_and_go_on(session):
            await session.invalidate()
            await session.set_attribute("after", 1)

        async def visit(session):
            await asyncio.gather(end_and_go_on(session), session.invalidate())

        visitor.visit(visit)
        assert len(received) == 1
        assert visitor.visit(lambda session: session.get_attribute_names()) == ["after"]

    def test_a_receiver_may_end_the_session_itself(self, visitor):
        visitor.visit(_store)
        told = []

        def receiver(session, **named):
            told.append(session["name"])
            if not visitor.is_async:
                facade.invalidate()

        async def areceiver(session, **named):
            if visitor.is_async:
                await facade.ainvalidate()

        session_invalidated.connect(receiver)
        session_invalidated.connect(areceiver)
        try:
            visitor.visit(lambda session: session.invalidate())
        finally:
            session_invalidated.disconnect(receiver)
            session_invalidated.disconnect(areceiver)
        assert told == [1]
        assert visitor.visit(lambda session: session.get_attribute_names()) == []

    def test_each_session_that_is_ended_in_a_request_is_told(self, engine, visitor, receive):
        received = receive(session_invalidated)

        async def visit(session):
            for _ in range(2):
                await session.get_id()
                await session.set_attribute("name", 1)
                await session.invalidate()

        visitor.visit(visit)
        is_cookie = engine == "signed_cookies"
        assert len({named["handle"] for _, named in received}) == (0 if is_cookie else 2)

    def test_nothing_is_told_where_there_was_no_session(self, visitor, receive):
        received = receive(session_invalidated)
        visitor.visit(lambda session: session.invalidate())
        visitor.session_key = "nosuchsession0000000000000000000"
        visitor.visit(lambda session: session.invalidate())
        assert received == []

    def test_a_change_of_id_carries_both_handles(self, visitor, receive):
        visitor.visit(_store)
        received = receive(session_id_changed)

        async def visit(session):
            return await session.get_id(), await session.change_session_id()

        old_id, new_id = visitor.visit(visit)
        assert _told(received) == [
            (session_id_changed, {"old_handle": handle(old_id), "new_handle": handle(new_id)})
        ]

    def test_a_first_id_is_no_change(self, visitor, receive):
        received = receive(session_id_changed)
        visitor.visit(lambda session: session.change_session_id())
        assert received == []


class TestTwoRequestsThatFindOneEnd:
    """The rival comes while the other request is under way."""

    @pytest.fixture(autouse=True, params=[*ENGINES_ON_SERVER, "dirigible_session.backends.db"])
    def name(self, request, use_engine):
        use_engine(request.param)
        return request.param

    def _visit(self, visitor, rival, then):
        def come():
            other = Visitor(is_async=False)
            other.session_key = visitor.session_key
            other.visit(rival)

        async def visit(session):
            assert await session.get_attribute("name") in (1, None)
            come_outside = partial(Context().run, come)
            if visitor.is_async:
                await sync_to_async(come_outside)()
            else:
                come_outside()
            await then(session)

        visitor.visit(visit)

    def test_tell_once_of_one_that_both_end(self, visitor, receive):
        visitor.visit(_store)
        received = receive(session_invalidated)
        end = lambda session: session.invalidate()  # noqa: E731
        self._visit(visitor, rival=end, then=end)
        assert [named["reason"] for _, named in received] == [Reason.INVALIDATED]

    def test_tell_once_of_one_that_is_over(self, name, visitor, receive, clock):
        visitor.visit(lambda session: session.set_max_inactive_interval(100))
        visitor.visit(_store)
        clock.tick(100)
        received = receive(session_invalidated)
        look = lambda session: session.get_attribute("name")  # noqa: E731
        self._visit(visitor, rival=look, then=look)
        # A cache forgets by itself what is over.
        told = [] if name == "cache" else [Reason.IDLE]
        assert [named["reason"] for _, named in received] == told


def test_in_an_opened_session_there_is_no_request(server_engine, receive, store_class):
    visitor = Visitor(is_async=False)
    session_id = visitor.visit(lambda session: session.get_id())
    received = receive(*ALL)
    with open_session(session_id):
        facade.set_attribute("cart", []).append(1)
        facade.change_session_id()
        facade.invalidate()
    assert [signal for signal, _ in received] == [
        attribute_added,
        session_id_changed,
        session_invalidated,
    ]
    assert {named["request"] for _, named in received} == {None}
    assert {named["sender"] for _, named in received} == {store_class}


@pytest.mark.usefixtures("engine")
class TestReceiversThatFail:
    @pytest.fixture
    def failing(self):
        class Receiver:
            async def __call__(self, **named):
                raise LookupError("async callable without a name")

        def fail(reason, **named):
            raise LookupError(reason)

        async def afail(**named):
            raise LookupError("async")

        receivers = [partial(fail, "partial"), fail, afail]
        for receiver in receivers:
            attribute_added.connect(receiver, weak=False)
        yield
        for receiver in receivers:
            attribute_added.disconnect(receiver)

    def test_they_are_logged_and_stop_nothing(self, visitor, failing, receive, caplog):
        received = receive(attribute_added)
        visitor.visit(_store)
        assert len(received) == 1
        records = [record for record in caplog.records if record.name == "dirigible_session"]
        assert len(records) == 3
        assert all(record.levelno == logging.ERROR and record.exc_info for record in records)
        assert visitor.visit(lambda session: session.get_attribute("name")) == 1


@pytest.fixture
def areceived():
    """What an async receiver of attribute_added and session_created was told."""
    received = []

    async def receiver(signal, **named):
        await asyncio.sleep(0)
        received.append(signal)

    for signal in (attribute_added, session_created):
        signal.connect(receiver)
    yield received
    for signal in (attribute_added, session_created):
        signal.disconnect(receiver)


@pytest.mark.usefixtures("engine")
class TestAsyncReceivers:
    def test_they_are_told(self, visitor, areceived):
        visitor.visit(_store)
        assert areceived == [attribute_added, session_created]

    def test_they_are_told_of_what_sync_code_did_in_an_event_loop(self, areceived, receive):
        received = receive(attribute_added)

        async def visit(session):
            facade.set_attribute("a", 1)
            assert len(received) == 1
            assert areceived == []
            await session.set_attribute("b", 2)
            assert areceived == [attribute_added] * 2
            await sync_to_async(facade.set_attribute)("c", 3)
            assert areceived == [attribute_added] * 3
            facade.set_attribute("d", 4)

        Visitor(is_async=True).visit(visit)
        assert areceived == [attribute_added] * 4 + [session_created]
        assert len(received) == 4

    def test_they_are_told_of_what_use_request_ended_with(self, areceived, store_class):
        request = RequestFactory().get("/")
        request.session = store_class()

        async def run():
            with use_request(request):
                facade.set_attribute("name", 1)
            while not areceived:
                await asyncio.sleep(0)

        async_to_sync(run)()
        assert areceived == [attribute_added]
