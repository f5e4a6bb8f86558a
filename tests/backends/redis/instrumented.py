"""What OpenTelemetry and Sentry do to redis-py, as far as the engine can tell: wrap its methods."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio.client
import redis.client


def instrumented(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Wrap what redis-py's calls go by; return the list in which each is noted."""
    seen: list[str] = []

    def wrap(kind: Any, method: str, name_of: Any) -> None:
        original = getattr(kind, method)

        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(name_of(self, args))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, method, noted)

    for module in (redis.client, redis.asyncio.client):
        wrap(module.Redis, "execute_command", lambda self, args: args[0])
        wrap(module.Pipeline, "execute", lambda self, args: f"pipeline of {len(self)}")
    return seen
