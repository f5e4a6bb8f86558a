"""The Redis engine keeps the contract: on one server, on a cluster, and on Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.redis_servers import running, valkey
from tests.stores import use_redis

from ..contract import RivalContract


@pytest.mark.usefixtures("redis_server")
class TestRedis(RivalContract):
    engine = "dirigible_session.backends.redis"


@pytest.mark.usefixtures("redis_cluster")
class TestRedisCluster(RivalContract):
    engine = "dirigible_session.backends.redis"


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with running(program=valkey()) as server:
        yield server.url.replace("redis://", "valkey://")


@pytest.fixture
def valkey_server(settings: Any, valkey_url: str) -> Iterator[Any]:
    yield from use_redis(settings, valkey_url)


@pytest.mark.usefixtures("valkey_server")
class TestValkey(RivalContract):
    engine = "dirigible_session.backends.redis"
