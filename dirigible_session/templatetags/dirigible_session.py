"""``{% load dirigible_session %}``: the session in templates."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any

from django import template
from django.utils.translation import gettext

from dirigible_session import facade
from dirigible_session.current import context
from dirigible_session.inspection import Redactor, attributes_of
from dirigible_session.inspection import display as texts

if TYPE_CHECKING:
    from dirigible_session.current.visit import Visit

register = template.Library()

#: What a panel shows of a session at most: attributes, and characters of a name and of a value.
MOST_ATTRIBUTES = 100
LONGEST_NAME = 100
LONGEST_VALUE = 1000


@register.simple_tag
def session_attribute(name: str, default: Any = "") -> Any:
    """Return an attribute of the current session, or ``default``; escaped like any value.

    Outside a request, the default. ``{% session_attribute "cart" default=0 as cart %}``
    """
    return facade.get_attribute(name, default) if facade.is_valid() else default


@register.inclusion_tag("dirigible_session/session_info.html")
def session_info() -> dict[str, Any]:
    """Show the current session in a small panel: its handle, its times, its attributes.

    Secrets are stars, by the rule of the project's exception reporter filter. Loads the session,
    never creates it. Outside a request, a line of text that says so. ``{% session_info %}``
    """
    if not facade.is_valid():
        return {"has_request": False}
    visit = context.require("session_info").visit
    visit.load_data()
    attributes = attributes_of(visit.data)
    shown = dict(islice(attributes.items(), MOST_ATTRIBUTES))
    return {
        "has_request": True,
        "handle": visit.handle,
        "is_new": not visit.client_knows_it,
        "created": datetime.fromtimestamp(visit.times.created, timezone.utc),
        "last_accessed": datetime.fromtimestamp(visit.times.accessed, timezone.utc),
        "idle_limit": _idle_limit(visit),
        "attributes": [
            (texts.shortened(name, LONGEST_NAME), texts.value_in_short(value, LONGEST_VALUE))
            for name, value in Redactor(visit.request).redacted(shown).items()
        ],
        "more": len(attributes) - len(shown),
    }


def _idle_limit(visit: Visit) -> str:
    seconds = visit.max_inactive_interval
    return f"{seconds} s ({texts.in_units(seconds)})" if seconds > 0 else gettext("never times out")
