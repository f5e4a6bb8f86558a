"""The site on the loopback address, in this process, with a database of its own."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


class QuietRequestHandler(WSGIRequestHandler):
    """Says nothing of the requests that it handles."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def temporary_stores() -> Iterator[None]:
    """Keep database and session files in a directory that is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="dirigible-demo-") as directory,
        _database_at(str(Path(directory) / "db.sqlite3")),
        override_settings(SESSION_FILE_PATH=directory),
    ):
        yield


@contextmanager
def _database_at(path: str) -> Iterator[None]:
    # As Django's test runner does: new connections read the settings, this thread's has its own.
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
    """Serve the site; give its address and the thread that serves it. Port 0: any free one."""
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
    """Let SIGTERM end the block as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
