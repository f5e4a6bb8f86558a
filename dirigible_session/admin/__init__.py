"""The stored sessions of ``SESSION_ENGINE`` in Django's admin: list, show and end them."""

from __future__ import annotations

from django.contrib import admin

from dirigible_session.models import Session

from .sessions import SessionAdmin

__all__ = ["SessionAdmin"]

admin.site.register(Session, SessionAdmin)
