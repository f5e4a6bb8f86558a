"""System checks of the ``DIRIGIBLE_SESSION_*`` settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from dirigible_session.conf import PREFIX, Conf, conf
from dirigible_session.lifecycle import is_seconds

KNOWN_SETTINGS = frozenset(
    PREFIX + name.upper()
    for name, value in vars(Conf).items()
    # counts_unused is derived from two settings.
    if isinstance(value, cached_property) and name != "counts_unused"
)


class Rule(NamedTuple):
    """The rule for the values of a setting."""

    #: The attribute of ``conf``.
    name: str
    is_right: Callable[[Any], bool]
    #: Completes "must be ...".
    must_be: str
    hint: str
    id: str


def _is_names(value: Any) -> bool:
    is_collection = isinstance(value, (list, tuple, set, frozenset))
    return is_collection and all(isinstance(name, str) for name in value)


def _is_limit(value: Any) -> bool:
    if isinstance(value, str):
        try:
            return callable(import_string(value))
        except Exception:
            # A module of the project may raise anything.
            return False
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value is None or (is_number and value >= 1)


RULES = (
    Rule(
        "touch_interval",
        lambda value: is_seconds(value) and value >= 0,
        "a number of seconds, 0 or more",
        gettext_noop("The default is 60. 0 records every access exactly, with a write for each."),
        "E004",
    ),
    Rule(
        "touch_every_request",
        lambda value: isinstance(value, bool),
        "True or False",
        gettext_noop("False, the default, counts only the requests that use their session."),
        "E005",
    ),
    Rule(
        "absolute_timeout",
        lambda value: value is None or (is_seconds(value) and value > 0),
        "None or a number of seconds greater than 0",
        gettext_noop("None, the default, sets no limit: a session lives as long as it is used."),
        "E006",
    ),
    Rule(
        "passive",
        _is_names,
        "a list of view names",
        gettext_noop('Write a list such as ["app:name"], also for a single view.'),
        "E017",
    ),
    Rule(
        "max_per_user",
        _is_limit,
        "None, an int of at least 1, or the dotted path of a function",
        gettext_noop("The function takes the user, and returns a number, or None for no limit."),
        "E019",
    ),
    Rule(
        "end_with_user",
        lambda value: isinstance(value, bool),
        "True or False",
        gettext_noop("True ends a user's sessions when the user is deleted or deactivated."),
        "E031",
    ),
)


@register
def check_values(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Each setting has a valid value."""
    return [
        checks.Error(
            f"{PREFIX}{rule.name.upper()} must be {rule.must_be}, not {_shown(value)}.",
            hint=_(rule.hint),
            id=f"dirigible_session.{rule.id}",
        )
        for rule in RULES
        for value in [getattr(conf, rule.name)]
        if not rule.is_right(value)
    ]


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:
        # Python limits the digits of an int in a string.
        return f"an {type(value).__name__} too large to be shown"


@register
def check_passive_views(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Each name in ``DIRIGIBLE_SESSION_PASSIVE`` is the name of a view."""
    if not _is_names(conf.passive) or not conf.passive:
        return []
    try:
        known = set(_view_names(get_resolver(), ()))
    except Exception:
        # Django's own checks report errors in the URLconf.
        return []
    return [
        checks.Warning(
            f"{PREFIX}PASSIVE names the view {name!r}, but no URL pattern has this name.",
            hint=_("Write the name of the URL pattern, with its namespace: 'app:name'."),
            id="dirigible_session.W018",
        )
        for name in sorted(set(conf.passive) - known)
    ]


def _view_names(resolver: URLResolver, namespaces: tuple[str, ...]) -> Iterator[str]:
    """Iterate over the names of all views, in the form of ``ResolverMatch.view_name``."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            own = (pattern.namespace,) if pattern.namespace else ()
            yield from _view_names(pattern, namespaces + own)
        elif isinstance(pattern, URLPattern):
            yield ":".join([*namespaces, pattern.name or pattern.lookup_str])


@register
def check_unknown_settings(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """No unknown setting begins with ``DIRIGIBLE_SESSION_``."""
    unknown = {name for name in dir(settings) if name.startswith(PREFIX)} - KNOWN_SETTINGS
    return [
        checks.Warning(
            f"{name} is not a setting of dirigible_session, so it has no effect.",
            hint=_("The settings are %(names)s.") % {"names": ", ".join(sorted(KNOWN_SETTINGS))},
            id="dirigible_session.W007",
        )
        for name in sorted(unknown)
    ]
