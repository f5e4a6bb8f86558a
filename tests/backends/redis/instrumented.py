"""What OpenTelemetry and Sentry do to redis-py, as far as the engine can tell: wrap its methods."""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import Any

import pytest
import redis.asyncio.client
import redis.client


class Wrapper:
    """Passes for the function that it wraps, as the wrappers of wrapt do."""

    def __init__(self, call: Any, wrapped: Any) -> None:
        self.call = call
        self.wrapped = wrapped

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return FunctionType

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def __eq__(self, other: object) -> bool:
        return self.wrapped == other

    def __hash__(self) -> int:
        return hash(self.wrapped)

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else MethodType(self.call, instance)


def instrumented(monkeypatch: pytest.MonkeyPatch, *, is_proxy: bool = False) -> list[str]:
    """Wrap what redis-py's calls go by; return the list in which each is noted."""
    seen: list[str] = []

    def wrap(kind: Any, method: str, name_of: Any) -> None:
        original = getattr(kind, method)

        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(name_of(self, args))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, method, Wrapper(noted, original) if is_proxy else noted)

    for module in (redis.client, redis.asyncio.client):
        wrap(module.Redis, "execute_command", lambda self, args: args[0])
        wrap(module.Pipeline, "execute", lambda self, args: f"pipeline of {len(self)}")
    return seen
