"""The app: its name, and its system checks."""

from __future__ import annotations

from django.apps import AppConfig


class DirigibleSessionConfig(AppConfig):
    """Registers the system checks."""

    name = "dirigible_session"
    verbose_name = "Dirigible session"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, which importing them does."""
        from . import checks  # noqa: F401
