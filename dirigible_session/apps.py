"""The app: its name, and its system checks."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.utils.translation import gettext_lazy as _

from .current.context import note_login


class DirigibleSessionConfig(AppConfig):
    """Registers the system checks, and receives logins."""

    name = "dirigible_session"
    verbose_name = _("Dirigible session")
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        # Connected before models are imported, so before any receiver of the project.
        user_logged_in.connect(note_login, dispatch_uid="dirigible_session")

    def ready(self) -> None:
        """Register the checks, by importing them, and connect the receivers for users."""
        from . import checks, users  # noqa: F401

        users.connect()
