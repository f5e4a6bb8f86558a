"""Reading stored sessions page by page, as the admin does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dirigible_session import handles, signals
from dirigible_session.inspection import (
    Inspector,
    NoSuchSession,
    Page,
    Selection,
    UnknownPosition,
)
from dirigible_session.inspection.readers import database, files

ENGINES = ("db", "cached_db", "file", "dirigible_session.backends.db")


@pytest.fixture(params=ENGINES)
def listable_engine(request: pytest.FixtureRequest, use_engine: Any) -> str:
    use_engine(request.param)
    return request.param


ALL = Selection(state="all")


def pages(selection: Selection = ALL, **bounds: Any) -> list[Page]:
    """Read all pages."""
    inspector = Inspector()
    read = [inspector.page(selection, **bounds)]
    while read[-1].next is not None:
        read.append(inspector.page(selection, after=read[-1].next, **bounds))
    return read


def numbers(page: Page) -> list[int]:
    return [record.attributes["n"] for record in page.records]


def test_pages_hold_each_session_once(listable_engine, store, monkeypatch):
    monkeypatch.setattr(files, "PAGE", 2)
    monkeypatch.setattr(database, "CHUNK", 2)
    for n in range(5):
        store(n=n)
    read = pages(limit=2)
    assert [len(page.records) for page in read] == [2, 2, 1]
    assert sorted(n for page in read for n in numbers(page)) == [0, 1, 2, 3, 4]
    assert sum(page.read for page in read) == 5


def test_there_is_no_page_after_the_last_session(listable_engine, store):
    for n in range(4):
        store(n=n)
    assert [len(page.records) for page in pages(limit=2)] == [2, 2]
    assert [len(page.records) for page in pages(limit=4)] == [4]
    assert pages(Selection(user_id="7"))[0].records == []


def test_a_session_that_ends_between_two_pages_moves_no_other(listable_engine, store):
    inspector = Inspector()
    for n in range(5):
        store(n=n)
    first = inspector.page(limit=2)
    ended = list(inspector.sessions(Selection(digests=(first.records[1].digest,))))
    assert len(inspector.end(ended)) == 1
    second = inspector.page(limit=3, after=first.next)
    assert second.next is None
    assert sorted(numbers(first) + numbers(second)) == [0, 1, 2, 3, 4]


def test_a_page_reads_no_more_than_it_is_told_to(listable_engine, store):
    for n in range(6):
        store({"_auth_user_id": "7"} if n == 5 else {}, n=n)
    read = pages(Selection(anonymous=True), most_read=4)
    assert [page.read for page in read] == [4, 2]
    late = pages(Selection(anonymous=True), seconds=-1.0)
    # Each gets on by a session at least, however late it is.
    assert sum(page.read for page in late) == 6
    assert sorted(n for page in late for n in numbers(page)) == [0, 1, 2, 3, 4]
    assert len(late) in (6, 7)


def test_a_position_tells_nothing_of_a_key(use_engine, store):
    use_engine("db")
    keys = [store(n=n).session_key for n in range(9)]
    for page in pages(limit=1)[:-1]:
        assert page.next.isascii()
        assert (
            page.next.replace("-", "").replace("_", "").replace("=", "").replace(".", "").isalnum()
        )
        assert not [key for key in keys if key[:6] in page.next]
    # Two of the same place have nothing in common.
    first, second = (Inspector().page(limit=1).next for _ in range(2))
    assert first[:8] != second[:8]


def test_a_position_that_no_page_gave_is_an_error(use_engine, store):
    use_engine("db")
    for n in range(3):
        store(n=n)
    position = Inspector().page(limit=1).next
    flipped = ("B" if position[0] == "A" else "A") + position[1:]
    for forged in ("", "a", "x.y", flipped, position[:-1], position + "x", "\ud800", "é.ü"):
        with pytest.raises(UnknownPosition, match="Begin without one"):
            Inspector().page(after=forged)
    use_engine("file")
    with pytest.raises(UnknownPosition):
        Inspector().page(after=position)


def test_sessions_are_ended_page_by_page(listable_engine, store, receive):
    received = receive(signals.session_invalidated)
    for n in range(6):
        store({"_auth_user_id": str(n % 2)}, n=n)
    inspector, wanted = Inspector(), Selection(user_id="1")
    ended = [inspector.end_page(wanted, most_read=2)]
    while ended[-1].next is not None:
        ended.append(inspector.end_page(wanted, after=ended[-1].next, most_read=2))
    assert sum(len(page.sessions) for page in ended) == len(received) == 3
    assert max(page.read for page in ended) == 2
    assert {named["user_id"] for _, named in received} == {"1"}
    assert sorted(n for page in pages() for n in numbers(page)) == [0, 2, 4]


def test_a_page_of_a_handle_a_prefix_or_a_key(listable_engine, store):
    session, other = store(n=1), store(n=2)
    digest = handles.digest(session.session_key)
    for name in (session.session_key, digest[:12], digest, digest[:6].upper()):
        assert numbers(Inspector().page(Selection(state="all", session=name))) == [1]
    assert numbers(Inspector().page(Selection(session=digest, user_id="7"))) == []
    with pytest.raises(NoSuchSession):
        Inspector().page(Selection(session="no handle"))
    other_digest = handles.digest(other.session_key)
    chosen = Selection(digests=(digest, other_digest, "0" * 40))
    assert sorted(numbers(Inspector().page(chosen))) == [1, 2]


@pytest.fixture(params=["db", "file"])
def keyed_engine(request: pytest.FixtureRequest, use_engine: Any) -> str:
    use_engine(request.param)
    return request.param


def test_a_walk_for_a_handle_is_done_in_pages_too(keyed_engine, store, monkeypatch):
    monkeypatch.setattr(database, "KEYS", 2)
    monkeypatch.setattr(files, "PAGE", 2)
    for digest in [handles.digest(store(n=n).session_key) for n in range(7)]:
        read = pages(Selection(session=digest), seconds=-1.0)
        (page,) = [page for page in read if page.records]
        assert page.records[0].digest == digest
        assert len(read) > 1


@pytest.mark.parametrize("count", [0, 1, 7])
def test_damaged_sessions_have_their_place_on_a_page(use_engine, count, tmp_path):
    store_class = use_engine("file")
    for _ in range(count):
        store_class().create()
    (tmp_path / f"sessionid{'a' * 32}").write_bytes(random.Random(1).randbytes(50))
    states = [record.state for page in pages(limit=3) for record in page.records]
    assert sorted(states) == ["active"] * count + ["unreadable"]
