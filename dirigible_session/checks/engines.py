"""System checks of engines of our own: settings that mean something else with them, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register

from dirigible_session.backends.base import EngineBase

JSON_SERIALIZERS = frozenset(
    {
        "django.contrib.sessions.serializers.JSONSerializer",
        "django.core.signing.JSONSerializer",
    }
)


def engine_class() -> type | None:
    """Return the store class of ``SESSION_ENGINE``; None if there is none to be had."""
    try:
        store_class = import_module(settings.SESSION_ENGINE).SessionStore
    except Exception:
        # Django says so when it builds the middleware chain, and of redis-py another check does.
        return None
    return store_class if isinstance(store_class, type) else None


def _is_own_engine() -> bool:
    store_class = engine_class()
    return store_class is not None and issubclass(store_class, EngineBase)


@register
def check_serializer(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Nobody expects another serializer than JSON to be used."""
    if settings.SESSION_SERIALIZER in JSON_SERIALIZERS or not _is_own_engine():
        return []
    return [
        checks.Warning(
            f"SESSION_SERIALIZER is {settings.SESSION_SERIALIZER!r}, but the engine "
            f"{settings.SESSION_ENGINE!r} stores JSON: the setting has no effect.",
            hint="Remove SESSION_SERIALIZER, and store what JSON can hold: str, int, finite float, "
            "bool, list, dict.",
            id="dirigible_session.W011",
        )
    ]


@register
def check_save_every_request(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """No request saves a session that it did not change."""
    if not settings.SESSION_SAVE_EVERY_REQUEST or not _is_own_engine():
        return []
    return [
        checks.Warning(
            f"SESSION_SAVE_EVERY_REQUEST is needless with the engine {settings.SESSION_ENGINE!r}: "
            "a session lives as long as its client comes, and a touch costs less than a save.",
            hint="Remove it. To record every access exactly, set "
            "DIRIGIBLE_SESSION_TOUCH_INTERVAL = 0; to count every request, "
            "DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST = True.",
            id="dirigible_session.W012",
        )
    ]


@register
def check_model(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """The model of an engine derived from the db engine has the engine's columns itself."""
    get_model_class = getattr(engine_class(), "get_model_class", None)
    if get_model_class is None or not _is_own_engine():
        return []
    # Once the app registry is ready, as it is when checks run.
    from dirigible_session.models import AbstractSession

    try:
        model = get_model_class()
    except Exception as error:
        return [
            checks.Error(
                f"The model of {settings.SESSION_ENGINE!r} can't be had: "
                f"{type(error).__name__}: {error}",
                hint="Its app has to be in INSTALLED_APPS.",
                id="dirigible_session.E014",
            )
        ]
    table = model._meta.concrete_model._meta
    columns = {field.column for field in table.local_concrete_fields}
    missing = {field.column for field in AbstractSession._meta.fields} - columns
    if not missing:
        return []
    return [
        checks.Error(
            f"The sessions of {settings.SESSION_ENGINE!r} are {model._meta.label}, whose table has "
            f"no column {min(map(str, missing))!r}.",
            hint="Derive the model from dirigible_session.models.AbstractSession: the columns of "
            "another model that it derives from are in that one's table.",
            id="dirigible_session.E014",
        )
    ]
