"""Walking values of any depth: sessions may nest deeper than Python can recurse."""

from __future__ import annotations

from collections import UserList, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import chain, repeat
from typing import Any

from django.utils.datastructures import MultiValueDict

#: What is shown for a container inside itself, or nested deeper than was asked for.
ELIDED = "…"

#: Takes the name that a value has in what is around it ("" in a list) and the value.
Visit = Callable[[Any, Any], Any]

Children = Iterator[tuple[Any, Any]]

#: Types of which most values are, and that hold nothing that has a name.
PLAIN = frozenset({str, int, float, bool, type(None)})

#: What is shown as a list. By their names: a text is a sequence of texts without end.
_LISTS = (list, tuple, set, frozenset, deque, UserList)


def rebuilt(value: Any, visit: Visit, name: Any = "", *, deepest: float = float("inf")) -> Any:
    """Return a copy of ``value`` made of dicts, lists and what ``visit`` makes of the rest.

    ``visit`` sees every value, containers before what is in them. If it returns a container, that
    is walked in turn; anything else stands as it is.
    """
    root: list[Any] = []
    walked: list[tuple[Any, Children, Any]] = [(root, iter([(name, value)]), None)]
    path: set[int] = set()
    while walked:
        target, children, source = walked[-1]
        for key, child in children:
            shown = visit(key, child)
            opened = contents(shown)
            if opened is None:
                _put(target, key, shown)
            elif id(child) in path or len(walked) > deepest:
                _put(target, key, ELIDED)
            else:
                copy, inner = opened
                _put(target, key, copy)
                walked.append((copy, inner, child))
                path.add(id(child))
                break
        else:
            walked.pop()
            path.discard(id(source))
    return root[0]


def contents(value: Any) -> tuple[dict[Any, Any] | list[Any], Children] | None:
    """Return what a container is shown as, yet empty, and what is in it with its names.

    None if it is no container. What was pickled may hold any: mappings of all kinds, named tuples
    and data classes, whose fields are names too.
    """
    if type(value) in PLAIN:
        return None
    if isinstance(value, MultiValueDict):
        # Its items() are the last value of each name only.
        return {}, iter(value.lists())
    if isinstance(value, (dict, Mapping)):
        return {}, iter(value.items())
    if isinstance(value, _LISTS):
        names = getattr(value, "_fields", ()) if isinstance(value, tuple) else ()
        return [], zip(chain(names, repeat("")), value, strict=False)
    if is_dataclass(value) and not isinstance(value, type):
        return {}, ((field.name, getattr(value, field.name, None)) for field in fields(value))
    return None


def _put(target: Any, key: Any, value: Any) -> None:
    if isinstance(target, dict):
        target[key] = value
    else:
        target.append(value)
