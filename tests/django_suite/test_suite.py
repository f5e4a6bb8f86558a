"""Runs Django's own tests of sessions, unmodified, on our engines.

They are in Django's source distribution, of the version that is installed. ``DJANGO_SOURCE`` names
the folder of an unpacked one, made by::

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

ROOT = Path(__file__).parents[2]
SOURCE = os.environ.get("DJANGO_SOURCE")

#: Fewer would mean that tests of Django's were lost on the way.
FEWEST = 150


@pytest.mark.parametrize("engine", ["dirigible_session.backends.db"])
def test_djangos_own_tests_pass(engine: str) -> None:
    if not SOURCE:
        assert os.environ.get("CI") != "true", "DJANGO_SOURCE is not set"
        pytest.skip("DJANGO_SOURCE names no source distribution of Django")
    version = re.search(r"^Version: (.+)$", (Path(SOURCE) / "PKG-INFO").read_text(), re.M)
    assert version
    assert version[1] == django.get_version()
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "test", "tests.django_suite.suite"],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.django_suite.settings",
            "DJANGO_SUITE_ENGINE": engine,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    ran = re.search(r"^Ran (\d+) tests", run.stderr, re.M)
    assert ran
    assert int(ran[1]) >= FEWEST, run.stderr
