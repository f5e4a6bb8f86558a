"""System checks: what is wrong with the set-up, found at start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.core import checks
from django.core.checks import CheckMessage, register
from django.utils.module_loading import import_string

from dirigible_session.conf import PREFIX, Conf, conf
from dirigible_session.exceptions import MIDDLEWARE, SESSION_MIDDLEWARE
from dirigible_session.lifecycle import is_seconds
from dirigible_session.middleware import DirigibleSessionMiddleware

KNOWN_SETTINGS = frozenset(
    PREFIX + name.upper()
    for name, value in vars(Conf).items()
    if isinstance(value, cached_property)
)
CACHE_ENGINES = frozenset(
    {"django.contrib.sessions.backends.cache", "django.contrib.sessions.backends.cached_db"}
)
CACHES_OF_ONE_PROCESS = frozenset({"django.core.cache.backends.locmem.LocMemCache"})
CACHES_OF_NOTHING = frozenset({"django.core.cache.backends.dummy.DummyCache"})


def _imported(path: str) -> object:
    try:
        return import_string(path)
    except Exception:
        # Django names the path when it builds the middleware chain.
        return None


def _positions(middleware: Sequence[str], wanted: type) -> list[int]:
    found = []
    for position, path in enumerate(middleware):
        candidate = _imported(path)
        if isinstance(candidate, type) and issubclass(candidate, wanted):
            found.append(position)
    return found


@register
def check_middleware(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Our middleware is there, directly after Django's."""
    ours = _positions(settings.MIDDLEWARE, DirigibleSessionMiddleware)
    djangos = _positions(settings.MIDDLEWARE, SessionMiddleware)
    hint = f"In MIDDLEWARE, write {MIDDLEWARE!r} directly after {SESSION_MIDDLEWARE!r}."
    if not ours:
        return [
            checks.Error(
                "DirigibleSessionMiddleware is not in MIDDLEWARE, so no request is ever current.",
                hint=hint,
                id="dirigible_session.E001",
            )
        ]
    if not djangos or djangos[0] > ours[0]:
        return [
            checks.Error(
                "DirigibleSessionMiddleware needs SessionMiddleware before it in MIDDLEWARE.",
                hint=hint,
                id="dirigible_session.E002",
            )
        ]
    if len(djangos) > 1 or len(ours) > 1:
        return [
            checks.Error(
                "SessionMiddleware and DirigibleSessionMiddleware stand in MIDDLEWARE once each: "
                "the inner of two takes the session away from the outer.",
                hint=hint,
                id="dirigible_session.E013",
            )
        ]
    if djangos[0] != ours[0] - 1:
        return [
            checks.Warning(
                "DirigibleSessionMiddleware does not stand directly after SessionMiddleware: what "
                "stands between them has no current request.",
                hint=hint,
                id="dirigible_session.W003",
            )
        ]
    return []


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:
        # Python writes no int of so many digits.
        return f"an {type(value).__name__} too large to be shown"


@register
def check_touch_interval(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``DIRIGIBLE_SESSION_TOUCH_INTERVAL`` is a number of seconds."""
    value: Any = conf.touch_interval
    if is_seconds(value) and value >= 0:
        return []
    return [
        checks.Error(
            f"DIRIGIBLE_SESSION_TOUCH_INTERVAL is {_shown(value)}, not a number of seconds, 0 or "
            "more.",
            hint="60 is the default; 0 records every access exactly, at a write a request.",
            id="dirigible_session.E004",
        )
    ]


@register
def check_touch_every_request(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST`` is a bool."""
    value: Any = conf.touch_every_request
    if isinstance(value, bool):
        return []
    return [
        checks.Error(
            f"DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST is {value!r}, neither True nor False.",
            hint="False, the default, counts the requests that use their session.",
            id="dirigible_session.E005",
        )
    ]


@register
def check_absolute_timeout(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT`` is a number of seconds, or None."""
    value: Any = conf.absolute_timeout
    if value is None or (is_seconds(value) and value > 0):
        return []
    return [
        checks.Error(
            f"DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT is {_shown(value)}, not a positive number of "
            "seconds.",
            hint="None, the default, lets a busy session live as long as it is busy.",
            id="dirigible_session.E006",
        )
    ]


@register
def check_unknown_settings(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """No setting has our prefix and a name that we do not know."""
    unknown = {name for name in dir(settings) if name.startswith(PREFIX)} - KNOWN_SETTINGS
    return [
        checks.Warning(
            f"{name} is no setting of dirigible_session, so it has no effect.",
            hint=f"The settings are {', '.join(sorted(KNOWN_SETTINGS))}.",
            id="dirigible_session.W007",
        )
        for name in sorted(unknown)
    ]


@register
def check_signed_cookies(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """The engine can end a session on the server."""
    if settings.SESSION_ENGINE != "django.contrib.sessions.backends.signed_cookies":
        return []
    return [
        checks.Warning(
            "SESSION_ENGINE is signed_cookies: invalidate() deletes the visitor's cookie, but who "
            "kept a copy of it can go on using it until it expires.",
            hint="Where ending a session must be final, use an engine that stores sessions on the "
            "server, 'django.contrib.sessions.backends.db' for one.",
            id="dirigible_session.W008",
        )
    ]


@register
def check_cache(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """The cache that sessions are in keeps them, for every process of the site."""
    if settings.SESSION_ENGINE not in CACHE_ENGINES:
        return []
    backend = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {}).get("BACKEND")
    hint = "Name a shared cache, such as Redis, in CACHES and SESSION_CACHE_ALIAS."
    if backend in CACHES_OF_NOTHING and settings.SESSION_ENGINE.endswith(".cache"):
        return [
            checks.Error(
                "Sessions are in a dummy cache, which keeps nothing.",
                hint=hint,
                id="dirigible_session.E009",
            )
        ]
    if backend in CACHES_OF_ONE_PROCESS:
        return [
            checks.Warning(
                "Sessions are in a local-memory cache: another process of the site does not see "
                "them, or sees old ones.",
                hint=hint,
                id="dirigible_session.W010",
            )
        ]
    return []
