"""``manage.py demo`` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).resolve().parent.parent
MANAGE = ROOT / "testproject" / "manage.py"
PATIENCE = 120

browser = build_opener(ProxyHandler({}))


def environment(temporary: Path, **more: str) -> dict[str, str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "TMPDIR": str(temporary),
        **more,
    }


def demo(temporary: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(MANAGE), "demo", *options],
        env=environment(temporary, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def heed_interrupts() -> None:
    """Let Ctrl-C work where the tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def serving(temporary: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(MANAGE), "demo", "--serve", *options],
        env=environment(temporary),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        yield process
    finally:
        # As Ctrl-C does: it takes the server that it may have started along.
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def address_in(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+/", text)
    assert found, text
    return found[0]


def until_it_stays_up(process: subprocess.Popen[str]) -> str:
    """Return the address of the site, once the demo only keeps it up."""
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if line.startswith("The site stays up at "):
            return address_in(line)
    raise AssertionError("".join(told))
