"""Which sessions are wanted."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from dirigible_session.stored import RESERVED, Query, State, user_id_of

if TYPE_CHECKING:
    from dirigible_session.stored import StoredSession

_NUMBER = r"\d+(?:\.\d+)?"
_SECONDS = {"w": 7 * 24 * 60 * 60, "d": 24 * 60 * 60, "h": 60 * 60, "m": 60, "s": 1}
_DURATION = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in _SECONDS), re.ASCII)
_PLAIN = re.compile(_NUMBER, re.ASCII)

#: The orders of sessions, the largest or most recent first.
Order = Literal["accessed", "created", "size"]


def parsed_duration(text: str) -> float:
    """Return the seconds of a duration such as 90s, 15m, 1h30m, 7d, 1w or 90.

    A plain number is one of seconds. ValueError if the text is not a duration.
    """
    stripped = text.strip()
    if _PLAIN.fullmatch(stripped):
        return float(stripped)
    match = _DURATION.fullmatch(stripped)
    if match is None or not stripped:
        raise ValueError(f"{text!r} is not a duration; write 90s, 15m, 1h30m, 7d or 1w")
    numbers = zip(match.groups(), _SECONDS.values(), strict=True)
    return sum(float(number) * unit for number, unit in numbers if number is not None)


@dataclass(frozen=True)
class AttributeFilter:
    """An attribute that a session must have, with any value or with the value in ``text``."""

    name: str
    text: str | None = None

    @classmethod
    def parse(cls, argument: str) -> AttributeFilter:
        """Read ``NAME`` or ``NAME=VALUE``; ValueError if it does not name an attribute."""
        name, equals, text = argument.partition("=")
        if not name:
            raise ValueError(f"{argument!r} does not name an attribute; write NAME or NAME=VALUE")
        if name.startswith(RESERVED):
            raise ValueError(
                f"{name!r} is not an attribute: names that begin with _ are Django's own"
            )
        return cls(name, text if equals else None)

    def matches(self, data: Mapping[str, Any]) -> bool:
        """Return whether the data has the attribute, with this text or this JSON as its value."""
        if self.name not in data:
            return False
        if self.text is None:
            return True
        value = data[self.name]
        if isinstance(value, str):
            return value == self.text
        try:
            meant = json.loads(self.text)
            # In Python True is 1. In a session it is not.
            return isinstance(value, bool) == isinstance(meant, bool) and bool(value == meant)
        except (ValueError, RecursionError):
            return isinstance(value, (bool, type(None))) and str(value) == self.text


@dataclass(frozen=True)
class Selection:
    """Which stored sessions are wanted: every filter given must match.

    Unreadable sessions match, unless another filter needs to know their data.
    """

    state: State = "active"
    #: The primary key of a user as Django stores it in sessions: its ``str``. Any other value is
    #: converted; see :func:`~.users.find_user_id`.
    user_id: str | None = None
    #: Sessions without a user.
    anonymous: bool = False
    #: Of one session: a handle, 4 to 40 digits of the digest, or a full session key.
    session: str | None = None
    #: Full digests of several sessions; those that are gone are left out.
    digests: tuple[str, ...] | None = None
    attributes: tuple[AttributeFilter, ...] = ()
    #: Seconds since the last access. A session whose last access is unknown matches neither.
    idle_over: float | None = None
    idle_under: float | None = None
    #: The order, the largest or most recent first, unknown times last. As many sessions as
    #: ``limit`` says are in memory for it, or all. None: the order of the store.
    sort: Order | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.user_id is not None:
            object.__setattr__(self, "user_id", str(self.user_id))
        if self.limit is not None:
            # islice() takes no larger number.
            object.__setattr__(self, "limit", min(self.limit, sys.maxsize))

    @property
    def needs_content(self) -> bool:
        """Whether a filter needs to know the data of a session."""
        return (
            self.user_id is not None
            or self.anonymous
            or bool(self.attributes)
            or self.idle_over is not None
            or self.idle_under is not None
        )

    def of_all_states(self) -> Selection:
        """Return this selection, whatever the state."""
        return replace(self, state="all")

    def query(self, now: float) -> Query:
        """Return the part of it that a store can decide.

        Unreadable sessions match in any state, so the store may choose by state only if they are
        not wanted. It never chooses expired sessions: a session that is past
        ``DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT`` is still active in the store. A user id that is not
        valid text, as a lone surrogate, can't be looked up in an index.
        """
        is_decidable = self.state == "active" and self.needs_content
        return Query(
            now=now,
            state="active" if is_decidable else "all",
            user_id=self.user_id if _is_encodable(self.user_id) else None,
            digests=self.digests,
        )

    def first(self, sessions: Iterable[StoredSession]) -> Iterator[StoredSession]:
        """Give as many of these sessions as are wanted, in the order that is wanted."""
        if self.sort is None:
            return islice(sessions, self.limit)
        rank = partial(_rank, self.sort)
        if self.limit is None:
            return iter(sorted(sessions, key=rank, reverse=True))
        return iter(nlargest(self.limit, sessions, key=rank))

    def matches(self, stored: StoredSession, now: float) -> bool:
        """Return whether a stored session that was judged is wanted."""
        if stored.state == "unreadable":
            return not self.needs_content
        if self.state not in ("all", stored.state):
            return False
        return not self.needs_content or self._matches_content(stored, now)

    def _matches_content(self, stored: StoredSession, now: float) -> bool:
        data = stored.data or {}
        user_id = user_id_of(data)
        if self.user_id is not None and user_id != self.user_id:
            return False
        if self.anonymous and user_id is not None:
            return False
        if self.idle_over is not None or self.idle_under is not None:
            if stored.times is None:
                return False
            idle = now - stored.times.accessed
            if self.idle_over is not None and idle <= self.idle_over:
                return False
            if self.idle_under is not None and idle >= self.idle_under:
                return False
        return all(attribute.matches(data) for attribute in self.attributes)


def _rank(order: Order, stored: StoredSession) -> float:
    if order == "size":
        return stored.size
    if stored.times is None:
        return -math.inf
    return stored.times.accessed if order == "accessed" else stored.times.created


def _is_encodable(text: str | None) -> bool:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return False
    return True
