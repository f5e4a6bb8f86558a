"""The app of the pages."""

from __future__ import annotations

from django.apps import AppConfig


class PagesConfig(AppConfig):
    """Connects the receiver of logins."""

    name = "pages"

    def ready(self) -> None:
        """Connect the receivers by importing them."""
        from . import devices  # noqa: F401
