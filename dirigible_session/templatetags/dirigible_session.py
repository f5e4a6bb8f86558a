"""``{% load dirigible_session %}``: the session in templates."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice
from typing import Any

from django import template
from django.utils.translation import gettext

from dirigible_session import facade
from dirigible_session.current import context
from dirigible_session.inspection import Redactor, attributes_of
from dirigible_session.inspection import display as texts

register = template.Library()

#: The limits of the panel: attributes, and characters in a name and in a value.
MOST_ATTRIBUTES = 100
LONGEST_NAME = 100
LONGEST_VALUE = 1000


@register.simple_tag
def session_attribute(name: str, default: Any = "") -> Any:
    """Return an attribute of the current session; ``default`` if it has none, or outside a request.

    It is escaped like any value. ``{% session_attribute "cart" default=0 as cart %}``
    """
    return facade.get_attribute(name, default) if facade.is_valid() else default


@register.inclusion_tag("dirigible_session/session_info.html")
def session_info() -> dict[str, Any]:
    """Show the current session in a small panel: its handle, its times, its attributes.

    Values that the project's exception reporter filter hides are shown as stars. The tag loads the
    session, but never creates it. Outside a request it shows a line of text. ``{% session_info %}``
    """
    if not facade.is_valid():
        return {"has_request": False}
    visit = context.require("session_info").visit
    visit.load_data()
    idle_limit = gettext("never times out")
    if (seconds := visit.max_inactive_interval) > 0:
        idle_limit = f"{seconds} s ({texts.in_units(seconds)})"
    attributes = attributes_of(visit.data)
    shown = dict(islice(attributes.items(), MOST_ATTRIBUTES))
    return {
        "has_request": True,
        "handle": visit.handle,
        "is_new": not visit.client_knows_it,
        "created": datetime.fromtimestamp(visit.times.created, timezone.utc),
        "last_accessed": datetime.fromtimestamp(visit.times.accessed, timezone.utc),
        "idle_limit": idle_limit,
        "attributes": [
            (texts.shortened(name, LONGEST_NAME), texts.value_in_short(value, LONGEST_VALUE))
            for name, value in Redactor(visit.request).redacted(shown).items()
        ],
        "more": len(attributes) - len(shown),
    }
