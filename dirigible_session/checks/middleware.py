"""System checks of ``MIDDLEWARE``: one middleware of this package, after one with a session."""

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
    """``MIDDLEWARE`` makes each request current, and only once."""
    both = _positions(SessionMiddleware)
    others = {
        *both[1:],
        *_positions(DirigibleSessionMiddleware),
        *_positions(django_middleware.SessionMiddleware),
    } - set(both[:1])
    if both and others:
        removed = ", ".join(repr(settings.MIDDLEWARE[position]) for position in sorted(others))
        return [
            checks.Error(
                f"{OWN_SESSION_MIDDLEWARE!r} is in MIDDLEWARE together with another middleware "
                "that does part of the same: the inner of the two would replace the session of "
                "the outer.",
                hint=_("In MIDDLEWARE, keep %(both)r and remove %(others)s.")
                % {"both": OWN_SESSION_MIDDLEWARE, "others": removed},
                id="dirigible_session.E013",
            )
        ]
    if both or _positions(DirigibleSessionMiddleware):
        return []
    hint = _("In MIDDLEWARE, write %(both)r in place of %(djangos)r.") % {
        "both": OWN_SESSION_MIDDLEWARE,
        "djangos": SESSION_MIDDLEWARE,
    }
    message = "No middleware of dirigible_session is in MIDDLEWARE, so no request is ever current"
    if is_own_engine():
        message += ": the facade and the idle limit need one. The session engine works without it."
        return [checks.Warning(message, hint=hint, id="dirigible_session.W001")]
    return [checks.Error(f"{message}.", hint=hint, id="dirigible_session.E001")]


@register
def check_middleware_order(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """``DirigibleSessionMiddleware`` is directly after Django's, and each is there once."""
    ours = _positions(DirigibleSessionMiddleware)
    djangos = _positions(django_middleware.SessionMiddleware)
    if not ours or _positions(SessionMiddleware):
        # `check_middleware` reports problems with these.
        return []
    hint = _(
        "In MIDDLEWARE, write %(both)r in place of %(djangos)r, and remove %(ours)r. Or write "
        "%(ours)r directly after %(djangos)r."
    ) % {"both": OWN_SESSION_MIDDLEWARE, "djangos": SESSION_MIDDLEWARE, "ours": MIDDLEWARE}
    before = settings.MIDDLEWARE[: ours[0]]
    if not djangos and not all(path.startswith("django.") for path in before):
        # Of Django's own middleware, only SessionMiddleware sets request.session.
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
        message = "DirigibleSessionMiddleware needs SessionMiddleware before it in MIDDLEWARE."
        return [checks.Error(message, hint=hint, id="dirigible_session.E002")]
    if len(djangos) > 1 or len(ours) > 1:
        message = (
            "SessionMiddleware and DirigibleSessionMiddleware must each be in MIDDLEWARE only "
            "once: the inner of two would replace the session of the outer."
        )
        return [checks.Error(message, hint=hint, id="dirigible_session.E013")]
    if djangos[0] == ours[0] - 1:
        return []
    message = (
        "DirigibleSessionMiddleware is not directly after SessionMiddleware: the middleware "
        "between them has no current request."
    )
    return [checks.Warning(message, hint=hint, id="dirigible_session.W003")]


def _positions(wanted: type) -> list[int]:
    """Return the positions in ``MIDDLEWARE`` of this class and of classes derived from it."""
    positions = []
    for position, path in enumerate(settings.MIDDLEWARE):
        try:
            middleware = import_string(path)
        except Exception:
            # Django reports the path when it builds the middleware chain.
            middleware = None
        if isinstance(middleware, type) and issubclass(middleware, wanted):
            positions.append(position)
    return positions
