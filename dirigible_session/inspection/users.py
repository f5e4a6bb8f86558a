"""The users of sessions: their primary keys and usernames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import SESSION_KEY, get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import DataError

from .errors import NoSuchUser, store_errors_as

#: Where Django keeps the primary key of who is logged in.
USER_KEY = SESSION_KEY

USERS = "The table of users"

#: The most names that are remembered between two batches.
NAMES_REMEMBERED = 10_000

#: What databases and their drivers raise for a value that no row can hold (a number that is too
#: large, a NUL in a text, a lone surrogate), and Django for one that does not fit the field.
IMPOSSIBLE = (ValidationError, DataError, OverflowError, TypeError, ValueError)


def _user_model() -> Any:
    # Typed as Any: a user model is the project's own.
    try:
        return get_user_model()
    except ImproperlyConfigured:
        # A project may have no user model.
        return None


def find_user_id(user: str) -> str:
    """Return the user id, as sessions store it, of a username or else of a primary key.

    The user may have been deleted: their sessions may still be there. NoSuchUser if ``user`` is
    neither a username nor a valid primary key.
    """
    model = _user_model()
    if model is None:
        raise NoSuchUser("This project has no user model, so no session has a user.")
    pk = next(iter(_read(model, {model.USERNAME_FIELD: user}) or ()), None)
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
        """Return the usernames by user id; None for a user who does not exist."""
        wanted = set(user_ids)
        unknown = wanted - self._known.keys()
        if unknown:
            if len(self._known) > NAMES_REMEMBERED:
                self._known.clear()
                unknown = wanted
            self._known.update(self._from_database(unknown))
        return self._known

    def _from_database(self, user_ids: set[str]) -> dict[str, str | None]:
        model = self._model
        if model is None:
            return dict.fromkeys(user_ids)
        pks = {user_id: _primary_key(model, user_id) for user_id in user_ids}
        wanted = {pk for pk in pks.values() if pk is not None}
        names = _read(model, {"pk__in": wanted})
        if names is None:
            # One impossible value must not hide the other names.
            found = (_read(model, {"pk": pk}) for pk in wanted)
            names = {pk: name for one in found if one for pk, name in one.items()}
        return {user_id: names.get(pk) for user_id, pk in pks.items()}


def _read(model: Any, condition: dict[str, Any]) -> dict[Any, str | None] | None:
    """Return usernames by primary key; None if the value fits no row."""
    with store_errors_as(USERS):
        try:
            rows = model._base_manager.filter(**condition)
            return {
                pk: None if name is None else str(name)
                for pk, name in rows.values_list("pk", model.USERNAME_FIELD)
            }
        except IMPOSSIBLE:
            return None


def _primary_key(model: Any, user_id: str) -> Any:
    try:
        return model._meta.pk.to_python(user_id)
    except IMPOSSIBLE:
        return None
