"""A fresh project, in which a page is followed to the letter."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

from .blocks import ROOT, Block, commands_of, told_in

#: With an installed wheel and nothing else, the package must not come from the source tree.
PYTHON = os.environ.get("DIRIGIBLE_TEST_PYTHON")
PATIENCE = 60


class Project:
    """What ``django-admin startproject mysite`` makes, and what a page changes in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run("python", "-m", "django", "startproject", "mysite", str(folder))

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO")}
        paths = kept.pop("PYTHONPATH", "")
        if PYTHON is None:
            kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), paths]))
        return {**kept, "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *words: str, stdin: str = "") -> str:
        """Return what a command prints; it has to succeed."""
        assert words[0] == "python"
        done = subprocess.run(
            [PYTHON or sys.executable, "-W", "error", *words[1:]],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def follow(self, block: Block) -> None:
        """Do what a block says: change a file, write one, or run commands and compare."""
        if block.language == "diff":
            self._change(block)
        elif block.path:
            path = self.folder / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)
        elif block.language in ("console", "sh"):
            for command in commands_of(block):
                words = shlex.split(command.words)
                if "install" in words or "runserver" in words:
                    continue
                printed = self.run(*words)
                if command.printed:
                    said = told_in("\n".join(command.printed))
                    assert told_in(printed) == said, f"{block} prints:\n{printed}"

    def _change(self, block: Block) -> None:
        title, *lines = block.code.splitlines()
        path = self.folder / title.removeprefix("# ")
        here = path.read_text().splitlines()
        at = 0
        for line in lines:
            sign, rest = line[:1], line[1:]
            if sign == "+":
                here.insert(at, rest)
                at += 1
                continue
            at = here.index(rest, at)
            if sign == "-":
                del here[at]
            else:
                at += 1
        path.write_text("\n".join(here) + "\n")

    @contextmanager
    def serving(self) -> Iterator[Browser]:
        """Run the site, and give a browser for it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [PYTHON or sys.executable, "manage.py", "runserver", "--noreload", str(port)]
        with (self.folder / "server.log").open("w") as log:
            server = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )
            try:
                yield Browser(f"http://127.0.0.1:{port}")
            finally:
                server.kill()
                server.wait()


class Browser:
    """Visits pages of a site, and keeps its cookies."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._cookies = CookieJar()
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(self._cookies))

    def open(self, path: str, data: dict[str, str] | None = None) -> str:
        """Return the page, or where a form leads when it is sent."""
        tokens = {cookie.name: cookie.value or "" for cookie in self._cookies}
        body = None
        if data is not None:
            body = urlencode({**data, "csrfmiddlewaretoken": tokens.get("csrftoken", "")}).encode()
        end = time.monotonic() + PATIENCE
        while True:
            # The server may not listen yet.
            with suppress(URLError):
                return str(self._opener.open(self._address + path, body).read().decode())
            assert time.monotonic() < end, path
            time.sleep(0.05)


def text_of(page: str) -> str:
    """Return a page's text, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).strip()
