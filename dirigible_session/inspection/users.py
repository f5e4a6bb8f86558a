"""The users of sessions: their primary keys and usernames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import DataError

from .errors import NoSuchUser, store_errors_as

USERS = "The table of users"

#: The maximum number of remembered names. Query number FEW_QUERIES reads up to half of it.
NAMES_REMEMBERED = 20_000
FEW_QUERIES = 5

#: Raised by databases and their drivers for a value that no row can hold (a number that is too
#: large, a NUL in a text, a lone surrogate), and Django for one that does not fit the field.
IMPOSSIBLE = (ValidationError, DataError, OverflowError, TypeError, ValueError)


def user_model() -> Any:
    """Return the project's user model; None if it has none."""
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
    model = user_model()
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
        self._model = user_model()
        self._known: dict[str, str | None] = {}
        self._queries = 0

    def look_up(self, user_ids: Iterable[str]) -> dict[str, str | None]:
        """Return the usernames by user id; None for a user who does not exist."""
        wanted = set(user_ids)
        unknown = wanted - self._known.keys()
        if not unknown:
            return self._known
        model = self._model
        if model is None:
            return dict.fromkeys(wanted)
        self._queries += 1
        if self._queries == FEW_QUERIES:
            # A long walk. On a site with fewer users, this is the last query.
            names = _read(model, {}, most=NAMES_REMEMBERED // 2) or {}
            self._known.update((str(pk), name) for pk, name in names.items())
            unknown = wanted - self._known.keys()
        if len(self._known) > NAMES_REMEMBERED:
            self._known.clear()
            unknown = wanted
        pks = {user_id: _primary_key(model, user_id) for user_id in unknown}
        valid = {pk for pk in pks.values() if pk is not None}
        found = _read(model, {"pk__in": valid})
        if found is None:
            # One impossible value must not hide the other names.
            alone = [_read(model, {"pk": pk}) for pk in valid]
            found = {pk: name for names in alone if names for pk, name in names.items()}
        self._known.update((user_id, found.get(pk)) for user_id, pk in pks.items())
        return self._known


def _read(
    model: Any, condition: dict[str, Any], most: int | None = None
) -> dict[Any, str | None] | None:
    """Return up to ``most`` usernames by primary key; None if the value fits no row."""
    with store_errors_as(USERS):
        try:
            rows = model._base_manager.filter(**condition)
            return {
                pk: None if name is None else str(name)
                for pk, name in rows.values_list("pk", model.USERNAME_FIELD)[:most]
            }
        except IMPOSSIBLE:
            return None


def _primary_key(model: Any, user_id: str) -> Any:
    try:
        return model._meta.pk.to_python(user_id)
    except IMPOSSIBLE:
        return None
