"""The page "How it works" names modules, classes and methods that exist."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from .blocks import ROOT

PAGE = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
HOUSE = ROOT / "dirigible_session"

PATHS = sorted(set(re.findall(r"`([a-z_/]+(?:\.py|/))`", PAGE)))
METHODS = sorted(set(re.findall(r"`([A-Z]\w+)\.(\w+)(?:\(\))?`", PAGE)))
FUNCTIONS = sorted(set(re.findall(r"`(\w+)\(\)`", PAGE)))

pytestmark = pytest.mark.skipif(not HOUSE.is_dir(), reason="needs the sources of the package")


@pytest.mark.quick
@pytest.mark.parametrize("path", PATHS)
def test_a_path_on_the_page_exists(path: str) -> None:
    rooms = [HOUSE, HOUSE / "backends", ROOT]
    assert any((room / path).exists() for room in rooms), path


@pytest.mark.quick
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_method_on_the_page_exists(name: str, method: str) -> None:
    classes = [node for node in _nodes() if isinstance(node, ast.ClassDef) and node.name == name]
    written = {text for node in classes for text in re.findall(r"\w+", ast.unparse(node))}
    assert method in written


@pytest.mark.quick
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_on_the_page_exists(function: str) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert function in {node.name for node in _nodes() if isinstance(node, functions)}


@cache
def _nodes() -> list[ast.AST]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in HOUSE.rglob("*.py")]
    return [node for tree in trees for node in ast.walk(tree)]
