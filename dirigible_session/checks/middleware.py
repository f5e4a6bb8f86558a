"""System checks of MIDDLEWARE: one middleware of ours, and a session before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.sessions import middleware as django_middleware
from django.core import checks
from django.core.checks import CheckMessage, register
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from dirigible_session.exceptions import MIDDLEWARE, OWN_SESSION_MIDDLEWARE, SESSION_MIDDLEWARE
from dirigible_session.middleware import DirigibleSessionMiddleware, SessionMiddleware

from .engines import is_own_engine


@register
def check_middleware(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """The request gets a session, and is made current directly after that, each once."""
    found = [_imported(path) for path in settings.MIDDLEWARE]
    both = _positions(found, SessionMiddleware)
    ours = _positions(found, DirigibleSessionMiddleware)
    djangos = [n for n in _positions(found, django_middleware.SessionMiddleware) if n not in both]
    if not both and not ours:
        return [_missing()]
    if len(both) > 1 or (both and (ours or djangos)):
        return [
            checks.Error(
                f"{OWN_SESSION_MIDDLEWARE!r} is in MIDDLEWARE together with another middleware "
                "that does a part of what it does: the inner of two takes the session away from "
                "the outer.",
                hint=_("In MIDDLEWARE, keep %(both)r and remove %(others)s.")
                % {
                    "both": OWN_SESSION_MIDDLEWARE,
                    "others": _paths(sorted({*both[1:], *ours, *djangos})),
                },
                id="dirigible_session.E013",
            )
        ]
    return [] if both else _check_order(found, ours, djangos)


def _missing() -> CheckMessage:
    hint = _("In MIDDLEWARE, write %(both)r in place of %(djangos)r.") % {
        "both": OWN_SESSION_MIDDLEWARE,
        "djangos": SESSION_MIDDLEWARE,
    }
    message = "No middleware of dirigible_session is in MIDDLEWARE, so no request is ever current"
    if is_own_engine():
        return checks.Warning(
            f"{message}: the facade and the idle limit need one. The session engine works "
            "without it.",
            hint=hint,
            id="dirigible_session.W001",
        )
    return checks.Error(f"{message}.", hint=hint, id="dirigible_session.E001")


def _check_order(found: list[Any], ours: list[int], djangos: list[int]) -> list[CheckMessage]:
    hint = _(
        "In MIDDLEWARE, write %(both)r in place of %(djangos)r, and remove %(ours)r. Or write "
        "%(ours)r directly after %(djangos)r."
    ) % {"both": OWN_SESSION_MIDDLEWARE, "djangos": SESSION_MIDDLEWARE, "ours": MIDDLEWARE}
    if not djangos and any(map(_may_give_a_session, found[: ours[0]])):
        return [
            checks.Warning(
                "Before DirigibleSessionMiddleware there is no middleware that derives from "
                "Django's SessionMiddleware.",
                hint=_(
                    "If another middleware before it sets request.session, add "
                    "'dirigible_session.W002' to SILENCED_SYSTEM_CHECKS. If not: %(hint)s"
                )
                % {"hint": hint},
                id="dirigible_session.W002",
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
                "SessionMiddleware and DirigibleSessionMiddleware must each be in MIDDLEWARE only "
                "once: the inner of two takes the session away from the outer.",
                hint=hint,
                id="dirigible_session.E013",
            )
        ]
    if djangos[0] != ours[0] - 1:
        return [
            checks.Warning(
                "DirigibleSessionMiddleware is not directly after SessionMiddleware: the "
                "middleware between them has no current request.",
                hint=hint,
                id="dirigible_session.W003",
            )
        ]
    return []


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except Exception:
        # Django names the path when it builds the middleware chain.
        return None


def _positions(found: list[Any], wanted: type) -> list[int]:
    return [
        position
        for position, middleware in enumerate(found)
        if isinstance(middleware, type) and issubclass(middleware, wanted)
    ]


def _paths(positions: Iterable[int]) -> str:
    return ", ".join(repr(settings.MIDDLEWARE[position]) for position in positions)


def _may_give_a_session(middleware: Any) -> bool:
    """Return whether it is the project's: of Django's own only SessionMiddleware does."""
    return middleware is not None and not middleware.__module__.startswith("django.")
