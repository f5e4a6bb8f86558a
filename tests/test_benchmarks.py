"""Each benchmark runs, and prints what it is there to print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .redis_servers import binary

ROOT = Path(__file__).parents[1]


def output_of(*arguments: str) -> str:
    """Run Python with these arguments where the benchmarks are, and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_facade() -> None:
    printed = output_of("-m", "benchmarks.facade", "--rounds=1")
    for row in ("read an int", "no session, a cookie, async", "SESSION_SAVE_EVERY_REQUEST"):
        assert row in printed


@pytest.mark.slow
def test_a_request_under_asgi() -> None:
    binary("server")
    printed = output_of("-m", "benchmarks.asgi", "--rounds=1")
    assert printed.count("ratio") == 2


@pytest.mark.slow
def test_the_reader() -> None:
    printed = output_of("-m", "benchmarks.inspection", "--count=60", "--rounds=1")
    assert "sessions_dump --state all --format jsonl" in printed


@pytest.mark.slow
def test_the_db_engine() -> None:
    few = "from benchmarks import engines as e; e.ROUNDS, e.WRITES = 5, 16; e.main()"
    assert "| dirigible_session db |" in output_of("-c", few)


@pytest.mark.slow
def test_the_redis_engine() -> None:
    binary("server")
    assert output_of("-m", "benchmarks.redis", "--rounds=1").count("| dirigible_session redis") > 8
