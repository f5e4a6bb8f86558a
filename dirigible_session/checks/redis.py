"""System checks of the Redis engine: redis-py is installed, and the server is configured."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from dirigible_session.conf import PREFIX, conf

from .engines import engine_class

ENGINE = "dirigible_session.backends.redis"
SETTING = PREFIX + "REDIS_URL"
CLIENT_SETTING = PREFIX + "REDIS_CLIENT"
EXAMPLE = "redis://localhost:6379/0"
EXTRA = "pip install 'dirigible-session[redis]'"


def _is_in_use() -> bool:
    # By name, since the engine can't be imported without redis-py.
    bases = getattr(engine_class(), "__mro__", ())
    return settings.SESSION_ENGINE == ENGINE or any(base.__module__ == ENGINE for base in bases)


@register
def check_redis_installed(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """redis-py is installed if the Redis engine is in use."""
    if not _is_in_use() or find_spec("redis") is not None:
        return []
    return [
        checks.Error(
            f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, but redis-py is not installed.",
            hint=_("Install it: %(command)s") % {"command": EXTRA},
            id="dirigible_session.E020",
        )
    ]


@register
def check_redis_url(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``DIRIGIBLE_SESSION_REDIS_URL`` names a server or a cluster, if the engine is in use."""
    url = conf.redis_url
    hint = _(
        "%(setting)s = %(server)r names one server, 'redis+cluster://node1:6379,node2:6379' some "
        "nodes of a cluster, 'redis+sentinel://host1:26379,host2:26379/mymaster/0' the sentinels "
        "that know a primary."
    ) % {"setting": SETTING, "server": EXAMPLE}
    if url is None and conf.redis_client is None and _is_in_use():
        return [
            checks.Error(
                f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, but {SETTING} is not set.",
                hint=hint,
                id="dirigible_session.E021",
            )
        ]
    if url is None or find_spec("redis") is None:
        return []
    # Imported here: the engine's package can't be imported without redis-py.
    from dirigible_session.backends.redis.library import try_options
    from dirigible_session.backends.redis.url import parse

    try:
        try_options(parse(url, conf.redis_password))
    except Exception as problem:
        # redis-py raises many kinds of exceptions for options that it does not accept.
        return [
            checks.Error(
                f"{SETTING} is wrong: {str(problem).rstrip('.')}.",
                hint=hint,
                id="dirigible_session.E022",
            )
        ]
    return []


@register
def check_redis_client(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``DIRIGIBLE_SESSION_REDIS_CLIENT`` is the dotted path of a function."""
    path = conf.redis_client
    if path is None:
        return []
    try:
        problem = None if callable(import_string(path)) else f"{path!r} can't be called"
    except Exception as error:
        problem = f"{path!r} can't be imported: {error}"
    if problem is None:
        return []
    return [
        checks.Error(
            f"{CLIENT_SETTING} is wrong: {problem.rstrip('.')}.",
            hint=_(
                "Name a function of your project by its dotted path. It is called with is_async= "
                "and returns a client of redis-py: redis.Redis or, for is_async=True, "
                "redis.asyncio.Redis."
            ),
            id="dirigible_session.E023",
        )
    ]
