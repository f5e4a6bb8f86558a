"""The documentation builds without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .blocks import DOCS
from .running import need

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("sphinx", "myst_parser", "furo"):
        need(module)
    folder = tmp_path_factory.mktemp("site")
    environment = {name: value for name, value in os.environ.items() if "DJANGO_S" not in name}
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, str(DOCS), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_reached_from_the_first(site: Path) -> None:
    index = (site / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert name == "index.html" or f'href="{name}"' in index, name


def test_the_reference_tells_of_every_function(site: Path) -> None:
    from dirigible_session import facade

    told = (site / "reference" / "session.html").read_text()
    for name in facade.__all__:
        function = getattr(facade, name)
        if getattr(function, "__name__", name) == name:
            assert f'id="dirigible_session.facade.{name}"' in told, name
        assert re.search(rf"\b{name}\b", told), name
