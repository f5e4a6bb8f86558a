"""The package's settings: all optional, each read when it is used."""

from __future__ import annotations

from django.conf import settings


class Conf:
    """Live, typed view of the ``DIRIGIBLE_SESSION_*`` settings."""

    @property
    def touch_interval(self) -> float:
        """Seconds that the stored last access may lag behind; 0 makes it exact."""
        return getattr(settings, "DIRIGIBLE_SESSION_TOUCH_INTERVAL", 60)

    @property
    def touch_every_request(self) -> bool:
        """Whether a request that only carries the cookie counts as one in the session."""
        return getattr(settings, "DIRIGIBLE_SESSION_TOUCH_EVERY_REQUEST", False)

    @property
    def absolute_timeout(self) -> float | None:
        """Seconds after its creation at which a session ends, however busy; None: never."""
        return getattr(settings, "DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT", None)

    @property
    def redis_url(self) -> str | None:
        """Where the Redis engine finds its server."""
        return getattr(settings, "DIRIGIBLE_SESSION_REDIS_URL", None)


conf = Conf()
