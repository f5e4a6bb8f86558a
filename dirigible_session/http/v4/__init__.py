"""Dirigible's module path: ``from dirigible_session.http.v4 import session``."""

from __future__ import annotations

from dirigible_session import facade as session

__all__ = ["session"]
