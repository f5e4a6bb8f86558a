"""The sessions of a user: list them, and end them.

To show users where they are logged in, and log them out everywhere else::

    from dirigible_session.users import end_sessions, sessions_of

    for record in sessions_of(request.user):
        print(record.handle, record.last_accessed, record.is_current)
    end_sessions(request.user, keep_current=True)

A user is passed as an object or as a primary key. ``AnonymousUser`` and unsaved users have no
sessions.

The engines of this package find the sessions of a user by index: listing takes at most two
statements or round trips, and ending them two more, however many sessions are stored. On the
engines of Django that can be listed, each call reads and decodes all stored sessions, which is for
sites with some thousands of sessions. Other engines raise NotListable.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save
from django.utils.module_loading import import_string

from . import handles
from .conf import PREFIX, conf
from .current import context, ids
from .current.engines import STAY, unwrapped
from .current.visit import Visit
from .inspection import AmbiguousHandle, Inspector, Selection, SessionRecord
from .signals import Reason, login_stored
from .stored import user_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .stored import State, StoredSession

logger = logging.getLogger("dirigible_session")

#: How often to list the sessions of a user again, if some got another id before they were ended.
TRIES = 5


def sessions_of(user: Any) -> list[SessionRecord]:
    """Return the live sessions of a user, the most recently accessed first.

    ``is_current`` is True for the session of the current request. Secret values are replaced with
    stars, as in every record. Never creates or changes a session. Raises ValueError if ``user`` is
    not a valid primary key, NotListable if the engine can't list its sessions, and StoreFailed if
    its store does not respond.
    """
    user_id = _user_id(user)
    if user_id is None:
        return []
    inspector = Inspector()
    stored = sorted(_stored(inspector, user_id, state="active"), key=_recency, reverse=True)
    usernames = {user_id: user.get_username()} if hasattr(user, "get_username") else None
    _, current = _current()
    return [
        replace(record, is_current=record.digest == current)
        for record in inspector.records_of(stored, usernames=usernames)
    ]


async def asessions_of(user: Any) -> list[SessionRecord]:
    """Async twin of :func:`sessions_of`."""
    return await sync_to_async(sessions_of)(user)


def end_session(user: Any, handle: str) -> bool:
    """End a session of the user, and return whether this call ended it.

    ``handle`` is 4 to 40 hex digits of the session's handle, or its key. Raises AmbiguousHandle if
    several sessions of the user match. Returns False if the session belongs to another user, or is
    gone. If it is the session of the current request, the request continues with a new, empty
    session and an anonymous user. ``session_invalidated`` is sent with the reason ``OPERATOR``.
    For other errors see :func:`sessions_of`.
    """
    user_id = _user_id(user)
    if user_id is None:
        return False
    inspector = _inspector()
    named = _named(_stored(inspector, user_id), handle)
    return bool(named and _end(inspector, named, Reason.OPERATOR))


async def aend_session(user: Any, handle: str) -> bool:
    """Async twin of :func:`end_session`."""
    return await sync_to_async(end_session)(user, handle)


def end_sessions(user: Any, *, keep_current: bool = False) -> int:
    """End all sessions of a user, or all but the current one, and return how many were live.

    A session that another request ends at the same time is not counted. ``keep_current`` keeps the
    session of the current request, and raises NoCurrentRequest outside a request. Without it, the
    current request continues with a new, empty session and an anonymous user.
    ``session_invalidated`` is sent for each with the reason ``OPERATOR``. For other errors see
    :func:`sessions_of`.
    """
    return _end_sessions(user, keep_current, "end_sessions")


async def aend_sessions(user: Any, *, keep_current: bool = False) -> int:
    """Async twin of :func:`end_sessions`."""
    return await sync_to_async(_end_sessions)(user, keep_current, "aend_sessions")


def _end_sessions(user: Any, keep_current: bool, function: str) -> int:
    if keep_current:
        context.require(function)
    user_id = _user_id(user)
    if user_id is None:
        return 0
    return _end_all(user_id, Reason.OPERATOR, keep=_current()[1] if keep_current else None)


def _end_all(user_id: str, reason: Reason, keep: str | None = None) -> int:
    inspector = _inspector()
    live = 0
    for _ in range(TRIES):
        # Expired sessions too, since a request in progress may still renew one.
        stored = [session for session in _stored(inspector, user_id) if session.digest != keep]
        ended = _end(inspector, stored, reason)
        live += sum(session.state == "active" for session in ended)
        if len(ended) == len(stored):
            break
        # The others have ended, or have got another id.
    return live


def _end(
    inspector: Inspector, stored: Sequence[StoredSession], reason: Reason
) -> list[StoredSession]:
    visit, digest = _current()
    current = [session for session in stored if session.digest == digest]
    others = [session for session in stored if session.digest != digest]
    ended = inspector.end(others, reason=reason)
    if visit is not None and current:
        visit.end_reason = reason
        visit.session.flush()
        if reason is Reason.OPERATOR:
            # If the user was deleted, the view may still need request.user.
            ids.log_out(visit.request)
        visit.notify()
    return ended + current


def _inspector() -> Inspector:
    """Return an inspector whose signals have the current request, if there is one."""
    request = context.require("end_sessions").request if context.is_current() else None
    return Inspector(request=request)


def _current() -> tuple[Visit | None, str | None]:
    """Return the current visit and the digest of its session, if any."""
    if not context.is_current():
        return None, None
    visit = context.require("sessions_of").visit
    visit.load_data()
    return visit, visit.digest


def _user_id(user: Any) -> str | None:
    """Return the user's id as sessions store it; None for an anonymous or unsaved user."""
    model: Any = get_user_model()
    if isinstance(user, Model):
        if not isinstance(user, model._meta.concrete_model):
            raise TypeError(
                f"dirigible_session: {user!r} is not a user: AUTH_USER_MODEL is "
                f"{settings.AUTH_USER_MODEL!r}. Pass a user or the primary key of a user."
            )
    elif getattr(user, "is_anonymous", False):
        return None
    else:
        try:
            user = model(pk=model._meta.pk.to_python(user))
        except ValidationError as error:
            raise ValueError(
                f"dirigible_session: {user!r} is not a valid primary key of a user."
            ) from error
    return None if user.pk is None else str(user._meta.pk.value_to_string(user))


