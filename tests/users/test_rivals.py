"""Many at once. ``DIRIGIBLE_TEST_ROUNDS`` says how often; the seams are tried in other modules."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connections

from dirigible_session.handles import handle
from dirigible_session.users import end_session, end_sessions, sessions_of
from tests.visiting import Visitor

ROUNDS = int(os.environ.get("DIRIGIBLE_TEST_ROUNDS", "10"))
THREADS = 8
LOGINS = 6

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada(own: str) -> Any:
    return get_user_model().objects.create_user("ada", password="engine")


class Crowd:
    """Threads that do something at once, round after round."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool = ThreadPoolExecutor(size)

    def do(self, *actions: Any) -> list[Any]:
        """Do each action in a thread of its own and return what they returned."""
        return [future.result() for future in [self._pool.submit(action) for action in actions]]

    def leave(self) -> None:
        """Close the connections of all threads: none does it twice, since all wait."""
        barrier = Barrier(self.size)

        def close() -> None:
            barrier.wait()
            connections.close_all()

        self.do(*[close] * self.size)
        self._pool.shutdown()


@pytest.fixture
def crowd() -> Any:
    crowd = Crowd(THREADS)
    yield crowd
    crowd.leave()


def log_in(user: Any) -> str:
    """Log in with a new browser and return the handle of its session."""
    visitor = Visitor(is_async=False)
    visitor.log_in(user)
    assert visitor.response.status_code == 200
    return handle(visitor.session_key or "")


def test_eight_who_list_end_and_log_in_leave_the_one_that_is_kept(ada, crowd):
    keeper = Visitor(is_async=False)
    keeper.log_in(ada)
    kept = handle(keeper.session_key)

    def end_the_others() -> None:
        keeper_elsewhere = Visitor(is_async=False)
        keeper_elsewhere.session_key = keeper.session_key
        keeper_elsewhere.visit(_end_others)
        assert keeper_elsewhere.response.status_code == 200

    async def _end_others(session: Any, request: Any) -> None:
        end_sessions(request.user, keep_current=True)

    def end_each() -> None:
        for record in sessions_of(ada):
            if record.handle != kept:
                end_session(ada, record.digest)

    for _ in range(ROUNDS):
        crowd.do(
            *[lambda: log_in(ada)] * 4, *[end_the_others] * 2, end_each, lambda: sessions_of(ada)
        )
        assert kept in {record.handle for record in sessions_of(ada)}
    end_the_others()
    assert [record.handle for record in sessions_of(ada)] == [kept]


@pytest.mark.parametrize("changes_id", [False, True], ids=["", "with a new id"])
def test_of_six_logins_at_once_two_are_left_and_the_newest_is_one(ada, crowd, settings, changes_id):
    settings.DIRIGIBLE_SESSION_MAX_PER_USER = 2
    for _ in range(ROUNDS):
        arrivals = dict(crowd.do(*[lambda: arrive(ada, changes_id)] * LOGINS))
        left = {record.handle for record in sessions_of(ada)}
        assert len(left) == 2
        assert max(arrivals, key=arrivals.__getitem__) in left


def arrive(user: Any, changes_id: bool) -> tuple[str, float]:
    """Log in and return the handle, and when the request arrived.

    Where the id changes after the login, the session is stored before the end of the request, and
    a rival may end it until then.
    """

    async def visit(session: Any, request: Any) -> float:
        from django.contrib.auth import login

        login(request, user)
        if changes_id:
            await session.change_session_id()
        arrived: float = (await session.get_creation_time()).timestamp()
        return arrived

    visitor = Visitor(is_async=False)
    arrived = visitor.visit(visit)
    assert visitor.response.status_code == 200
    return handle(visitor.session_key or ""), arrived
