"""The settings of the package. All are optional, and each is read when it is first used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

PREFIX = "DIRIGIBLE_SESSION_"


class Conf:
    """Typed view of the ``DIRIGIBLE_SESSION_*`` settings.

    A value is kept until Django's signal ``setting_changed`` reports a change, for example by
    ``override_settings``. Without that, looking up settings that are not set would be the most
    expensive step of a request.
    """

    @cached_property
    def touch_interval(self) -> float:
        """Maximum age in seconds of the stored last access before it is renewed; 0: exact."""
        return getattr(settings, PREFIX + "TOUCH_INTERVAL", 60)

    @cached_property
    def touch_every_request(self) -> bool:
        """Whether a request counts as an access if it carries the cookie but uses no session."""
        return getattr(settings, PREFIX + "TOUCH_EVERY_REQUEST", False)

    @cached_property
    def counts_unused(self) -> bool:
        """Whether a request may count as an access although no code used its session."""
        return bool(self.touch_every_request or settings.SESSION_SAVE_EVERY_REQUEST)

    @cached_property
    def absolute_timeout(self) -> float | None:
        """Seconds from login, or else creation, to the end of any session; None: no limit."""
        return getattr(settings, PREFIX + "ABSOLUTE_TIMEOUT", None)

    @cached_property
    def passive(self) -> Sequence[str]:
        """Names of views ("app:name") whose requests do not count as an access."""
        return getattr(settings, PREFIX + "PASSIVE", ())

    @cached_property
    def max_per_user(self) -> int | str | None:
        """The limit of sessions per user, or the path of a function that returns it, or None."""
        return getattr(settings, PREFIX + "MAX_PER_USER", None)

    @cached_property
    def end_with_user(self) -> bool:
        """Whether the sessions of a user end when the user is deleted or deactivated."""
        return getattr(settings, PREFIX + "END_WITH_USER", False)

    @cached_property
    def redis_url(self) -> str | None:
        """The URL of the server of the Redis engine."""
        return getattr(settings, PREFIX + "REDIS_URL", None)

    @cached_property
    def redis_password(self) -> str | None:
        """The password of the Redis server, if it is not part of the URL."""
        return getattr(settings, PREFIX + "REDIS_PASSWORD", None)

    @cached_property
    def redis_client(self) -> str | None:
        """The dotted path of a function that makes the Redis engine's clients."""
        return getattr(settings, PREFIX + "REDIS_CLIENT", None)


conf = Conf()


def forget_changed(*, setting: str, **kwargs: Any) -> None:
    """Forget the value of a changed setting, so that it is read again."""
    if setting.startswith(PREFIX):
        vars(conf).pop(setting.removeprefix(PREFIX).lower(), None)
    vars(conf).pop("counts_unused", None)


setting_changed.connect(forget_changed)
