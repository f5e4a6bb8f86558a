"""The example of a table of one's own passes mypy at its strictest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .blocks import DOCS, ROOT, blocks_of

SETTINGS = "from tests.settings import *\nINSTALLED_APPS += ['visits']\n"
CONFIGURATION = """
[mypy]
strict = True
plugins = mypy_django_plugin.main
[mypy.plugins.django-stubs]
django_settings_module = visits_settings
"""


@pytest.mark.slow
def test_a_table_of_ones_own_passes_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy_django_plugin")
    (example,) = [b for b in blocks_of(DOCS / "engines.md") if "(AbstractSession)" in b.code]
    (tmp_path / "visits").mkdir()
    (tmp_path / "visits" / "__init__.py").touch()
    (tmp_path / "visits" / "models.py").write_text(example.code)
    (tmp_path / "visits_settings.py").write_text(SETTINGS)
    (tmp_path / "mypy.ini").write_text(CONFIGURATION)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", "visits"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
