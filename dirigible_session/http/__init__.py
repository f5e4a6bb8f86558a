"""Dirigible's alias: ``from dirigible_session.http import session``."""

from __future__ import annotations

from dirigible_session import facade as session

__all__ = ["session"]
