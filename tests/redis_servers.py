"""Redis servers for the tests: the ones that the environment names, else ones of our own.

``DIRIGIBLE_TEST_REDIS_URL`` and ``DIRIGIBLE_TEST_REDIS_CLUSTER_URL`` name them as the setting
``DIRIGIBLE_SESSION_REDIS_URL`` does. Our own need ``redis-server`` and ``redis-cli``, or Valkey's,
on the PATH; without them the tests are skipped, and fail where ``CI`` is "true".
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

NODES = 3


def binary(name: str) -> str:
    """Return the path of a server's program; skips the test, or fails it in CI, without one."""
    for candidate in (f"redis-{name}", f"valkey-{name}"):
        path = shutil.which(candidate)
        if path:
            return path
    reason = f"no redis-{name} on the PATH"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A node of a cluster listens at its port and at the one 10000 above.
    return port if port < 55000 else free_port()


class Server:
    """A server of our own, which tests may ill-treat."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.directory = directory
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def redis(self) -> Any:
        return redis.Redis(port=self.port)

    def start(self, *options: str) -> None:
        command = [binary("server"), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.directory), "--save", "", *self.options, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(redis.ConnectionError), self.redis as client:
                client.ping()
                return
            time.sleep(0.01)
        raise AssertionError("the Redis server did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def running(*options: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), *options)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def running_cluster() -> Iterator[list[Server]]:
    """Run a cluster of primaries and no replicas."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "3000")
        servers = [stack.enter_context(running(*options)) for _ in range(NODES)]
        nodes = [f"127.0.0.1:{server.port}" for server in servers]
        command = [binary("cli"), "--cluster", "create", *nodes, "--cluster-yes"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
        end = time.monotonic() + 30
        while not all(_is_complete(server) for server in servers):
            if time.monotonic() > end:
                raise AssertionError("the nodes of the cluster did not find each other")
            time.sleep(0.02)
        yield servers


def _is_complete(server: Server) -> bool:
    with server.redis as client:
        info = client.cluster("info")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(NODES)


def with_prefix(url: str) -> str:
    """Return the URL with keys, and a name, of its own, so that tests stay apart."""
    mark = "&" if "?" in url else "?"
    name = f"test-{uuid4().hex}"
    return f"{url}{mark}prefix={name}:&client_name={name}"
