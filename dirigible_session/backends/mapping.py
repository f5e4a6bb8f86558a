"""The mapping between attributes and stored JSON texts, and the changes of a request.

All functions are pure. All text is ASCII: JSON escapes the characters that some databases can't
store, such as NUL and lone surrogates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from dirigible_session.lifecycle import Times
from dirigible_session.stored import USER_ID_LENGTH, from_document, from_json, user_id_of

Value = TypeVar("Value")

#: JSON text by attribute, in the order in which the attributes were first set.
Texts = Mapping[str, str]


class Confidential(dict[str, Value]):
    """A dict that hides its values from error reports, which show the variables of frames."""

    def __repr__(self) -> str:
        return f"<{', '.join(map(repr, self)) or 'nothing'}>"

    def __or__(self, other: Any) -> Any:
        return type(self)({**self, **other})


class _ConfidentialList(list[Any]):
    def __repr__(self) -> str:
        return f"<{len(self)} values>"


#: Return a value as JSON; TypeError or ValueError if it can't be.
to_text = json.JSONEncoder(separators=(",", ":")).encode

#: Return the value whose JSON text begins at a position, and the position after the text.
_parse = json.JSONDecoder().raw_decode


def to_texts(data: Mapping[Any, Any]) -> dict[str, str]:
    """Return the JSON text of each attribute; TypeError or ValueError if one can't be encoded."""
    # An error report would show a variable that holds a value, so no variable does.
    return Confidential(zip(_names(data), map(to_text, data.values()), strict=True))


def texts_since(before: Texts, data: Mapping[Any, Any]) -> dict[str, str]:
    """Return the same as :func:`to_texts`; it is faster if most texts are the same as before."""
    # One call encodes all values, since each call of the encoder has a high fixed cost.
    document, end = to_text(_ConfidentialList(data.values())), 0
    texts: dict[str, str] = Confidential()
    for name in _names(data):
        begin, text = end + 1, before.get(name)
        if text is not None and document.startswith(text, begin):
            end = begin + len(text)
        if end < begin or document[end] not in ",]":
            end = _parse(document, begin)[1]
            text = document[begin:end]
        texts[name] = cast("str", text)
    return texts


def texts_in(document: str) -> dict[str, str]:
    """Return the JSON text of each attribute in a JSON object; ValueError if it is damaged."""
    texts: dict[str, str] = Confidential()
    end = 0
    # Text that is not ASCII, or contains spaces, was not written by `to_document`.
    if document.isascii() and len(document) > 2:
        with suppress(ValueError, IndexError):
            while document[end] == ("," if texts else "{"):
                name, colon = _parse(document, end + 1)
                end = _parse(document, colon + 1)[1]
                if type(name) is not str or document[colon] != ":":
                    raise ValueError
                texts[name] = document[colon + 1 : end]
            if document[end:] == "}":
                return texts
    return to_texts(from_document(document))


def _names(data: Mapping[Any, Any]) -> Iterator[str]:
    # request.session accepts keys of any type, and JSON has its own rules to convert them.
    for name in data:
        yield name if type(name) is str else next(iter(json.loads(to_text({name: None}))))


def to_document(texts: Texts) -> str:
    """Return a JSON object of all attributes."""
    return "{" + ",".join(f"{to_text(name)}:{text}" for name, text in texts.items()) + "}"


@dataclass(frozen=True)
class Delta:
    """The changes of a request: ``removed`` is applied first, then ``changed``, in its order.

    An attribute that was removed and set again is in both, since it is now the last attribute.
    """

    changed: Texts = field(default_factory=dict, repr=False)
    removed: frozenset[str] = frozenset()
    #: The session was cleared: all stored attributes are removed first.
    clears: bool = False
    #: The names that were set, even to the same value.
    anew: Set[str] = field(default=frozenset(), compare=False)
    #: The loaded texts of those changed attributes that were dicts and still are. If the stored
    #: text differs from the loaded text by then, both changes are merged.
    before: Texts = field(default_factory=dict, repr=False, compare=False)

    def laid_over(self, texts: Texts) -> dict[str, str]:
        """Return the result of applying the changes to ``texts``."""
        kept = Confidential({} if self.clears else texts)
        changed = {name: self.text_over(texts.get(name), name) for name in self.changed}
        for name in self.removed:
            kept.pop(name, None)
        kept.update(changed)
        return kept

    def text_over(self, stored: str | None, name: str) -> str:
        """Return the new text of a changed attribute, given the text that is stored now."""
        before = self.before.get(name)
        if stored is None or stored == before or before is None or not is_dict(stored):
            return self.changed[name]
        return merged_text(before, self.changed[name], stored)


