"""The sessions of ``dirigible_session.backends.db`` in Django's admin: to look at, and to end."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q
from django.utils.html import format_html

from .handles import HANDLE_LENGTH, digest
from .inspection import Inspector, Selection
from .inspection.records import utc
from .models import Session

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    Base = admin.ModelAdmin[Session]
else:
    Base = admin.ModelAdmin

ENGINE = "dirigible_session.backends.db"


@admin.register(Session)
class SessionAdmin(Base):
    """Shows sessions as the reader does, secrets as stars; ends them through their engine."""

    list_display = ("handle", "user_id", "created_at", "accessed_at", "expires_at")
    fields = ("handle", "user_id", "created_at", "accessed_at", "expires_at", "attributes")
    readonly_fields = fields
    search_fields = ("user_id__exact",)
    search_help_text = "The beginning of a handle, a session key, or the primary key of a user."
    ordering = ("digest",)
    # To count them all takes a walk through the table.
    show_full_result_count = False

    @admin.display(ordering="digest")
    def handle(self, session: Session) -> str:
        """Return the session's handle."""
        return session.digest[:HANDLE_LENGTH]

    @admin.display(description="created", ordering="created")
    def created_at(self, session: Session) -> datetime | None:
        """Return when the session was created."""
        return utc(session.created)

    @admin.display(description="last accessed", ordering="accessed")
    def accessed_at(self, session: Session) -> datetime | None:
        """Return when its client last came."""
        return utc(session.accessed)

    @admin.display(description="expires", ordering="expires")
    def expires_at(self, session: Session) -> datetime | str | None:
        """Return when it ends."""
        return "never" if session.expires is None else utc(session.expires)

    @admin.display
    def attributes(self, session: Session) -> str:
        """Return what it holds, as JSON, secrets as stars."""
        selection = Selection(state="all", session=session.digest)
        (record,) = Inspector(ENGINE).records(selection)
        return format_html("<pre>{}</pre>", record.error or json.dumps(record.attributes, indent=2))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Session], search_term: str
    ) -> tuple[QuerySet[Session], bool]:
        """Return the sessions of a user, that of a key, and those whose handles begin like this."""
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        term = search_term.strip()
        named = Q(digest=digest(term)) | Q(digest__startswith=term.lower())
        return found | queryset.filter(named), may_repeat

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: a session is made by its visitor."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: a session is changed by its visitor."""
        return False

    def delete_model(self, request: HttpRequest, obj: Session) -> None:
        """End a session as ``sessions_invalidate`` does."""
        Inspector(ENGINE).invalidate(Selection(state="all", session=obj.digest))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        """End sessions as ``sessions_invalidate`` does."""
        for session in queryset.iterator():
            self.delete_model(request, session)
