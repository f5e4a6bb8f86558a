"""Fixtures: the engines of the package, the servers that they need, and the statements they run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from .redis_servers import running, running_cluster, with_prefix

#: The mark of a test whose threads use the database.
THREADED = pytest.mark.django_db(transaction=True)


class Api:
    """One way to call a store: each test runs with the sync and with the async methods."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        def call(store: Any, *args: Any, **kwargs: Any) -> Any:
            method = getattr(store, self._prefix + name)
            call_it = async_to_sync(method) if self._prefix else method
            return call_it(*args, **kwargs)

        return call


@pytest.fixture(params=["", "a"], ids=["sync", "async"])
def api(request: pytest.FixtureRequest) -> Api:
    return Api(request.param)


@pytest.fixture
def db_engine(settings: Any) -> Any:
    """The store class of the db engine, which is SESSION_ENGINE."""
    settings.SESSION_ENGINE = "dirigible_session.backends.db"
    return import_module(settings.SESSION_ENGINE).SessionStore


def in_threads(count: int, work: Callable[[int], None], jobs: Iterable[int]) -> None:
    """Do the jobs in so many threads; raise what one of them raised."""

    def do(job: int) -> None:
        try:
            work(job)
        finally:
            # A thread of the pool would keep it, and the test's database could not be dropped.
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(do, job) for job in jobs]:
            done.result()


@pytest.fixture
def queries() -> Callable[..., Any]:
    """A context manager that gives the statements that ran in it.

    With ``parameters``, pairs of a statement and its parameters; with ``transactions``, what
    begins and ends transactions is there as well.
    """

    @contextmanager
    def watched(*, parameters: bool = False, transactions: bool = False) -> Iterator[list[Any]]:
        if transactions:
            ran: list[Any] = []
            with CaptureQueriesContext(connection) as captured:
                yield ran
            ran.extend(query["sql"] for query in captured)
            return
        ran = []

        def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            ran.append((sql, params) if parameters else sql)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(wrapper):
            yield ran

    return watched


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    url = os.environ.get("DIRIGIBLE_TEST_REDIS_URL")
    if url:
        yield url
    else:
        with running() as server:
            yield server.url


@pytest.fixture(scope="session")
def redis_cluster_url() -> Iterator[str]:
    url = os.environ.get("DIRIGIBLE_TEST_REDIS_CLUSTER_URL")
    if url:
        yield url
    else:
        with running_cluster() as servers:
            yield "redis+cluster://" + ",".join(f"127.0.0.1:{s.port}" for s in servers)


def use_redis(settings: Any, url: str) -> Iterator[Any]:
    """Let the engine use this server, with keys that are gone afterwards; gives the client."""
    from dirigible_session.backends.redis.client import clients

    settings.SESSION_ENGINE = "dirigible_session.backends.redis"
    settings.DIRIGIBLE_SESSION_REDIS_URL = with_prefix(url)
    client = clients.of_process()
    yield client
    for key in list(client.redis.scan_iter(match=f"{client.where.keys.prefix}*", count=1000)):
        client.redis.delete(key)
    # The test may have closed it already, and then it is no longer one of these.
    client.close()
    clients.close()


@pytest.fixture
def redis_server(settings: Any, redis_server_url: str) -> Iterator[Any]:
    """A single server, set up as the store of sessions."""
    yield from use_redis(settings, redis_server_url)


@pytest.fixture
def redis_cluster(settings: Any, redis_cluster_url: str) -> Iterator[Any]:
    """A cluster of three nodes, set up as the store of sessions."""
    yield from use_redis(settings, redis_cluster_url)


@pytest.fixture(params=["server", "cluster"])
def redis_anywhere(request: pytest.FixtureRequest) -> Any:
    """A single server, then a cluster."""
    return request.getfixturevalue(f"redis_{request.param}")
