"""The code blocks of the documentation: where they are, and how a console block is compared.

A comment in the line before a block says what it needs:

``<!-- given: shop -->``
    the function ``shop`` in ``givens.py`` prepares the stored sessions
``<!-- needs: channels, redis -->``
    a module that has to be installed; without it the page is skipped
``<!-- not run: reason -->``
    the block is only there to be read
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

#: Scripts of Dirigible, servlets and what is printed: nothing that Python could run.
READ_ONLY = frozenset({"", "java", "js", "text", "ini", "mermaid", "nginx", "toml"})
RUN = frozenset({"python", "console", "sh", "diff", "html+django"})
#: MyST's own, such as ``{note}``; Sphinx checks them.
DIRECTIVE = re.compile(r"^\{[\w:-]+\}")
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^`]*)$")
COMMENT = re.compile(r"^ *<!-- (?P<key>given|needs|not run): (?P<value>.*) -->$")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int  # of its first line of code, from 1
    language: str
    code: str
    said: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def path(self) -> str | None:
        """The file that the block is said to be, in a comment in its first line."""
        found = re.match(r"^(?:# |\{# )([\w/.]+\.(?:py|html|txt))(?: #\})?\n", self.code)
        return found[1] if found else None


def blocks_of(page: Path) -> Iterator[Block]:
    """Give the blocks of a page, top down."""
    lines = page.read_text().splitlines()
    said: dict[str, str] = {}
    number = 0
    while number < len(lines):
        comment = COMMENT.match(lines[number])
        opening = FENCE.match(lines[number])
        number += 1
        if comment:
            said[comment["key"]] = comment["value"]
        elif opening:
            begin = number
            closing = opening["indent"] + opening["fence"]
            while lines[number].rstrip() != closing:
                number += 1
            code = "".join(
                line.removeprefix(opening["indent"]) + "\n" for line in lines[begin:number]
            )
            language = opening["language"].strip()
            if not DIRECTIVE.match(language):
                yield Block(page, begin + 1, language, code, said)
            said = {}
            number += 1
        elif lines[number - 1].strip():
            said = {}


@dataclass
class Command:
    """A command of a console block, and what the page says it prints."""

    words: str
    printed: list[str]
    #: The line of the page at which ``printed`` begins.
    line: int


def commands_of(block: Block) -> list[Command]:
    """Give the commands of a block: each after ``$``, in a block of the shell each line."""
    commands: list[Command] = []
    for number, line in enumerate(block.code.splitlines(), block.line):
        if line.startswith("$ ") or (block.language == "sh" and line.strip()):
            words = line.removeprefix("$ ").split(" # ")[0].rstrip()
            commands.append(Command(words, [], number + 1))
        elif commands:
            commands[-1].printed.append(line)
    return commands


def pages() -> list[Path]:
    """Give all pages that a reader sees."""
    found = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    found += sorted((ROOT / ".github").glob("*.md"))
    return [page for page in found if "_build" not in page.parts]


def told_in(printed: str) -> str:
    """Return what was printed without what differs from run to run: handles, times, versions."""
    text = re.sub(r"\b[0-9a-f]{12}\b", "<handle>", printed)
    text = re.sub(r"\bin \d+ [dh]\b", "in <time>", text)
    text = re.sub(r"\b\d+ (?:s|min|h|d) ago\b| now +", "<time> ago ", text)
    return "\n".join(re.sub(r" +", " ", line).rstrip() for line in text.splitlines())
