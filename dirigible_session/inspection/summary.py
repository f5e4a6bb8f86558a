"""Sessions counted instead of shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from .reporting import attributes_of, user_id_of, utc

if TYPE_CHECKING:
    from .reporting import Judged


@dataclass(frozen=True)
class Summary:
    """Counts of sessions."""

    active: int
    expired: int
    unreadable: int
    #: Of those that are readable: somebody is logged in, or nobody.
    authenticated: int
    anonymous: int
    #: Different users among the authenticated.
    users: int
    #: Bytes as stored, of all sessions and of the largest.
    bytes: int
    largest: int
    #: When the oldest was created, in UTC; None where unknown.
    oldest: datetime | None
    #: How many sessions have an attribute of a name, the most frequent first.
    attributes: dict[str, int]


def summarized(sessions: Iterable[Judged]) -> Summary:
    """Count sessions. Memory grows with the different users and names of attributes, no more."""
    states: Counter[str] = Counter()
    names: Counter[str] = Counter()
    users: set[str] = set()
    authenticated = total = largest = 0
    oldest = float("inf")
    for stored, state, *_ in sessions:
        states[state] += 1
        total += stored.size
        largest = max(largest, stored.size)
        if state == "unreadable" or stored.data is None:
            continue
        user_id = user_id_of(stored.data)
        if user_id is not None:
            authenticated += 1
            users.add(user_id)
        names.update(attributes_of(stored.data).keys())
        if stored.times is not None:
            oldest = min(oldest, stored.times.created)
    return Summary(
        active=states["active"],
        expired=states["expired"],
        unreadable=states["unreadable"],
        authenticated=authenticated,
        anonymous=states["active"] + states["expired"] - authenticated,
        users=len(users),
        bytes=total,
        largest=largest,
        oldest=utc(oldest),
        attributes=dict(sorted(names.items(), key=lambda named: (-named[1], named[0]))),
    )
