"""System checks of the Redis engine: what it needs, and where it finds its server."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register

from dirigible_session.conf import PREFIX, conf

from .engines import engine_class

ENGINE = "dirigible_session.backends.redis"
SETTING = PREFIX + "REDIS_URL"
EXAMPLE = "redis://localhost:6379/0"
EXTRA = "pip install 'dirigible-session[redis]'"


def _is_in_use() -> bool:
    # By name, since the engine can't be imported without redis-py.
    bases = getattr(engine_class(), "__mro__", ())
    return settings.SESSION_ENGINE == ENGINE or any(base.__module__ == ENGINE for base in bases)


@register
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


@register
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
    if find_spec("redis") is None:
        return []
    # Imported here: the engine's package can't be imported without redis-py.
    from dirigible_session.backends.redis.url import parse

    try:
        parse(url)
    except ValueError as problem:
        return [
            checks.Error(f"{SETTING} is wrong: {problem}.", hint=hint, id="dirigible_session.E022")
        ]
    return []