NO_CHANGE = Delta()


def delta(before: Texts, after: Texts, anew: Set[str] = frozenset()) -> Delta:
    """Return the changes that turn ``before`` into ``after``.

    An attribute that was set is included even if its text is the same, or it was removed again:
    a rival may have set it meanwhile.
    """
    # An attribute that is only set keeps its position. So the attributes that kept their position
    # are the longest prefix of `after` in the old order. At the first attribute that is new, or
    # was removed and set again, the iterator is exhausted.
    old_order = iter(before)
    moved = {name for name in after if name not in old_order and name in before}
    changed = changed_texts(before, after, moved | anew)
    return Delta(
        changed,
        removed=frozenset((before.keys() | anew) - after.keys()) | moved,
        anew=anew,
        before=dicts_before(before, changed),
    )


def changed_texts(before: Texts, after: Texts, anew: Set[str]) -> Texts:
    """Return the texts that differ from ``before``, and those of attributes that were set."""
    return Confidential(
        (name, text)
        for name, text in after.items()
        if name in anew
        or name not in before
        # Text that this package did not write may be another form of the same value. Of a dict
        # that does not matter, since it is merged with the changes of rivals.
        or (before[name] != text and (is_dict(text) or to_text(from_json(before[name])) != text))
    )


def dicts_before(before: Texts, changed: Texts) -> Texts:
    """Return the old texts of those changed attributes that were dicts and still are."""
    return Confidential(
        (name, before[name])
        for name, text in changed.items()
        if is_dict(text) and name in before and is_dict(before[name])
    )


def is_dict(text: str) -> bool:
    """Return whether a JSON text is an object."""
    return text.startswith("{")


def merged_text(before: str, ours: str, theirs: str) -> str:
    """Return the JSON text of a dict that two requests have changed; ``ours`` is the later one."""
    try:
        return to_text(merged(*map(from_json, (before, ours, theirs))))
    except (ValueError, RecursionError):
        # It is nested too deeply.
        return ours


def merged(
    before: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a dict with the changes of two requests, merged key by key at every depth.

    If both changed a key, the value of ``ours`` wins. If the value was a dict and both changed it
    to another dict, these are merged in the same way.
    """
    result = {}
    for key, their_value in theirs.items():
        if key in ours:
            result[key] = _merged_value(before, ours, their_value, key)
        elif key not in before:
            result[key] = their_value
    return result | {
        key: our_value
        for key, our_value in ours.items()
        if key not in theirs and (key not in before or not _is_same(before[key], our_value))
    }


def _merged_value(
    before: Mapping[str, Any], ours: Mapping[str, Any], their_value: Any, key: str
) -> Any:
    if key not in before:
        return ours[key]
    values = before[key], ours[key], their_value
    if all(isinstance(value, dict) for value in values):
        return merged(*values)
    return their_value if _is_same(before[key], ours[key]) else ours[key]


def _is_same(value: object, other: object) -> bool:
    # Not ==, because 1 == 1.0 == True.
    return to_text(value) == to_text(other)


def merged_times(before: Times, ours: Times, theirs: Times) -> Times:
    """Return the times to store if this request read ``before`` and now finds ``theirs``.

    The last access never goes back. The interval and the login time are those of this request if
    it set them. Of two logins, the later counts.
    """
    interval, login = theirs.interval, theirs.authenticated
    if ours.interval != before.interval:
        interval = ours.interval
    if ours.authenticated != before.authenticated:
        login = ours.authenticated
        if login is not None and theirs.authenticated is not None:
            login = max(login, theirs.authenticated)
    return Times(theirs.created, max(ours.accessed, theirs.accessed), interval, login)


def user_of(data: Mapping[str, Any]) -> str | None:
    """Return the primary key, as text, of the logged-in user of a session; None if anonymous."""
    user_id = user_id_of(data)
    return None if user_id is None else indexed_user(user_id)


def indexed_user(user_id: str) -> str:
    """Return a user's primary key as it is stored in the index.

    It is shortened to the width of the column, and loses NULs, which databases can't store.
    """
    return user_id.replace("\0", "")[:USER_ID_LENGTH]
