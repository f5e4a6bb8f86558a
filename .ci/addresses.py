"""Copies the project's addresses from setup.cfg to the files that can't read it.

``python .ci/addresses.py`` writes them; with ``--check`` it writes nothing, and exits with 1 where
a file has others.
"""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("README.md", "CHANGELOG.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md")


def addresses() -> dict[str, str]:
    """Return the addresses in setup.cfg by their labels."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["metadata"]["project_urls"].strip().splitlines()
    return dict(map(str.strip, line.split("=", 1)) for line in lines)


def with_addresses(text: str) -> str:
    """Return a file's text with the addresses that stand in setup.cfg."""
    known = addresses()
    text = re.sub(
        r"https://[^\s/)]+(?=/en/(?:stable|latest)/)", lambda _: known["Documentation"], text
    )
    return re.sub(
        r"https://[\w.-]+/[\w.-]+/[\w.-]+(?=/(?:blob|raw|tree|compare|releases)/)",
        lambda _: known["Source"],
        text,
    )


def main() -> int:
    """Write the addresses, or say which files have others."""
    others = []
    for name in FILES:
        path = ROOT / name
        text = path.read_text()
        if with_addresses(text) != text:
            others.append(name)
            if "--check" not in sys.argv:
                path.write_text(with_addresses(text))
    if others and "--check" in sys.argv:
        sys.stderr.write(f"Run python .ci/addresses.py: {', '.join(others)}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
