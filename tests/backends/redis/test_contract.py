"""The Redis engine keeps the contract, on one server and on a cluster."""

from __future__ import annotations

import pytest

from ..contract import EngineContract


@pytest.mark.usefixtures("redis_server")
class TestRedis(EngineContract):
    engine = "dirigible_session.backends.redis"


@pytest.mark.usefixtures("redis_cluster")
class TestRedisCluster(EngineContract):
    engine = "dirigible_session.backends.redis"
