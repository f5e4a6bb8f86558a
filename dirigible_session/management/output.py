"""The output of a command: to stdout, or to a file that appears whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import OutputWrapper

Write = Callable[[str], object]


@contextmanager
def written_file(path: str) -> Iterator[Write]:
    """Write a file that takes its name once it is whole, readable by its owner only."""
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            raise CommandError(f"--output {path!r} is not a regular file.")
        folder = target.parent.resolve()
        # /dev/shm holds files, in memory.
        is_shm = folder.is_relative_to("/dev/shm")  # noqa: S108
        if folder.parts[:2] in (("/", "dev"), ("/", "proc")) and not is_shm:
            # As root, this would replace /dev/stdout with a file.
            raise CommandError(
                f"--output {path!r} is not a place for a file. Redirect with > instead."
            )
        # mkstemp makes a file of mode 0600. The name of the file may be as long as a name can be.
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".sessions_dump.")
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


def encodes(stdout: OutputWrapper, text: str) -> bool:
    """Return whether stdout can show ``text``."""
    try:
        text.encode(getattr(stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def write_out(stdout: OutputWrapper, parts: Iterable[str]) -> bool:
    """Write to stdout, and return whether all of it was read: ``head`` goes when it has enough.

    Like Django's own commands, it needs a stream that has ``write()``, no more.
    """
    stream: Any = stdout
    while isinstance(stream, OutputWrapper):
        # One command may hand its own stdout on to another.
        stream = vars(stream)["_out"]
    if stream is None:
        # Python's own stdout, closed before Python started.
        return False
    out = OutputWrapper(stream, ending="")
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        for part in parts:
            if not part.isascii():
                part = part.encode(encoding, "backslashreplace").decode(encoding)
            stream.write(part)
        out.flush()
    except BrokenPipeError:
        _let_go(stream)
        return False
    except OSError as error:
        _let_go(stream)
        raise CommandError(f"stdout can't be written: {error.strerror}") from error
    return True


def _let_go(stream: Any) -> None:
    """Drop the buffer of Python's own stdout, which Python would fail to flush when it exits.

    Other streams belong to the caller.
    """
    if stream is not sys.stdout:
        return
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        # It is not a file of the system, or it is closed.
        return
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), descriptor)
