"""The house: which way the imports point, how big the rooms are, what each public name is."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import dirigible_session
from dirigible_session import facade, testing

PACKAGE = Path(dirigible_session.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).as_posix(): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "migrations" not in path.parts
}

LEAVES = {"exceptions", "signals", "conf", "handles"}
#: What each module of the core may import of the package, besides the leaves.
ARROWS = {
    **{leaf: set() for leaf in LEAVES},
    "notices": set(),
    "turns": set(),
    "lifecycle": LEAVES,
    "attributes": LEAVES | {"notices"},
    "visit": LEAVES | {"lifecycle", "attributes", "notices", "turns"},
    "context": LEAVES | {"visit"},
    "facade": LEAVES | {"visit", "context", "attributes"},
    "middleware": LEAVES | {"visit", "context"},
}
OWN_ENGINES = ("backends.db", "backends.redis")


def _imports(path):
    """Give the modules of the package that a module imports, as dotted names within it."""
    package = ("dirigible_session", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [(module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            if module == "dirigible_session":
                yield name or ""
            elif module.startswith("dirigible_session."):
                inner = module.removeprefix("dirigible_session.")
                # `from .backends import db` names a module, `from .conf import conf` a value.
                is_module = name and (PACKAGE / inner.replace(".", "/") / f"{name}.py").exists()
                yield f"{inner}.{name}" if is_module else inner


def _in(folder):
    return [name for name in MODULES if name.startswith(f"{folder}/")]


@pytest.mark.parametrize("module", ARROWS)
def test_the_imports_of_the_core_point_down(module):
    assert set(_imports(MODULES[f"{module}.py"])) <= ARROWS[module]


def test_every_module_at_the_top_has_its_place():
    shells = {"__init__", "apps", "checks", "models", "admin", "testing"}
    shells |= {"engine_checks", "redis_checks", "moving"}
    top = {name.removesuffix(".py") for name in MODULES if "/" not in name}
    assert top <= set(ARROWS) | shells


@pytest.mark.parametrize("module", _in("backends"))
def test_engines_know_neither_facade_nor_context(module):
    tops = {name.split(".")[0] for name in _imports(MODULES[module])}
    assert not tops & {"facade", "context", "visit", "middleware", "inspection"}


@pytest.mark.parametrize("module", _in("inspection"))
def test_inspection_knows_no_engine_by_name(module):
    assert not [name for name in _imports(MODULES[module]) if name.startswith(OWN_ENGINES)]
    source = MODULES[module].read_text()
    assert not [name for name in OWN_ENGINES if f"dirigible_session.{name}" in source]


def test_only_commands_know_rich():
    for name, path in MODULES.items():
        roots = {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {
            (node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and not node.level
        }
        if not name.startswith("management/"):
            assert not roots & {"rich", "django_rich"}, name


@pytest.mark.parametrize("module", MODULES)
def test_no_room_is_crowded(module):
    source = MODULES[module].read_text()
    assert len(source.splitlines()) <= 700
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 100, node.name


@pytest.mark.parametrize("module", MODULES)
def test_every_module_and_what_is_public_in_it_says_what_it_is(module):
    tree = ast.parse(MODULES[module].read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            assert node.name.startswith("_") or ast.get_docstring(node), node.name


SPELLINGS = {
    "isValid": "is_valid",
    "getAttribute": "get_attribute",
    "getAttributeNames": "get_attribute_names",
    "getCreationTime": "get_creation_time",
    "getId": "get_id",
    "getLastAccessedTime": "get_last_accessed_time",
    "getMaxInactiveInterval": "get_max_inactive_interval",
    "isNew": "is_new",
    "setAttribute": "set_attribute",
    "removeAttribute": "remove_attribute",
    "setMaxInactiveInterval": "set_max_inactive_interval",
    "changeSessionId": "change_session_id",
    "invalidate": "invalidate",
}


@pytest.mark.parametrize(("dirigible", "python"), SPELLINGS.items())
def test_both_spellings_are_one_function(dirigible, python):
    assert getattr(facade, dirigible) is getattr(facade, python)
    assert {dirigible, python} <= set(facade.__all__)


@pytest.mark.parametrize("name", sorted({*SPELLINGS.values(), "open_session"} - {"is_valid"}))
def test_an_async_twin_has_the_signature_of_its_function(name):
    function, twin = getattr(facade, name), getattr(facade, "a" + name)
    if name != "open_session":
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(function)
    parameters = inspect.signature(function).parameters
    assert inspect.signature(twin).parameters == parameters
    assert "a" + name in facade.__all__


@pytest.mark.parametrize("module", [facade, testing], ids=["facade", "testing"])
def test_what_a_public_module_offers_is_there_and_documented(module):
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), name


def test_the_facade_is_found_by_each_of_its_names():
    from dirigible_session import facade as by_facade
    from dirigible_session import session as by_session
    from dirigible_session.http import session as by_http
    from dirigible_session.http.v4 import session as by_v4

    assert by_facade is by_session is by_http is by_v4
    for path in ("http.session", "http.v4.session"):
        assert import_module(f"dirigible_session.{path}") is by_facade
    assert by_facade.__name__ == "dirigible_session.facade"


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
