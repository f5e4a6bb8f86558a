"""What the address of the list asks for, and the links that ask for something else.

Only the parameters that are named here are read: no other look-up reaches a session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, cast

from django.http import QueryDict
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from dirigible_session.handles import HANDLE_LENGTH
from dirigible_session.inspection import Selection, parsed_duration
from dirigible_session.stored import State

#: As much of a digest as an address carries where it is not known to be one: it may have been
#: typed by a person, who may have meant a key.
HANDLE = re.compile(rf"[0-9a-f]{{4,{HANDLE_LENGTH}}}")

STATES = {"all": _("All"), "active": _("Active"), "expired": _("Expired")}
IDLE_TIMES = (
    ({"idle_under": "15m"}, _("Less than 15 minutes")),
    ({"idle_under": "1h"}, _("Less than 1 hour")),
    ({"idle_over": "1h"}, _("More than 1 hour")),
    ({"idle_over": "1d"}, _("More than 1 day")),
    ({"idle_over": "7d"}, _("More than 7 days")),
    ({"idle_over": "30d"}, _("More than 30 days")),
)


class Choice(NamedTuple):
    """A link of a filter."""

    display: Any
    address: str
    selected: bool


class Filter(NamedTuple):
    """A filter as the list shows it."""

    title: Any
    choices: list[Choice]


@dataclass(frozen=True)
class Filters:
    """The filters that an address gives, and where in the list it is."""

    state: State = "all"
    user: str = ""
    #: "1": sessions in which nobody is logged in.
    anonymous: str = ""
    idle_over: str = ""
    idle_under: str = ""
    #: The beginning of a handle.
    handle: str = ""
    #: The position of the page, as the reader gave it.
    after: str = ""
    #: How many sessions were read before this page.
    read: int = 0

    @classmethod
    def of(cls, query: QueryDict) -> Filters:
        """Read the parameters of an address; ValueError if one makes no sense."""
        given: dict[str, Any] = {
            field.name: query[field.name] for field in fields(cls) if field.name in query
        }
        if not given.get("read", "0").isdecimal() or len(given.get("read", "")) > 18:
            raise ValueError("read is not a number")
        given["read"] = int(given.get("read", 0))
        filters = cls(**given)
        if filters.state not in STATES or filters.anonymous not in ("", "1"):
            raise ValueError("no such choice")
        if filters.anonymous and filters.user:
            raise ValueError("nobody is no user")
        if filters.handle and not HANDLE.fullmatch(filters.handle):
            raise ValueError("handle is not the beginning of one")
        for duration in (filters.idle_over, filters.idle_under):
            if duration:
                parsed_duration(duration)
        return filters

    @property
    def selection(self) -> Selection:
        """Return which sessions are wanted."""
        return Selection(
            state=self.state,
            user_id=self.user or None,
            anonymous=bool(self.anonymous),
            session=self.handle or None,
            idle_over=parsed_duration(self.idle_over) if self.idle_over else None,
            idle_under=parsed_duration(self.idle_under) if self.idle_under else None,
        )

    @property
    def are_given(self) -> bool:
        """Whether not all sessions are wanted."""
        return self.first() != Filters()

    def first(self) -> Filters:
        """Return the same filters at the beginning of the list."""
        return replace(self, after="", read=0)

    def address(self, **changes: Any) -> str:
        """Return the query string of these filters with ``changes``."""
        changed = replace(self, **changes)
        given = {
            field.name: value
            for field in fields(changed)
            if (value := getattr(changed, field.name)) != field.default
        }
        return f"?{urlencode(given)}"

    def sidebar(self, username: str) -> list[Filter]:
        """Return the filters to choose from; ``username`` is that of the user who is chosen."""
        return [
            Filter(_("state"), list(self._states())),
            Filter(_("user"), list(self._users(username))),
            Filter(_("idle time"), list(self._idle_times())),
        ]

    def _choice(self, display: Any, **changes: str) -> Choice:
        first = self.first()
        address = first.address(**changes)
        return Choice(display, address, address == first.address())

    def _states(self) -> Iterator[Choice]:
        for state, display in STATES.items():
            yield self._choice(display, state=cast("State", state))

    def _users(self, username: str) -> Iterator[Choice]:
        yield self._choice(_("All"), user="", anonymous="")
        yield self._choice(_("Nobody logged in"), user="", anonymous="1")
        if self.user:
            yield self._choice(username, user=self.user, anonymous="")

    def _idle_times(self) -> Iterator[Choice]:
        yield self._choice(_("All"), idle_over="", idle_under="")
        for changes, display in IDLE_TIMES:
            yield self._choice(display, **{"idle_over": "", "idle_under": "", **changes})