def _stored(inspector: Inspector, user_id: str, state: State = "all") -> list[StoredSession]:
    return list(inspector.sessions(Selection(user_id=user_id, state=state)))


def _named(stored: Sequence[StoredSession], name: str) -> list[StoredSession]:
    """Return the session with that handle or key, in a list; an empty list if there is none."""
    digest, prefix = handles.digest(name), name.lower()
    for session in stored:
        if session.digest == digest:
            return [session]
    if len(prefix) < handles.SHORTEST:
        return []
    matches = [session for session in stored if session.digest.startswith(prefix)]
    if len(matches) > 1:
        raise AmbiguousHandle(prefix, sorted(session.digest for session in matches))
    return matches


def _recency(stored: StoredSession) -> tuple[float, float, str]:
    """Return the sort key for the order of last access, then of login."""
    times = stored.times
    if times is None:
        return 0, 0, stored.digest
    return times.accessed, times.authenticated or times.created, stored.digest


# DIRIGIBLE_SESSION_MAX_PER_USER


def limit_sessions(session: Any, request: Any, **kwargs: Any) -> None:
    """End the least recently accessed sessions of a user who has too many after a login.

    Receives ``login_stored``. Simultaneous logins each do this after storing their session, so the
    last one sees all. They share one order, or two logins would end each other's session: logins
    whose request arrived later come first, then this login, then the other sessions.
    """
    user_id = user_id_of(session)
    if conf.max_per_user is None or user_id is None or not hasattr(session, "end_stored"):
        return
    most = _max_sessions(user_id)
    if most is None:
        return

    began = session.times.authenticated or session.times.accessed

    def rank(stored: StoredSession) -> tuple[bool, float, float, str]:
        accessed, authenticated, digest = _recency(stored)
        is_login = digest == session.digest or authenticated > began
        return is_login, accessed, authenticated, digest

    inspector = Inspector(request=request)
    stored = sorted(_stored(inspector, user_id, state="active"), key=rank, reverse=True)
    inspector.end(stored[most:], reason=Reason.LIMIT)


def limit_at_login(request: Any, **kwargs: Any) -> None:
    """Save the session at login if this package's middleware, which saves it later, is not used.

    Receives ``user_logged_in``.
    """
    session: Any = unwrapped(getattr(request, "session", None))
    if conf.max_per_user is None or not hasattr(session, "end_stored") or STAY in vars(session):
        return
    session.save()
    login_stored.send_robust(type(session), session=session, request=request)


def _max_sessions(user_id: str) -> int | None:
    most = conf.max_per_user
    if isinstance(most, str):
        user = get_user_model()._default_manager.get(pk=user_id)
        most = import_string(most)(user)
    if most is not None and (not isinstance(most, int) or isinstance(most, bool)):
        raise ImproperlyConfigured(
            f"{PREFIX}MAX_PER_USER must be None, a number, or the dotted path of a function that "
            f"takes the user and returns None or a number, not {most!r}."
        )
    return None if most is None else max(most, 1)


# DIRIGIBLE_SESSION_END_WITH_USER


def end_with_deleted(instance: Any, using: str, **kwargs: Any) -> None:
    """End the sessions of a user who was deleted; receives ``post_delete``."""
    if conf.end_with_user:
        _end_with(instance, using)


def end_with_deactivated(
    instance: Any,
    using: str,
    created: bool,
    update_fields: frozenset[str] | None,
    raw: bool = False,
    **kwargs: Any,
) -> None:
    """End the sessions of a user who was deactivated; receives ``post_save``."""
    if not conf.end_with_user or raw or created or getattr(instance, "is_active", True):
        return
    if update_fields is None or "is_active" in update_fields:
        _end_with(instance, using)


def _end_with(user: Any, using: str) -> None:
    user_id = user._meta.pk.value_to_string(user)

    def end() -> None:
        try:
            _end_all(user_id, Reason.USER)
        except Exception:
            # The user must be saved all the same. Django does not accept the sessions any more.
            logger.exception("The sessions of a deleted or deactivated user could not be ended.")

    end()
    if transaction.get_connection(using).in_atomic_block:
        # Until it commits, other requests may still log in as that user.
        transaction.on_commit(end, using=using)


def connect() -> None:
    """Connect the receivers; for ``AppConfig.ready()``."""
    login_stored.connect(limit_sessions)
    user_logged_in.connect(limit_at_login)
    if not apps.is_installed("django.contrib.auth"):
        return
    user_model: Any = get_user_model()._meta.concrete_model
    for model in apps.get_models():
        # Proxies and subclasses of the user model send signals of their own.
        if issubclass(model, user_model):
            post_delete.connect(end_with_deleted, sender=model)
            post_save.connect(end_with_deactivated, sender=model)
