"""The README, followed to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from .blocks import ROOT, RUN, blocks_of
from .project import PYTHON, Project

pytestmark = pytest.mark.slow

README = ROOT / "README.md"
BLOCKS = list(blocks_of(README))
END = README.read_text().splitlines().index("## How it looks")
#: Before it, the first screen; the commands for a checkout are run by CI.
FIRST_SCREEN = [block for block in BLOCKS if block.line < END and "testproject" not in block.code]


def test_the_first_screen_works_in_a_fresh_project(tmp_path: Path) -> None:
    project = Project(tmp_path)
    shown = [block.code.strip() for block in FIRST_SCREEN if block.language == "text"]
    *before, dump = [block for block in FIRST_SCREEN if block.language != "text"]
    for block in before:
        project.follow(block)
    with project.serving() as browser:
        assert [browser.open("/")] == shown
        assert browser.open("/") == shown[0].replace("1", "2")
    project.follow(dump)


def test_the_first_screen_is_one_screen() -> None:
    assert END <= 95
    assert [block.language for block in FIRST_SCREEN] == [
        "console",
        "diff",
        "console",
        "python",
        "text",
        "console",
    ]


@pytest.mark.skipif(PYTHON is not None, reason="needs the package in this process")
@pytest.mark.django_db(transaction=True)
def test_the_rest_of_the_readme_runs(request: pytest.FixtureRequest) -> None:
    from .running import Page

    with Page(request.getfixturevalue, update=False).opened() as page:
        for block in BLOCKS:
            if block.line > END and block.language in RUN:
                page.follow(block)
