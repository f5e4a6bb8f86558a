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

#: The floors of the house, from the ground up. A room is a module or a folder at the top; what it
#: imports of the package stands on a lower floor, or in the same room.
FLOORS = (
    {"conf", "exceptions", "handles", "lifecycle", "signals"},
    {"stored"},
    {"backends", "current", "inspection", "models"},
    {"facade", "middleware", "transfer"},
    {"checks", "http", "testing", "users"},
    {"admin", "apps", "management", "templatetags"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: Arrows within a floor, each for a reason; none of them makes a circle.
WITHIN = {
    # The db engine's table.
    ("backends", "models"),
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


def _room(module):
    return module.split(".")[0].split("/")[0]


ROOMS = sorted({_room(name) for name in MODULES} - {"__init__"})


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room):
    for name, path in MODULES.items():
        if _room(name) != room:
            continue
        for imported in map(_room, _imports(path)):
            is_down = imported == "" or FLOOR[imported] < FLOOR[room]
            assert imported == room or is_down or (room, imported) in WITHIN, (name, imported)


def test_no_module_imports_itself_by_way_of_others():
    arrows = {
        _dotted(name): {_existing(imported) for imported in _imports(path)} - {""}
        for name, path in MODULES.items()
    }
    done = set()

    def follow(module, trail):
        assert module not in trail, " -> ".join([*trail, module])
        if module not in done:
            for imported in arrows.get(module, ()):
                follow(imported, [*trail, module])
            done.add(module)

    for module in arrows:
        follow(module, [])


def _dotted(name):
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _existing(imported):
    return "" if imported == "__init__" else imported


def test_the_top_of_the_house_fits_on_a_page():
    assert len([name for name in MODULES if "/" not in name]) <= 20


@pytest.mark.parametrize("module", _in("backends"))
def test_engines_stand_on_what_both_share_and_not_on_each_other(module):
    parts = module.split("/")
    other = {"db": "backends.redis", "redis": "backends.db"}.get(parts[1] if len(parts) > 2 else "")
    for name in _imports(MODULES[module]):
        assert other is None or not name.startswith(other), name
        assert len(parts) > 2 or not name.startswith(OWN_ENGINES), name


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
            # A class that is made in a function counts by its methods.
            inner = [part for part in node.body if isinstance(part, ast.ClassDef)]
            lines = node.end_lineno - node.lineno
            lines -= sum(part.end_lineno - part.lineno for part in inner)
            assert lines < 50, node.name


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
    "getAuthenticationTime": "get_authentication_time",
    "getHandle": "get_handle",
    "getTimeLeft": "get_time_left",
    "setDefault": "set_default",
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
    from dirigible_session.http import Session as by_sdk
    from dirigible_session.http import session as by_http
    from dirigible_session.http.v4 import session as by_v4

    assert by_facade is by_session is by_http is by_sdk is by_v4
    for path in ("http.session", "http.v4.session"):
        assert import_module(f"dirigible_session.{path}") is by_facade
    assert by_facade.__name__ == "dirigible_session.facade"


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
