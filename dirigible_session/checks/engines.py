"""System checks of ``SESSION_ENGINE``: it exists, keeps sessions and supports the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.utils.translation import gettext as _

from dirigible_session.backends.base import EngineBase
from dirigible_session.conf import PREFIX, conf

BACKENDS = "django.contrib.sessions.backends."
ENGINES = f"'dirigible_session.backends.db', 'dirigible_session.backends.redis' or '{BACKENDS}db'"
SIGNED_COOKIES = f"{BACKENDS}signed_cookies"
JSON_SERIALIZERS = frozenset(
    {
        "django.contrib.sessions.serializers.JSONSerializer",
        "django.core.signing.JSONSerializer",
    }
)
CACHE_ENGINES = frozenset({f"{BACKENDS}cache", f"{BACKENDS}cached_db"})
CACHES_OF_ONE_PROCESS = frozenset({"django.core.cache.backends.locmem.LocMemCache"})
CACHES_OF_NOTHING = frozenset({"django.core.cache.backends.dummy.DummyCache"})


def engine_class() -> type | None:
    """Return the store class of ``SESSION_ENGINE``; None if it can't be imported."""
    try:
        return _engine_class()
    except Exception:
        # A module of the project may raise anything. `check_engine` reports it.
        return None


def _engine_class() -> type:
    store_class = import_module(settings.SESSION_ENGINE).SessionStore
    if not isinstance(store_class, type) or not issubclass(store_class, SessionBase):
        raise TypeError("its SessionStore does not derive from Django's SessionBase")
    return store_class


def is_own_engine() -> bool:
    """Return whether ``SESSION_ENGINE`` is an engine of this package, or derives from one."""
    store_class = engine_class()
    return store_class is not None and issubclass(store_class, EngineBase)


@register
def check_engine(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``SESSION_ENGINE`` is a session engine."""
    try:
        _engine_class()
    except Exception as error:
        if find_spec("redis") is None and "redis-py" in str(error):
            # `check_redis_installed` reports it.
            return []
        reason = " ".join(str(error).split()) or type(error).__name__
        return [
            checks.Error(
                f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, which is not a session engine: "
                f"{reason}.",
                hint=_("Write the dotted path of a module with a SessionStore, such as %(paths)s.")
                % {"paths": ENGINES},
                id="dirigible_session.E015",
            )
        ]
    return []


@register
def check_needs_own_engine(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """The settings for the sessions of a user need an engine that finds them by user."""
    if engine_class() is None or is_own_engine():
        return []
    needing = {"MAX_PER_USER": conf.max_per_user is not None, "END_WITH_USER": conf.end_with_user}
    return [
        checks.Error(
            f"{PREFIX}{name} needs a session engine of dirigible_session, but SESSION_ENGINE is "
            f"{settings.SESSION_ENGINE!r}.",
            hint=_("Set SESSION_ENGINE to %(db)r or %(redis)r, or remove the setting.")
            % {"db": "dirigible_session.backends.db", "redis": "dirigible_session.backends.redis"},
            id="dirigible_session.E030",
        )
        for name, is_set in needing.items()
        if is_set
    ]


@register
def check_serializer(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``SESSION_SERIALIZER`` is not set to a serializer that the engine ignores."""
    if settings.SESSION_SERIALIZER in JSON_SERIALIZERS or not is_own_engine():
        return []
    return [
        checks.Warning(
            f"SESSION_SERIALIZER is {settings.SESSION_SERIALIZER!r}, but the engine "
            f"{settings.SESSION_ENGINE!r} stores JSON: the setting has no effect.",
            hint=_(
                "Remove SESSION_SERIALIZER, and store only what JSON can hold: str, int, finite "
                "float, bool, list, dict."
            ),
            id="dirigible_session.W011",
        )
    ]


@register
def check_save_every_request(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``SESSION_SAVE_EVERY_REQUEST`` is not set if the engine does not need it."""
    if not settings.SESSION_SAVE_EVERY_REQUEST or not is_own_engine():
        return []
    return [
        checks.Warning(
            "SESSION_SAVE_EVERY_REQUEST is not needed with the engine "
            f"{settings.SESSION_ENGINE!r}: each request in a session extends it already, and at "
            "less cost than a save.",
            hint=_(
                "Remove it. To record every access exactly, set "
                "DIRIGIBLE_SESSION_TOUCH_INTERVAL = 0; to count every request, set "
                "DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST = True."
            ),
            id="dirigible_session.W012",
        )
    ]


@register
def check_model(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """The engine's model is installed, and has all columns of ``AbstractSession``."""
    get_model_class = getattr(engine_class(), "get_model_class", None)
    if get_model_class is None:
        return []
    try:
        model = get_model_class()
    except Exception as error:
        return [
            checks.Error(
                f"The model of {settings.SESSION_ENGINE!r} can't be imported: "
                f"{type(error).__name__}: {error}",
                hint=_("Add its app to INSTALLED_APPS."),
                id="dirigible_session.E014",
            )
        ]
    if not is_own_engine():
        return []
    # Imported here: the checks are imported before the models are ready.
    from dirigible_session.models import AbstractSession

    table = model._meta.concrete_model._meta
    columns = {field.column for field in table.local_concrete_fields}
    missing = {field.column for field in AbstractSession._meta.fields} - columns
    if not missing:
        return []
    return [
        checks.Error(
            f"The sessions of {settings.SESSION_ENGINE!r} are {model._meta.label}, whose table "
            f"does not have the column {min(map(str, missing))!r}.",
            hint=_(
                "Derive the model directly from dirigible_session.models.AbstractSession. The "
                "columns of another model that it derives from are in that model's table."
            ),
            id="dirigible_session.E014",
        )
    ]


@register(Tags.database)
def check_migrations(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """The migrations of the engine's table are applied."""
    get_model_class = getattr(engine_class(), "get_model_class", None)
    try:
        model = None if get_model_class is None else get_model_class()
    except Exception:
        # `check_model` reports it.
        return []
    if model is None or (alias := router.db_for_write(model)) not in (databases or ()):
        return []
    executor = MigrationExecutor(connections[alias])
    label = model._meta.app_label
    leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == label]
    if not executor.migration_plan(leaves):
        return []
    return [
        checks.Warning(
            f"The table of {settings.SESSION_ENGINE!r} is missing or not up to date: migrations "
            f"of {label!r} are not applied to the database {alias!r}.",
            hint=_("Run `python manage.py migrate`."),
            id="dirigible_session.W016",
        )
    ]


@register
def check_signed_cookies(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """The engine can end a session on the server: signed cookies can't."""
    if settings.SESSION_ENGINE != SIGNED_COOKIES:
        return []
    return [
        checks.Warning(
            "SESSION_ENGINE is signed_cookies: invalidate() deletes the visitor's cookie, but "
            "a copy of the cookie works until it expires.",
            hint=_(
                "If the end of a session must be final, use an engine that stores sessions on "
                "the server, such as %(paths)s."
            )
            % {"paths": ENGINES},
            id="dirigible_session.W008",
        )
    ]


@register
def check_cache(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """The cache of the sessions stores them, and all processes of the site share it."""
    if settings.SESSION_ENGINE not in CACHE_ENGINES:
        return []
    backend = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {}).get("BACKEND")
    hint = _("In CACHES and SESSION_CACHE_ALIAS, name a shared cache such as Redis.")
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
                "Sessions are in a local-memory cache: the other processes of the site don't see "
                "them, or see old ones.",
                hint=hint,
                id="dirigible_session.W010",
            )
        ]
    return []
