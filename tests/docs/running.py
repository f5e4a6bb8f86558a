"""Runs the blocks of one page, in order, as a reader who follows it would."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.conf import global_settings, settings
from django.contrib import admin
from django.contrib.auth import signals as auth_signals
from django.core import checks
from django.core.management import ManagementUtility
from django.db.models import signals as model_signals
from django.dispatch import Signal
from django.template import Context, Template
from django.test import Client, override_settings
from packaging.requirements import Requirement

from dirigible_session import session, signals
from dirigible_session.testing import session_request, stored_session

from . import givens
from .blocks import ROOT, Block, Command, commands_of, told_in

#: The settings that the pages begin with.
SITE = {
    "ROOT_URLCONF": "tests.docs.urls",
    "INSTALLED_APPS": [*settings.INSTALLED_APPS, "tests.docs"],
}
#: A table of a page is as wide as this.
COLUMNS = "100"
#: Programs that a page may name without a test of its own running them: CI runs them.
PROGRAMS = frozenset({"tox", "pre-commit", ".ci/run", "sphinx-build", "git", "cd", "django-admin"})


class Page:
    """A page that is being followed."""

    def __init__(self, fixture: Callable[[str], Any], *, update: bool) -> None:
        self._fixture = fixture
        self._update = update
        self._settings = ExitStack()
        self.names: dict[str, Any] = {"__name__": "tests.docs.page"}
        #: What commands printed that is not what the page says.
        self.printed: list[tuple[Command, list[str]]] = []

    @contextmanager
    def opened(self) -> Iterator[Page]:
        """Make a session current, and take back at the end what the blocks set up."""
        user = givens.user("ada", 1)
        client = Client()
        client.force_login(user)
        modules = set(sys.modules)
        with (
            chdir(self._fixture("tmp_path")),
            receivers_restored(),
            mock.patch.dict(admin.site._registry),
            override_settings(**SITE),
            self._settings,
        ):
            with stored_session(client):
                self.names |= {"session_id": session.get_id(), "user": user, "client": client}
            with session_request({"cart": ["tea"]}, user=user) as request:
                self.names |= {"request": request, "session": session}
                yield self
        for name in set(sys.modules) - modules:
            if name.split(".")[0] in ("shop", "mysite"):
                del sys.modules[name]

    def follow(self, block: Block) -> None:
        """Run a block."""
        if "not run" in block.said:
            return
        for module in filter(None, map(str.strip, block.said.get("needs", "").split(","))):
            need(module)
        if block.language == "python":
            self._execute(block)
        elif block.language == "html+django":
            Template(block.code).render(Context({"request": self.names["request"]}))
        else:
            self._type(block)

    def _execute(self, block: Block) -> None:
        names = self.names
        if block.path and not block.path.endswith("settings.py"):
            names = vars(module_named(block.path.removesuffix(".py").replace("/", ".")))
        before = set(names)
        tree = ast.increment_lineno(ast.parse(block.code), block.line - 1)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(tree, str(block.page), "exec", flags=flags, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            async_to_sync(_awaited)(code, names)
        else:
            exec(code, names)
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self._set({name: names[name] for name in assigned if is_setting(name)})
        for name in [*names]:
            if name.startswith("test_") and name not in before:
                self._test(names[name])

    def _set(self, values: dict[str, Any]) -> None:
        """Change settings as the page says; no system check of ours may have a word against it."""
        if not values:
            return
        values = {name: filled_in(name, value) for name, value in values.items()}
        self._settings.enter_context(override_settings(**values))
        said = [message for message in checks.run_checks() if is_ours(message)]
        assert not said, said

    def _test(self, function: Callable[..., Any]) -> None:
        arguments = {name: self._fixture(name) for name in inspect.signature(function).parameters}
        if inspect.iscoroutinefunction(function):
            async_to_sync(function)(**arguments)
        else:
            function(**arguments)

    def _type(self, block: Block) -> None:
        given = getattr(givens, block.said["given"]) if "given" in block.said else None
        with ExitStack() as stack:
            if given is not None:
                stack.enter_context(given())
            for command in commands_of(block):
                self._run(block, command)

    def _run(self, block: Block, command: Command) -> None:
        words = shlex.split(command.words)
        if words[:2] == ["python", "manage.py"]:
            printed = manage(words[1:], command.printed).splitlines()
            says = [line for line in command.printed if line.strip() != "…"]
            if says and told_in("\n".join(says)) != told_in("\n".join(printed)):
                self.printed.append((command, printed))
        else:
            assert_there(words)


@contextmanager
def chdir(folder: Path) -> Iterator[None]:
    """Let the commands write where it does no harm."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


