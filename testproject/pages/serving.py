"""Serving the site in this process, on the loopback address, with temporary stores."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connection, connections
from django.test.utils import override_settings

LOOPBACK = "127.0.0.1"
REDIS_CACHE = "django.core.cache.backends.redis.RedisCache"
#: The engines that need a Redis server.
ON_REDIS = ("django.contrib.sessions.backends.cache", "dirigible_session.backends.redis")
PATIENCE = 10


class QuietRequestHandler(WSGIRequestHandler):
    """A request handler that does not log requests."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


@contextmanager
def temporary_stores(engine: str) -> Iterator[None]:
    """Use ``engine``, with stores that are deleted at the end of the ``with`` block."""
    with (
        tempfile.TemporaryDirectory(prefix="dirigible-demo-") as directory,
        _database_at(str(Path(directory) / "db.sqlite3")),
        override_settings(SESSION_ENGINE=engine, SESSION_FILE_PATH=directory),
        _redis(directory) if engine in ON_REDIS else nullcontext(),
    ):
        yield


@contextmanager
def _redis(directory: str) -> Iterator[None]:
    """Run a Redis server for the engines that need one."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise OSError("this engine needs redis-server on the PATH")
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", LOOPBACK, "--save", "", "--dir", directory]
    url = f"redis://{LOOPBACK}:{port}/0"
    # Ctrl-C is sent to all processes of a terminal, but the server has to stop after the site.
    quiet = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    server = subprocess.Popen(command, start_new_session=True, **quiet)
    try:
        _wait_for(port)
        with override_settings(
            CACHES={"default": {"BACKEND": REDIS_CACHE, "LOCATION": url}},
            DIRIGIBLE_SESSION_REDIS_URL=url,
        ):
            yield
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + PATIENCE
    with socket.socket() as probe:
        while probe.connect_ex((LOOPBACK, port)):
            if time.monotonic() > end:
                raise OSError("the Redis server did not start")
            time.sleep(0.02)


@contextmanager
def _database_at(path: str) -> Iterator[None]:
    # As in Django's test runner: new connections read the settings, but this thread has one.
    before = settings.DATABASES["default"]["NAME"]
    _use_database(path)
    try:
        call_command("migrate", verbosity=0, interactive=False)
        yield
    finally:
        _use_database(before)


def _use_database(name: str) -> None:
    connections.close_all()
    settings.DATABASES["default"]["NAME"] = name
    connection.settings_dict["NAME"] = name


@contextmanager
def serving(port: int) -> Iterator[tuple[str, threading.Thread]]:
    """Serve the site; yield its address and the thread of the server. Port 0 is any free port."""
    server = ThreadedWSGIServer((LOOPBACK, port), QuietRequestHandler)
    server.set_app(StaticFilesHandler(get_wsgi_application()))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}", thread
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def sigterm_as_sigint() -> Iterator[None]:
    """Raise KeyboardInterrupt in the ``with`` block on SIGTERM, as on Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
