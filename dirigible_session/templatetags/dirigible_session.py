"""``{% load dirigible_session %}``: the session in templates."""

from __future__ import annotations

from typing import Any

from django import template

from dirigible_session import facade

register = template.Library()


@register.simple_tag
def session_attribute(name: str, default: Any = "") -> Any:
    """Return an attribute of the current session, or ``default``; escaped like any value.

    Outside a request, the default. ``{% session_attribute "cart" default=0 as cart %}``
    """
    return facade.get_attribute(name, default) if facade.is_valid() else default
