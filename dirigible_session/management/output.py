"""Where a command's data goes: to stdout, or to a file that appears whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.core.management import CommandError

Write = Callable[[str], object]


@contextmanager
def written_file(path: str) -> Iterator[Write]:
    """Write a file that takes its name once it is whole, readable by its owner only."""
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            raise CommandError(f"--output {path!r} is there and is no regular file.")
        if target.parent.resolve().parts[:2] in (("/", "dev"), ("/", "proc")):
            # Who runs as root could put a file in the place of /dev/stdout.
            raise CommandError(f"--output {path!r} is no place for a file; without it, use >.")
        # mkstemp makes a file of mode 0600.
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise CommandError(f"--output {path!r} can't be written: {error.strerror}") from error
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except OSError as error:
        raise CommandError(f"--output {path!r} can't be written: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def write_out(stdout: IO[str], parts: Iterable[str]) -> bool:
    """Write to stdout, and return whether all of it was read: ``head`` goes when it has enough."""
    encoding = getattr(stdout, "encoding", None) or "utf-8"
    try:
        for part in parts:
            stdout.write(part if part.isascii() else _encodable(part, encoding))
        stdout.flush()
    except BrokenPipeError:
        # Python would flush stdout once more as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandError(f"stdout can't be written: {error.strerror}") from error
    return True


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)
