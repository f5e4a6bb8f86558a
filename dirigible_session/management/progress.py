"""A progress bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from typing import TypeVar

from django.core.management.base import OutputWrapper

Item = TypeVar("Item")

#: Seconds between two drawings.
INTERVAL = 0.1
WIDTH = 30

#: Goes back to the beginning of the line and clears it.
CLEAR = "\r\x1b[2K"


def with_progress(
    title: str, items: Iterable[Item], total: int | None, stderr: OutputWrapper
) -> Generator[Item, None, None]:
    """Pass ``items`` on and draw their number on one line, which is cleared at the end.

    ``total`` is their number in the end; None if unknown.
    """

    def draw(text: str) -> None:
        # Without a colour, and without the line end that Django adds.
        stderr.write(CLEAR + text, str, ending="")
        stderr.flush()

    drawn = 0.0
    try:
        for count, item in enumerate(items, 1):
            now = time.monotonic()
            if now - drawn >= INTERVAL:
                shown = str(count)
                if total:
                    filled = min(count * WIDTH // total, WIDTH)
                    bar = "#" * filled + "-" * (WIDTH - filled)
                    shown = f"[{bar}] {count} of {max(count, total)}"
                draw(f"{title} {shown}")
                drawn = now
            yield item
    finally:
        draw("")
