"""Stored sessions read page by page, as the admin does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from redis.cluster import RedisCluster

from dirigible_session import handles
from dirigible_session.backends.redis import client
from dirigible_session.inspection import Inspector, Page, Selection

from .sessions import listed, new

ALL = Selection(state="all")

pytestmark = [pytest.mark.usefixtures("redis_anywhere"), pytest.mark.django_db]


def pages(selection: Selection = ALL, **bounds: Any) -> list[Page]:
    inspector = Inspector()
    read = [inspector.page(selection, **bounds)]
    while read[-1].next is not None:
        read.append(inspector.page(selection, after=read[-1].next, **bounds))
        assert len(read) < 200
    return read


def numbers(read: list[Page]) -> list[int]:
    # Redis may give a key twice while it resizes its table.
    return sorted({record.attributes["n"] for page in read for record in page.records})


@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("scanned", [2, 500])
def test_they_hold_each_session(count: int, scanned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SCAN_COUNT", scanned)
    for number in range(count):
        new(n=number)
    read = pages(limit=3)
    assert numbers(read) == list(range(count))
    assert all(len(page.records) == 3 for page in read[:-1])


def test_a_walk_ends_if_the_last_node_has_left_the_cluster() -> None:
    cluster = Mock(spec=RedisCluster)
    cluster.get_primaries.return_value = [SimpleNamespace(name="127.0.0.1:7000")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.Client, "redis", cluster)
        walked = client.clients.of_process().scan_page("127.0.0.1:7001 5", b"*", "hash")
    assert walked == ("", [])


def test_those_of_a_user_come_in_pages_too() -> None:
    for number in range(7):
        new(n=number, _auth_user_id=str(number % 2))
    read = pages(Selection(user_id="1"), limit=2)
    assert numbers(read) == [1, 3, 5]
    assert [len(page.records) for page in read] == [2, 1]


def test_a_walk_that_finds_nothing_stops_when_it_is_told_to_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "SCAN_COUNT", 2)
    digests = [handles.digest(new(n=number)) for number in range(20)]
    late = pages(Selection(session=digests[0][:12]), seconds=-1.0)
    assert numbers(late) == [0]
    assert len(late) > 1


def test_those_whose_digests_are_given_are_read_without_a_walk(
    redis_anywhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [handles.digest(new(n=number, _auth_user_id=str(number % 2))) for number in range(4)]
    monkeypatch.delattr(type(redis_anywhere), "scan")
    chosen = (*digests[:3], "0" * 40)
    found = {stored.digest for stored in listed(digests=chosen)}
    assert found == set(digests[:3])
    assert [s.digest for s in listed(digests=chosen, user_id="1")] == [digests[1]]
    assert listed(digests=chosen, digest_prefix="g") == []
    assert listed(digests=()) == []


def test_a_session_that_ends_between_two_pages_moves_no_other() -> None:
    for number in range(30):
        new(n=number)
    inspector = Inspector()
    first = inspector.page(ALL, limit=10)
    ended = list(inspector.sessions(Selection(digests=(first.records[4].digest,))))
    assert len(inspector.end(ended)) == 1
    second = inspector.page(ALL, after=first.next, limit=30)
    assert numbers([first, second]) == list(range(30))
