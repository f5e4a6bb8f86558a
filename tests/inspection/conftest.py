"""Fixtures: sessions in a store, and a Redis of one's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dirigible_session.inspection import Inspector, Selection, SessionRecord


@pytest.fixture
def store(store_class: Any) -> Any:
    """Give a function that stores a session of the engine in use and returns it."""

    def store(data: dict[str, Any] | None = None, **attributes: Any) -> Any:
        session = store_class()
        session.update(data or {})
        session.update(attributes)
        session.create()
        return session

    return store


@pytest.fixture
def read() -> Any:
    """Give a function that reads the records of the engine in use."""

    def read(*, reveal: bool = False, **selection: Any) -> list[SessionRecord]:
        selection.setdefault("state", "all")
        return list(Inspector().records(Selection(**selection), reveal=reveal))

    return read


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server that is started for the tests."""
    redis = pytest.importorskip("redis")
    server = shutil.which("redis-server")
    if server is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no redis-server here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    process = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    client = redis.Redis(port=port)
    try:
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        else:
            pytest.fail("redis-server does not answer")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        client.close()
        process.terminate()
        process.wait()
