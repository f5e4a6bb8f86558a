"""The app: its name, and its system checks."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.utils.translation import gettext_lazy as _

from .current.context import note_login


class DirigibleSessionConfig(AppConfig):
    """Registers the system checks, and is told of logins."""

    name = "dirigible_session"
    verbose_name = _("Dirigible session")
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        # Before any model is imported, so that no receiver of the project is told before.
        user_logged_in.connect(note_login, dispatch_uid="dirigible_session")

    def ready(self) -> None:
        """Register the checks, which importing them does."""
        from . import checks, users  # noqa: F401

        users.connect()
