"""System checks of the Redis engine: what it needs, and where it finds its server."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage

from .backends.redis_url import EXAMPLE, SETTING, parse
from .conf import conf
from .engine_checks import engine_class

ENGINE = "dirigible_session.backends.redis"
EXTRA = "pip install 'dirigible-session[redis]'"


def register_all() -> None:
    """Register every check of this module with Django."""
    checks.register(check_redis_installed)
    checks.register(check_redis_url)


def _is_in_use() -> bool:
    # By name, since the engine can't be imported without redis-py.
    bases = getattr(engine_class(), "__mro__", ())
    return settings.SESSION_ENGINE == ENGINE or any(base.__module__ == ENGINE for base in bases)


def check_redis_installed(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """What the engine talks to Redis with is installed."""
    if not _is_in_use() or find_spec("redis") is not None:
        return []
    return [
        checks.Error(
            f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, and redis-py is not installed.",
            hint=f"Install it: {EXTRA}",
            id="dirigible_session.E020",
        )
    ]


def check_redis_url(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``DIRIGIBLE_SESSION_REDIS_URL`` names a server or a cluster, if the engine is in use."""
    url = conf.redis_url
    hint = (
        f"{SETTING} = {EXAMPLE!r} names one server, 'redis+cluster://node1:6379,node2:6379' some "
        "nodes of a cluster."
    )
    if url is None:
        if not _is_in_use():
            return []
        return [
            checks.Error(
                f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, and {SETTING} is not set.",
                hint=hint,
                id="dirigible_session.E021",
            )
        ]
    try:
        parse(url)
    except ValueError as problem:
        return [
            checks.Error(f"{SETTING} is wrong: {problem}.", hint=hint, id="dirigible_session.E022")
        ]
    return []
