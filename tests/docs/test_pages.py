"""Every code block of the documentation runs; every console block shows what is printed.

``DOCS_UPDATE=1 python -m pytest tests/docs/test_pages.py`` writes what commands print now into the
pages.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .blocks import READ_ONLY, ROOT, RUN, blocks_of, pages
from .running import Page, rewritten

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

#: Pages that are followed in a project of their own, by a test of their own.
ELSEWHERE = {"README.md", "docs/tutorial.md"}
PAGES = [page for page in pages() if page.relative_to(ROOT).as_posix() not in ELSEWHERE]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_blocks_of_a_page_do_what_it_says(page: Path, request: pytest.FixtureRequest) -> None:
    update = bool(os.environ.get("DOCS_UPDATE"))
    blocks = [block for block in blocks_of(page) if block.language in RUN]
    if not blocks:
        return
    with Page(request.getfixturevalue, update=update).opened() as opened:
        for block in blocks:
            opened.follow(block)
    if update:
        rewritten(page, opened.printed)
        return
    for command, printed in opened.printed:
        assert command.printed == printed, f"{_name(page)}:{command.line}: {command.words}"


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_every_block_says_what_language_it_is_in(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in RUN | READ_ONLY, str(block)
        assert block.language != "" or not block.code.startswith("$"), str(block)
