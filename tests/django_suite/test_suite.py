"""Runs Django's own tests of sessions, unmodified, on our engines.

They are in Django's source distribution, of the version that is installed. ``DJANGO_SOURCES`` names
a folder with an unpacked one in it, ``django-5.2.19`` for example, made by::

    pip download --no-binary :all: --no-deps django==$(python -m django --version)
    tar xzf django-*.tar.gz
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import django
import pytest

from tests.redis_servers import running, with_prefix

ROOT = Path(__file__).parents[2]

#: Fewer would mean that tests of Django's were lost on the way.
FEWEST_ON_DB = 200
FEWEST_ON_REDIS = 140


@pytest.fixture
def source() -> Path:
    """Where Django's tests are."""
    sources = os.environ.get("DJANGO_SOURCES")
    if not sources:
        assert os.environ.get("CI") != "true", "DJANGO_SOURCES is not set"
        pytest.skip("DJANGO_SOURCES names no folder with a source distribution of Django")
    source = Path(sources) / f"django-{django.get_version()}"
    assert source.is_dir()
    return source


def run(engine: str, source: Path, fewest: int, **environment: str) -> None:
    """Run them on an engine in a process of their own."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "test", "tests.django_suite.suite"],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.django_suite.settings",
            "DJANGO_SUITE_ENGINE": engine,
            "DJANGO_SUITE_SOURCE": str(source),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    ran = re.search(r"^Ran (\d+) tests", result.stderr, re.M)
    assert ran
    assert int(ran[1]) >= fewest, result.stderr


def test_djangos_own_tests_pass_on_the_db_engine(source: Path) -> None:
    run("dirigible_session.backends.db", source, FEWEST_ON_DB)


def test_djangos_own_tests_pass_on_the_redis_engine(source: Path) -> None:
    engine = "dirigible_session.backends.redis"
    url = os.environ.get("DIRIGIBLE_TEST_REDIS_URL")
    if url:
        run(engine, source, FEWEST_ON_REDIS, DJANGO_SUITE_REDIS_URL=with_prefix(url))
        return
    with running() as server:
        run(engine, source, FEWEST_ON_REDIS, DJANGO_SUITE_REDIS_URL=server.url)
