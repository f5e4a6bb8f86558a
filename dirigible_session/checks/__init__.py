"""System checks: what is wrong with the project's set-up, found at start."""

from __future__ import annotations

from . import engines, project, redis

__all__ = ["engines", "project", "redis"]
