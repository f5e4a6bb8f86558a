"""To and from storage: JSON text, one text for each attribute, and what a request changed of them.

Pure functions. All text is ASCII: JSON escapes what some database or other could not keep, NUL
and lone surrogates among it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth import SESSION_KEY

from dirigible_session.lifecycle import Times
from dirigible_session.stored import USER_ID_LENGTH

_encode = json.JSONEncoder(separators=(",", ":")).encode

#: JSON text by attribute, in the order in which the attributes were first set.
Texts = Mapping[str, str]


def to_text(value: object) -> str:
    """Return a value as JSON; TypeError or ValueError if it can't be."""
    return _encode(value)


def to_texts(data: Mapping[Any, Any]) -> dict[str, str]:
    """Return the JSON text of each attribute; TypeError or ValueError if one can't be."""
    return {
        name if type(name) is str else _key_text(name): to_text(value)
        for name, value in data.items()
    }


def _key_text(name: object) -> str:
    # request.session takes any key. JSON has rules of its own for what is no str.
    (text,) = json.loads(_encode({name: None}))
    return str(text)


def to_document(texts: Texts) -> str:
    """Return one JSON object that holds all attributes."""
    return "{" + ",".join(f"{_encode(name)}:{text}" for name, text in texts.items()) + "}"


@dataclass(frozen=True)
class Delta:
    """What a request changed: first ``removed`` goes, then ``changed`` is set, in its order.

    An attribute that was removed and set again is in both, since it is now the youngest.
    """

    changed: Texts = field(default_factory=dict)
    removed: frozenset[str] = frozenset()
    #: Everything that is stored goes first: the session was cleared.
    clears: bool = False
    #: What was set, even to what it was.
    anew: Set[str] = field(default=frozenset(), compare=False)

    def laid_over(self, texts: Texts) -> dict[str, str]:
        """Return what is to be stored where ``texts`` is stored now."""
        kept = {} if self.clears else dict(texts)
        for name in self.removed:
            kept.pop(name, None)
        kept.update(self.changed)
        return kept


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
    return Delta(
        changed={
            name: text
            for name, text in after.items()
            if before.get(name) != text or name in moved or name in anew
        },
        removed=frozenset((before.keys() | anew) - after.keys()) | moved,
        anew=anew,
    )


def merged_times(before: Times, ours: Times, theirs: Times) -> Times:
    """Return the times to store where this request read ``before`` and now finds ``theirs``.

    The last access never goes back; the interval and the login are this request's if it set them.
    """
    mine = {
        name: getattr(ours, name)
        for name in ("interval", "authenticated")
        if getattr(ours, name) != getattr(before, name)
    }
    return replace(theirs, accessed=max(ours.accessed, theirs.accessed), **mine)


def user_of(data: Mapping[str, Any]) -> str | None:
    """Return the primary key, as text, of the user who is logged in to a session."""
    user_id = data.get(SESSION_KEY)
    return None if user_id is None else indexed_user(str(user_id))


def indexed_user(user_id: str) -> str:
    """Return what a user's primary key is found by: itself, but for an absurd one.

    No database keeps a NUL in a column of text, and a column has a width.
    """
    return user_id.replace("\0", "")[:USER_ID_LENGTH]
