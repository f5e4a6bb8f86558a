"""Names of browsers, so that users can tell their sessions apart."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

from dirigible_session import session

#: Parts of user agents with their names; the first match counts.
BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Mac OS X", "Mac"),
    ("Linux", "Linux"),
)


def label_of(user_agent: str) -> str:
    """Return a name such as "Firefox on Linux"; nothing else of the visitor is stored."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "A browser")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "an unknown system")
    return f"{browser} on {system}"


@receiver(user_logged_in)
def remember_device(request: HttpRequest, **kwargs: Any) -> None:
    """Store the name of the browser in the session at login."""
    if session.is_valid():
        session.set_attribute("device", label_of(request.headers.get("User-Agent", "")))
