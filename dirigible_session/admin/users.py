"""The action on users: end all their sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from dirigible_session.inspection.users import user_model
from dirigible_session.models import Session

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse


@admin.action(description=_("End all sessions of selected users"), permissions=["end_sessions"])
def end_sessions_of_users(
    user_admin: admin.ModelAdmin[Any], request: HttpRequest, users: QuerySet[Any]
) -> HttpResponse:
    """Ask whether to end all sessions of these users."""
    keys = [user._meta.pk.value_to_string(user) for user in users]
    session_admin: Any = user_admin.admin_site.get_model_admin(Session)
    response: HttpResponse = session_admin.asked_of_users(request, keys)
    return response


def offer_on_users(session_admin: admin.ModelAdmin[Session]) -> None:
    """Add the action to the admin of the user model on the same site, if it has actions.

    The action needs the permission to delete sessions.
    """
    site = session_admin.admin_site
    model = user_model()
    if model is None or not site.is_registered(model):
        return
    user_admin: Any = site.get_model_admin(model)
    if user_admin.actions is not None and end_sessions_of_users not in user_admin.actions:
        user_admin.has_end_sessions_permission = session_admin.has_delete_permission
        user_admin.actions = [*user_admin.actions, end_sessions_of_users]
