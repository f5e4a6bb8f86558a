"""Dirigible's alias: ``from dirigible_session.http import session``, or ``Session``."""

from __future__ import annotations

import sys

from dirigible_session import facade as session

__all__ = ["Session", "session"]

Session = session

# It can be imported by its path, too.
sys.modules[f"{__name__}.session"] = session
