"""The tutorial, followed to the letter in a fresh project."""

from __future__ import annotations

from pathlib import Path

import pytest

from .blocks import DOCS, blocks_of, told_in
from .project import PYTHON, Project, text_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is not None, reason="of the README only"),
]

BLOCKS = list(blocks_of(DOCS / "tutorial.md"))
PASSWORD = "from django.contrib.auth.models import User; u = User.objects.get(); "


def test_the_tutorial(tmp_path: Path) -> None:
    project = Project(tmp_path)
    at = next(number for number, block in enumerate(BLOCKS) if "runserver" in block.code)
    # The first block installs the package and makes the project.
    for block in BLOCKS[1 : at + 1]:
        project.follow(block)
    project.run(
        "python", "manage.py", "shell", "-c", PASSWORD + "u.set_password('engine'); u.save()"
    )
    shown, dump, end = BLOCKS[at + 1 : at + 4]
    with project.serving() as browser:
        browser.open("/")
        browser.open("/add/", {"product": "tea"})
        page = browser.open("/add/", {"product": "cake"})
        assert shown.code.strip() in text_of(page)
        browser.open("/login/")
        page = browser.open("/login/", {"username": "ada", "password": "engine"})
        assert "Log out ada" in text_of(page)
        assert shown.code.strip() in text_of(page)
        project.follow(dump)
        project.follow(end)
        page = text_of(browser.open("/"))
        assert "Log in" in page
        assert "nothing yet" in page
    for block in BLOCKS[at + 4 :]:
        project.follow(block)
    assert told_in(project.run("python", "manage.py", "check")).startswith(
        "System check identified no"
    )
