"""The package's settings: all optional, each read when it is first used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

PREFIX = "DIRIGIBLE_SESSION_"


class Conf:
    """Typed view of the ``DIRIGIBLE_SESSION_*`` settings.

    A value is kept until ``setting_changed`` says that it is another, as ``override_settings``
    does: to ask Django for a setting that is not there costs more than the rest of a request.
    """

    @cached_property
    def touch_interval(self) -> float:
        """Seconds that the stored last access may lag behind; 0 makes it exact."""
        return getattr(settings, PREFIX + "TOUCH_INTERVAL", 60)

    @cached_property
    def touch_every_request(self) -> bool:
        """Whether a request that only carries the cookie counts as one in the session."""
        return getattr(settings, PREFIX + "TOUCH_EVERY_REQUEST", False)

    @cached_property
    def counts_unused(self) -> bool:
        """Whether a request may count as one in a session that no view used."""
        return bool(self.touch_every_request or settings.SESSION_SAVE_EVERY_REQUEST)

    @cached_property
    def absolute_timeout(self) -> float | None:
        """Seconds after its creation at which a session ends, however busy; None: never."""
        return getattr(settings, PREFIX + "ABSOLUTE_TIMEOUT", None)

    @cached_property
    def passive(self) -> Sequence[str]:
        """Names of views ("app:name") whose requests do not count as an access."""
        return getattr(settings, PREFIX + "PASSIVE", ())

    @cached_property
    def max_per_user(self) -> int | str | None:
        """How many sessions a user may have, or the path of a function that says; None: any."""
        return getattr(settings, PREFIX + "MAX_PER_USER", None)

    @cached_property
    def end_with_user(self) -> bool:
        """Whether the sessions of a user end when the user is deleted or deactivated."""
        return getattr(settings, PREFIX + "END_WITH_USER", False)

    @cached_property
    def redis_url(self) -> str | None:
        """Where the Redis engine finds its server."""
        return getattr(settings, PREFIX + "REDIS_URL", None)

    @cached_property
    def redis_password(self) -> str | None:
        """The password of the Redis server, where it is not part of the URL."""
        return getattr(settings, PREFIX + "REDIS_PASSWORD", None)

    @cached_property
    def redis_client(self) -> str | None:
        """The dotted path of a function that makes the Redis engine's clients."""
        return getattr(settings, PREFIX + "REDIS_CLIENT", None)


conf = Conf()


def forget_changed(*, setting: str, **kwargs: Any) -> None:
    """Let a setting of ours be read anew."""
    if setting.startswith(PREFIX):
        vars(conf).pop(setting.removeprefix(PREFIX).lower(), None)
    vars(conf).pop("counts_unused", None)


setting_changed.connect(forget_changed)
