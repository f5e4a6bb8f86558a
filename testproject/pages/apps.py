"""The app of the pages."""

from __future__ import annotations

from django.apps import AppConfig


class PagesConfig(AppConfig):
    """Connects what happens at a login."""

    name = "pages"

    def ready(self) -> None:
        """Connect the receivers, which importing them does."""
        from . import devices  # noqa: F401
