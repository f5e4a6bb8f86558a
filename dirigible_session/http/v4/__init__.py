"""Dirigible's module path: ``from dirigible_session.http.v4 import session``."""

from __future__ import annotations

import sys

from dirigible_session import facade as session

__all__ = ["session"]

# It can be imported by its path, too.
sys.modules[f"{__name__}.session"] = session
