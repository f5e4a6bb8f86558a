"""What a test reads on a page."""

from __future__ import annotations

import re
from typing import Any

HANDLE = re.compile(r'class="field-handle"><a href="[^"]*">([0-9a-f]{12})</a>')


def html_of(response: Any) -> str:
    return response.content.decode()


def handles_on(response: Any) -> list[str]:
    return HANDLE.findall(html_of(response))


def link(response: Any, text: str) -> str:
    """Return the address of the link that says ``text``."""
    (address,) = re.findall(rf'<a href="([^"]*)"[^>]*>{re.escape(text)}</a>', html_of(response))
    return address.replace("&amp;", "&")
