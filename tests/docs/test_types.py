"""What the pages show to be written for type checkers passes mypy's strict mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dirigible_session

from .blocks import DOCS, blocks_of

pytestmark = pytest.mark.slow

CONFIGURATION = """\
[mypy]
strict = true
plugins = mypy_django_plugin.main
[mypy.plugins.django-stubs]
django_settings_module = project_settings
"""
SETTINGS = """\
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "dirigible_session", "visits"]
SESSION_ENGINE = "visits.models"
"""


def test_a_table_of_its_own_passes_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    pytest.importorskip("mypy_django_plugin", reason="django-stubs is not installed")
    (example,) = (
        block.code
        for block in blocks_of(DOCS / "engines.md")
        if "class SessionStore(db.SessionStore)" in block.code
    )
    app = tmp_path / "visits"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(example)
    (tmp_path / "project_settings.py").write_text(SETTINGS)
    (tmp_path / "mypy.ini").write_text(CONFIGURATION)
    package = Path(dirigible_session.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(package)])}
    if package.name != "site-packages":
        # Else mypy finds it by itself, and takes no such path.
        environment["MYPYPATH"] = str(package)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "-p", "visits"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
