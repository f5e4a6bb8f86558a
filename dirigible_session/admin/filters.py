"""The filters of the list: reading them from its address, and the links that change them.

Only these parameters are read, so that no other look-up, such as ``session_data__contains``, can
be used to guess the content of a session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from django.http import QueryDict
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from dirigible_session.handles import HANDLE_LENGTH, SHORTEST
from dirigible_session.inspection import Selection, parsed_duration
from dirigible_session.stored import State

#: A handle or its beginning. A search term with more digits may be a session key, which must not
#: get into an address.
HANDLE = re.compile(rf"[0-9a-f]{{{SHORTEST},{HANDLE_LENGTH}}}")

STATES = {"all": _("All"), "active": _("Active"), "expired": _("Expired")}
IDLE_TIMES: tuple[tuple[dict[str, str], Any], ...] = (
    ({}, _("All")),
    ({"idle_under": "15m"}, _("Less than 15 minutes")),
    ({"idle_under": "1h"}, _("Less than 1 hour")),
    ({"idle_over": "1h"}, _("More than 1 hour")),
    ({"idle_over": "1d"}, _("More than 1 day")),
    ({"idle_over": "7d"}, _("More than 7 days")),
    ({"idle_over": "30d"}, _("More than 30 days")),
)


class Choice(NamedTuple):
    """A choice of a filter: a link."""

    display: Any
    address: str
    selected: bool


class Filter(NamedTuple):
    """A filter in the sidebar of the list."""

    title: Any
    choices: list[Choice]


@dataclass(frozen=True)
class Filters:
    """The filters in an address of the list, and the position of its page."""

    state: State = "all"
    user: str = ""
    #: "1" selects the sessions without a user.
    anonymous: str = ""
    idle_over: str = ""
    idle_under: str = ""
    #: The beginning of a handle.
    handle: str = ""
    #: The position of the page, from the reader.
    after: str = ""
    #: The number of sessions that were read before this page.
    read: int = 0

    @classmethod
    def of(cls, query: QueryDict) -> Filters:
        """Return the filters in the query string of an address; ValueError if one is not valid."""
        given: dict[str, Any] = {
            field.name: query[field.name] for field in fields(cls) if field.name in query
        }
        if not given.get("read", "0").isdecimal() or len(given.get("read", "")) > 18:
            raise ValueError("read is not a number")
        given["read"] = int(given.get("read", 0))
        filters = cls(**given)
        if filters.state not in STATES or filters.anonymous not in ("", "1"):
            raise ValueError("not a choice")
        if filters.anonymous and filters.user:
            raise ValueError("both a user and no user")
        if filters.handle and not HANDLE.fullmatch(filters.handle):
            raise ValueError("not the beginning of a handle")
        for duration in (filters.idle_over, filters.idle_under):
            if duration:
                parsed_duration(duration)
        return filters

    @property
    def selection(self) -> Selection:
        """Return the selection of sessions for the reader."""
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
        """Return whether any filter is set."""
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
        """Return the filters to choose from; ``username`` is the name of the chosen user."""
        users = [
            self._choice(_("All"), user="", anonymous=""),
            self._choice(_("Nobody logged in"), user="", anonymous="1"),
        ]
        if self.user:
            users.append(self._choice(username, user=self.user, anonymous=""))
        states = [self._choice(display, state=state) for state, display in STATES.items()]
        idle_times = [
            self._choice(display, **{"idle_over": "", "idle_under": "", **changes})
            for changes, display in IDLE_TIMES
        ]
        return [
            Filter(_("state"), states),
            Filter(_("user"), users),
            Filter(_("idle time"), idle_times),
        ]

    def _choice(self, display: Any, **changes: str) -> Choice:
        first = self.first()
        address = first.address(**changes)
        return Choice(display, address, address == first.address())
