"""Whose a session is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import SESSION_KEY, get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError

from .errors import NoSuchUser, answering, guarded

#: Where Django keeps the primary key of who is logged in.
USER_KEY = SESSION_KEY

USERS = "The table of users"

#: So many names are remembered between two batches, and no more.
NAMES_REMEMBERED = 10_000


def _user_model() -> Any:
    # Typed as Any: a user model is the project's own.
    try:
        return get_user_model()
    except ImproperlyConfigured:
        # A project may do without users.
        return None


def find_user_id(user: str) -> str:
    """Return what the sessions of a user hold: of this username, else of this primary key.

    The primary key need not exist any more: a deleted user may have left sessions. NoSuchUser if
    ``user`` is neither.
    """
    model = _user_model()
    if model is None:
        raise NoSuchUser("This project has no user model, so no session has a user.")
    manager = model._base_manager
    named = manager.filter(**{model.USERNAME_FIELD: user})
    with answering(USERS):
        pk = named.values_list("pk", flat=True).first()
    if pk is None:
        pk = _primary_key(model, user)
    if pk is None:
        raise NoSuchUser(f"No user has the username or the primary key {user!r}.")
    return str(model._meta.pk.value_to_string(model(pk=pk)))


class Usernames:
    """Looks usernames up, many at a time."""

    def __init__(self) -> None:
        self._model = _user_model()
        self._known: dict[str, str | None] = {}

    def look_up(self, user_ids: Iterable[str]) -> dict[str, str | None]:
        """Return the usernames by user id; None for a user that is no more."""
        wanted = set(user_ids)
        unknown = wanted - self._known.keys()
        if unknown:
            if len(self._known) > NAMES_REMEMBERED:
                self._known.clear()
                unknown = wanted
            self._known.update(self._from_database(unknown))
        return self._known

    def _from_database(self, user_ids: set[str]) -> dict[str, str | None]:
        names: dict[str, str | None] = dict.fromkeys(user_ids)
        model = self._model
        if model is None:
            return names
        ids_by_pk = {}
        for user_id in user_ids:
            pk = _primary_key(model, user_id)
            if pk is not None:
                ids_by_pk[pk] = user_id
        rows = model._base_manager.filter(pk__in=ids_by_pk).values_list("pk", model.USERNAME_FIELD)
        for pk, username in guarded(USERS, rows):
            names[ids_by_pk[pk]] = str(username)
        return names


def _primary_key(model: Any, user_id: str) -> Any:
    try:
        return model._meta.pk.to_python(user_id)
    except (ValidationError, ValueError):
        return None
