"""System checks: mistakes in the settings of the project are reported at start."""

from __future__ import annotations

from . import engines, middleware, redis, settings

__all__ = ["engines", "middleware", "redis", "settings"]