async def _awaited(code: Any, names: dict[str, Any]) -> None:
    await eval(code, names)


def is_setting(name: str) -> bool:
    return hasattr(global_settings, name) or name.startswith("DIRIGIBLE_SESSION_")


def is_ours(message: checks.CheckMessage) -> bool:
    return str(message.id).startswith("dirigible_session.")


def filled_in(name: str, value: Any) -> Any:
    """Return the value of a setting with ``...`` replaced by what is there already."""
    if not isinstance(value, list) or ... not in value:
        return value
    old = [entry for entry in getattr(settings, name) if entry not in value]
    if "dirigible_session.middleware.SessionMiddleware" in value:
        old = [entry for entry in old if "SessionMiddleware" not in entry]
    place = value.index(...)
    rest = [entry for entry in value[place + 1 :] if entry is not ...]
    return [*value[:place], *old, *rest]


def module_named(name: str) -> ModuleType:
    """Return the module that a page's file is, made where there is none yet."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        path = ".".join(parts[:count])
        if path not in sys.modules:
            sys.modules[path] = ModuleType(path)
            if count < len(parts):
                sys.modules[path].__path__ = []
            if count > 1:
                setattr(
                    sys.modules[".".join(parts[: count - 1])], parts[count - 1], sys.modules[path]
                )
    return sys.modules[name]


def need(module: str) -> None:
    """Skip the page where a module is missing; fail in CI."""
    if importlib.util.find_spec(module.split(".")[0]) is None:
        assert os.environ.get("CI") != "true", f"{module} is not installed"
        pytest.skip(f"{module} is not installed")


@contextmanager
def receivers_restored() -> Iterator[None]:
    """Disconnect at the end what was connected in between."""
    modules = (signals, auth_signals, model_signals)
    every = [value for module in modules for value in vars(module).values()]
    kept = [(signal, list(signal.receivers)) for signal in every if isinstance(signal, Signal)]
    try:
        yield
    finally:
        for signal, receivers in kept:
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()


class Typist(io.StringIO):
    """A person at a terminal, who gives the answers that the page shows."""

    def __init__(self, answers: list[str], screen: io.StringIO) -> None:
        super().__init__("".join(f"{answer}\n" for answer in answers))
        self._screen = screen

    def readline(self, *arguments: Any) -> str:
        answer = super().readline(*arguments)
        self._screen.write(answer)
        return answer


def manage(words: list[str], expected: list[str]) -> str:
    """Return what ``manage.py`` prints with these words, and what is typed at its questions."""
    answers = [line.rpartition("] ")[2] for line in expected if "[y/N] " in line]
    screen = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS=COLUMNS),
        mock.patch.object(sys, "stdin", Typist(answers, screen)),
        redirect_stdout(screen),
        redirect_stderr(screen),
    ):
        try:
            ManagementUtility(words).execute()
        except SystemExit as end:
            screen.write("" if not end.code else f"exit code {end.code}\n")
    return screen.getvalue()


def assert_there(words: list[str]) -> None:
    """Assert that what a command names exists, where the command itself is not run here."""
    while words and "=" in words[0]:
        words = words[1:]
    if words[0] in ("python", "pip") and "install" in words:
        names = [word for word in words[words.index("install") + 1 :] if not word.startswith("-")]
        for name in names:
            assert_installable(name)
    elif words[:3] == ["python", "-m", "pytest"]:
        for option, word in pairwise(words[2:]):
            is_path = not word.startswith("-") and option not in ("-k", "-m", "-n")
            assert not is_path or (ROOT / word.split("::")[0]).exists(), word
    elif words[:2] == ["python", "-m"]:
        name = words[2].split(".")
        is_own = (ROOT.joinpath(*name)).with_suffix(".py").exists()
        assert is_own or importlib.util.find_spec(name[0]) or name[0] in {"sphinx", "build"}, words
    elif words[0] == "python":
        assert (ROOT / words[1]).exists(), words
    else:
        assert words[0] in PROGRAMS, words


def assert_installable(name: str) -> None:
    from configparser import ConfigParser

    metadata = ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    requirement = Requirement(name.replace(".", "dirigible-session", 1) if name[0] == "." else name)
    if requirement.name == metadata["metadata"]["name"]:
        assert requirement.extras <= set(metadata["options.extras_require"]), name


def rewritten(page: Path, printed: list[tuple[Command, list[str]]]) -> None:
    """Write what the commands print now into the page."""
    lines = page.read_text().splitlines()
    for command, now in sorted(printed, key=lambda pair: -pair[0].line):
        begin = command.line - 1
        lines[begin : begin + len(command.printed)] = now
    page.write_text("\n".join(lines) + "\n")
