"""System checks: what is wrong with the project's set-up, found at start."""

from __future__ import annotations

from . import engines, middleware, redis, settings

__all__ = ["engines", "middleware", "redis", "settings"]
