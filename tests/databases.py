"""Which database the tests run on: ``TEST_DATABASE`` is sqlite (default), postgresql or mariadb.

A server is found at ``TEST_DATABASE_HOST``, ``TEST_DATABASE_PORT``, ``TEST_DATABASE_USER`` and
``TEST_DATABASE_PASSWORD``; the user must be allowed to create databases. PostgreSQL needs
``psycopg[binary]``, MariaDB ``mysqlclient`` or ``pymysql``.
"""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from importlib.util import find_spec
from typing import Any

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mariadb": "django.db.backends.mysql",
}
PORTS = {"postgresql": "5432", "mariadb": "3306"}


def chosen() -> dict[str, Any]:
    """Return ``DATABASES``."""
    kind = os.environ.get("TEST_DATABASE", "sqlite")
    if kind == "sqlite":
        return {"default": sqlite()}
    if kind == "mariadb":
        stand_in_for_mysqlclient()
    return {
        "default": {
            "ENGINE": ENGINES[kind],
            "NAME": os.environ.get("TEST_DATABASE_NAME", "dirigible"),
            "HOST": os.environ.get("TEST_DATABASE_HOST", "127.0.0.1"),
            "PORT": os.environ.get("TEST_DATABASE_PORT", PORTS[kind]),
            "USER": os.environ.get("TEST_DATABASE_USER", "dirigible"),
            "PASSWORD": os.environ.get("TEST_DATABASE_PASSWORD", ""),
        }
    }


def sqlite() -> dict[str, Any]:
    """Return a database in a file, which threads can share, and which no power cut has to spare."""
    name = os.path.join(tempfile.gettempdir(), f"dirigible-session-tests-{os.getpid()}.sqlite3")
    options = {"init_command": "PRAGMA synchronous=OFF", "timeout": 60}
    return {"ENGINE": ENGINES["sqlite"], "NAME": name, "OPTIONS": options, "TEST": {"NAME": name}}


def stand_in_for_mysqlclient() -> None:
    """Let PyMySQL, which needs no compiler, stand in where mysqlclient is not installed."""
    if find_spec("MySQLdb") is None:
        pymysql = import_module("pymysql")
        # Django asks for a version of mysqlclient.
        vars(pymysql)["version_info"] = (2, 2, 8, "final", 0)
        pymysql.install_as_MySQLdb()
