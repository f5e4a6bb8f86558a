"""Reading engines that declare that they can list their sessions."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError

from dirigible_session import handles, signals
from dirigible_session.inspection import (
    AmbiguousHandle,
    Inspector,
    NoSuchSession,
    NotListable,
    Selection,
    StoreFailed,
)

from . import declared_engine
from .declared_engine import Shelf

A, B = "aaaa1" + "0" * 35, "aaaa2" + "0" * 35


@pytest.fixture(autouse=True)
def shelf(use_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    use_engine(declared_engine.__name__)
    shelf = Shelf()
    monkeypatch.setattr(declared_engine, "shelf", shelf)
    return shelf


def test_it_gives_what_the_engine_lists(shelf, read, clock):
    shelf.put(A, {"cart": [1], "_auth_user_id": "7"}, created=clock.now, accessed=clock.now)
    shelf.put(B, None, error="row is damaged")
    first, second = read(reveal=True)
    assert (first.digest, first.handle, first.state) == (A, A[:12], "active")
    assert (first.user_id, first.username, first.attributes) == ("7", None, {"cart": [1]})
    assert first.created == clock.datetime()
    assert first.session_key is None
    assert (second.state, second.error) == ("unreadable", "row is damaged")


def test_the_engine_is_asked_for_what_it_can_find_by_its_indexes(shelf, read, clock):
    read(user_id="7", state="active")
    (query,) = shelf.queries
    assert (query.user_id, query.state, query.now) == ("7", "active", clock.now)


def test_the_engine_is_asked_for_all_states_where_unreadable_ones_are_wanted(shelf, read):
    read(state="active")
    read(state="expired", anonymous=True)
    assert [query.state for query in shelf.queries] == ["all", "all"]


def test_a_handle_finds_its_session_by_index(shelf):
    shelf.put(A, {})
    shelf.put(B, {})
    assert Inspector().find("AAAA1") == A
    assert shelf.queries[-1].digest_prefix == "aaaa1"
    with pytest.raises(AmbiguousHandle):
        Inspector().find("aaaa")
    with pytest.raises(NoSuchSession):
        Inspector().find("bbbb")


def test_a_full_key_finds_its_session(shelf):
    shelf.put(handles.digest("k" * 32), {})
    assert Inspector().find("k" * 32) == handles.digest("k" * 32)


def test_a_session_is_ended_through_its_store(shelf, receive):
    received = receive(signals.session_invalidated)
    shelf.put(A, {"cart": [1]})
    shelf.put(B, {"cart": [2]})
    assert Inspector().invalidate(Selection(session=A, state="all")) == 1
    assert list(shelf.stored) == [B]
    ((_, named),) = received
    assert named["sender"] is declared_engine.SessionStore
    assert named["session"]["cart"] == [1]
    assert named["handle"] == A[:12]
    assert (named["user_id"], named["reason"]) == (None, signals.Reason.OPERATOR)
    assert named["request"] is None


def test_a_session_that_ends_meanwhile_is_not_counted(shelf, receive):
    shelf.put(A, {})
    shelf.put(B, {})
    received = receive(signals.session_invalidated)
    inspector = Inspector()
    sessions = list(inspector.sessions())
    del shelf.stored[A]
    assert [stored.digest for stored in inspector.end(sessions)] == [B]
    assert [named["handle"] for _, named in received] == [B[:12]]
    assert inspector.end(sessions) == []
    assert len(received) == 1


def test_several_sessions_are_read_once_and_ended_by_one_call(shelf, receive):
    received = receive(signals.session_invalidated)
    shelf.put(A, {"_auth_user_id": "7"})
    shelf.put(B, {"_auth_user_id": "8"})
    assert Inspector().invalidate(Selection(state="all"), reason=signals.Reason.LIMIT) == 2
    assert len(shelf.queries) == 1
    assert shelf.ended == [[A, B]]
    told = {(named["user_id"], named["reason"]) for _, named in received}
    assert told == {("7", signals.Reason.LIMIT), ("8", signals.Reason.LIMIT)}


def test_a_store_that_does_not_answer_is_one_line_of_reason(shelf, read):
    shelf.failure = OperationalError("no\nanswer")
    with pytest.raises(StoreFailed, match="declared_engine can't be read: no answer"):
        read()


def test_an_engine_that_gives_no_positions_cannot_be_read_in_pages(shelf, monkeypatch):
    shelf.put(A, {})
    shelf.put(B, {})
    assert len(Inspector().page(limit=1).records) == 1
    listed = declared_engine.SessionStore.list_stored

    def without(query: Any) -> Any:
        for stored in listed(query):
            stored.position = ""
            yield stored

    monkeypatch.setattr(declared_engine.SessionStore, "list_stored", without)
    assert len(Inspector().page(limit=2).records) == 2
    with pytest.raises(NotListable, match="no position"):
        Inspector().page(limit=1)


def test_how_many_there_are_takes_a_walk(shelf):
    assert Inspector().count() is None
