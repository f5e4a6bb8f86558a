"""Walking values of any depth: sessions may nest deeper than Python can recurse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

#: What is shown for a container inside itself, or nested deeper than was asked for.
ELIDED = "…"

#: Takes the key that a value has in the dict around it ("" in a list) and the value.
Visit = Callable[[Any, Any], Any]


def rebuilt(value: Any, visit: Visit, name: Any = "", *, deepest: float = float("inf")) -> Any:
    """Return a copy of ``value`` made of dicts, lists and what ``visit`` makes of the rest.

    ``visit`` sees every value, containers before what is in them. If it returns a dict, a list or
    a tuple, that is walked in turn; anything else stands as it is.
    """
    root: list[Any] = []
    opened: list[tuple[Any, Iterator[tuple[Any, Any]], Any]] = [(root, iter([(name, value)]), None)]
    path: set[int] = set()
    while opened:
        target, children, source = opened[-1]
        for key, child in children:
            shown = visit(key, child)
            if not isinstance(shown, (dict, list, tuple)):
                _put(target, key, shown)
            elif id(child) in path or len(opened) > deepest:
                _put(target, key, ELIDED)
            else:
                copy: Any = {} if isinstance(shown, dict) else []
                _put(target, key, copy)
                opened.append((copy, _children(shown), child))
                path.add(id(child))
                break
        else:
            opened.pop()
            path.discard(id(source))
    return root[0]


def _put(target: Any, key: Any, value: Any) -> None:
    if isinstance(target, dict):
        target[key] = value
    else:
        target.append(value)


def _children(container: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(container, dict):
        return iter(container.items())
    return (("", item) for item in container)
