"""To and from storage: JSON text, one text for each attribute, and what a request changed of them.

Pure functions. All text is ASCII: JSON escapes what some database or other could not keep, NUL
and lone surrogates among it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from django.contrib.auth import SESSION_KEY

from dirigible_session.lifecycle import Times
from dirigible_session.stored import USER_ID_LENGTH, from_document, from_json

Value = TypeVar("Value")

#: JSON text by attribute, in the order in which the attributes were first set.
Texts = Mapping[str, str]


class Confidential(dict[str, Value]):
    """A dict whose values an error report does not show among a frame's variables."""

    def __repr__(self) -> str:
        return f"<{', '.join(map(repr, self)) or 'nothing'}>"

    def __or__(self, other: Any) -> Any:
        return type(self)({**self, **other})


class _ConfidentialList(list[Any]):
    def __repr__(self) -> str:
        return f"<{len(self)} values>"


#: Return a value as JSON; TypeError or ValueError if it can't be.
to_text = json.JSONEncoder(separators=(",", ":")).encode

#: Return the value whose JSON text begins at a position, and the position after it.
_parse = json.JSONDecoder().raw_decode


def to_texts(data: Mapping[Any, Any]) -> dict[str, str]:
    """Return the JSON text of each attribute; TypeError or ValueError if one can't be encoded."""
    # No value gets a name here, which an error report would show.
    return Confidential(zip(_names(data), map(to_text, data.values()), strict=True))


def texts_since(before: Texts, data: Mapping[Any, Any]) -> dict[str, str]:
    """Return the same as :func:`to_texts`, sooner if most of the texts are as before."""
    # All values in one list: a call of the encoder takes longer than to encode a small value.
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
    # Text that is not ASCII, or has spaces, was not written by `to_document`.
    if document.isascii() and len(document) > 2:
        with suppress(ValueError, IndexError):
            while document[end] == ("," if texts else "{"):
                name, colon = _parse(document, end + 1)
                end = _parse(document, colon + 1)[1]
                if type(name) is not str or document[colon] != ":":
                    break
                texts[name] = document[colon + 1 : end]
            if document[end:] == "}":
                return texts
    return to_texts(from_document(document))


def _names(data: Mapping[Any, Any]) -> Iterator[str]:
    # request.session takes any key. JSON has rules of its own for what is not a str.
    for name in data:
        yield name if type(name) is str else next(iter(json.loads(to_text({name: None}))))


def to_document(texts: Texts) -> str:
    """Return one JSON object that holds all attributes."""
    return "{" + ",".join(f"{to_text(name)}:{text}" for name, text in texts.items()) + "}"


@dataclass(frozen=True)
class Delta:
    """What a request changed: first ``removed`` goes, then ``changed`` is set, in its order.

    An attribute that was removed and set again is in both, since it is now the youngest.
    """

    changed: Texts = field(default_factory=dict, repr=False)
    removed: frozenset[str] = frozenset()
    #: Everything that is stored goes first: the session was cleared.
    clears: bool = False
    #: What was set, even to what it was.
    anew: Set[str] = field(default=frozenset(), compare=False)
    #: Of each changed attribute that is a dict and was one before, its text before. Where it is
    #: stored with another text by now, both changes are merged.
    before: Texts = field(default_factory=dict, repr=False, compare=False)

    def laid_over(self, texts: Texts) -> dict[str, str]:
        """Return what is to be stored where ``texts`` is stored now."""
        kept = Confidential({} if self.clears else texts)
        changed = {name: self.text_over(texts.get(name), name) for name in self.changed}
        for name in self.removed:
            kept.pop(name, None)
        kept.update(changed)
        return kept

    def text_over(self, stored: str | None, name: str) -> str:
        """Return the text to store for a changed attribute that is stored with another text."""
        before = self.before.get(name)
        if stored is None or stored == before or before is None or not is_dict(stored):
            return self.changed[name]
        return merged_text(before, self.changed[name], stored)


NO_CHANGE = Delta()


def delta(before: Texts, after: Texts, anew: Set[str] = frozenset()) -> Delta:
    """Return what makes ``after`` out of ``before``.

    What was set ``anew`` is part of it even if it is the same now, or no longer there: a rival may
    have set it meanwhile.
    """
    # Setting an attribute again leaves it where it is, so what was not set anew is the longest
    # beginning that still has the old order. The iterator is used up at the first that has not:
    # one that was set anew, or a new one.
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
    """Return what is other than before, and what was set anew."""
    return Confidential(
        (name, text)
        for name, text in after.items()
        if name in anew or not (before.get(name) == text or _is_same_text(before.get(name), text))
    )


def _is_same_text(before: str | None, text: str) -> bool:
    # What was not written by this package may be the same value in another form.
    return before is not None and to_text(from_json(before)) == text


def dicts_before(before: Texts, changed: Texts) -> Texts:
    """Return the texts before of those changed attributes that were dicts, and are."""
    return Confidential(
        (name, before[name])
        for name, text in changed.items()
        if is_dict(text) and name in before and is_dict(before[name])
    )


def is_dict(text: str) -> bool:
    """Return whether a JSON text is that of a dict."""
    return text.startswith("{")


def merged_text(before: str, ours: str, theirs: str) -> str:
    """Return the JSON text of what two requests made of one dict; ``ours`` is the later one."""
    try:
        return to_text(merged(*map(from_json, (before, ours, theirs))))
    except (ValueError, RecursionError):
        # Nested too deep.
        return ours


def merged(
    before: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what two requests made of one dict, key by key at every depth.

    Where both changed one key, what ``ours`` says wins. Where that was a dict before and both
    changed it to another dict, these are merged in turn.
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
    # Not ==, which takes 1 for 1.0 and for True.
    return to_text(value) == to_text(other)


def merged_times(before: Times, ours: Times, theirs: Times) -> Times:
    """Return the times to store where this request read ``before`` and now finds ``theirs``.

    The last access never goes back; the interval and the login are this request's if it set them.
    Of two logins the later one counts.
    """
    interval, login = theirs.interval, theirs.authenticated
    if ours.interval != before.interval:
        interval = ours.interval
    if ours.authenticated != before.authenticated:
        is_both = ours.authenticated is not None and login is not None
        login = max(filter(None, (ours.authenticated, login))) if is_both else ours.authenticated
    return Times(theirs.created, max(ours.accessed, theirs.accessed), interval, login)


def user_of(data: Mapping[str, Any]) -> str | None:
    """Return the primary key, as text, of the user who is logged in to a session."""
    user_id = data.get(SESSION_KEY)
    return None if user_id is None else indexed_user(str(user_id))


def indexed_user(user_id: str) -> str:
    """Return what a user's primary key is found by: itself, but for an absurd one.

    No database keeps a NUL in a column of text, and a column has a width.
    """
    return user_id.replace("\0", "")[:USER_ID_LENGTH]
