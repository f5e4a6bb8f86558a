from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync


class Api:
    """One way to call a store: each test runs with the sync and with the async methods."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        def call(store: Any, *args: Any, **kwargs: Any) -> Any:
            method = getattr(store, self._prefix + name)
            return async_to_sync(method)(*args, **kwargs) if self._prefix else method(*args)

        return call


@pytest.fixture(params=["", "a"], ids=["sync", "async"])
def api(request: pytest.FixtureRequest) -> Api:
    return Api(request.param)
