"""Walking values of any depth: sessions may nest deeper than Python can recurse."""

from __future__ import annotations

from collections import UserList, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import chain, repeat
from typing import Any

from django.utils.datastructures import MultiValueDict

#: Shown for a container inside itself, or nested too deep.
ELIDED = "…"

#: Takes the name of a value in its container ("" in a list) and the value.
Visit = Callable[[Any, Any], Any]

Children = Iterator[tuple[Any, Any]]

#: Types of which most values are, and that hold nothing that has a name.
PLAIN = frozenset({str, int, float, bool, type(None)})

#: Shown as a list. Not any Sequence: text is a sequence of texts, without end.
_LISTS = (list, tuple, set, frozenset, deque, UserList)


def rebuilt(value: Any, visit: Visit, name: Any = "", *, deepest: float = float("inf")) -> Any:
    """Return a copy of ``value`` in dicts and lists, with each value replaced by ``visit``.

    ``visit`` is called for every value, for a container before its contents. A container that it
    returns is walked in turn.
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
    """Return an empty dict or list that stands for a container, and its contents with names.

    None if ``value`` is not a container. Pickled data may hold any: mappings of all kinds, named
    tuples and data classes, whose fields are names too.
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
