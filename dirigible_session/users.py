"""The sessions of a user: where somebody is logged in, and signing out there.

To sign a user out everywhere else::

    from dirigible_session.users import end_sessions, sessions_of

    for record in sessions_of(request.user):
        print(record.handle, record.last_accessed, record.is_current)
    end_sessions(request.user, keep_current=True)

A user is given as an object or as its primary key. ``AnonymousUser``, and a user that was never
saved, have no sessions.

On the engines of this package the sessions of a user are found by index: to list them takes at
most two statements or round trips, and to end them as many again, however many sessions others
have. On Django's engines that can be listed, each call reads and decodes all sessions that are
stored: that is for sites with some thousands of them. Other engines raise NotListable.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
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

#: How often to list the sessions of a user, where some got another id before they were ended.
TRIES = 5
#: The shortest handle that a tool takes.
SHORTEST_HANDLE = 4


def sessions_of(user: Any) -> list[SessionRecord]:
    """Return the live sessions of a user, the one accessed last first.

    ``is_current`` tells which is the session of the current request; outside any request none
    is. Secrets are stars, as in every record. Neither creates nor changes a session. Raises
    ValueError if ``user`` can't be a primary key, NotListable if the engine can't tell which
    sessions there are, StoreFailed if its store does not answer.
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
    """End one session, if it is that user's, and return whether this call ended it.

    ``handle`` is what names a session to every tool: its handle, 4 to 40 digits of the digest, or
    its key. AmbiguousHandle if several sessions of the user match. The session of another user is
    not ended, nor is it an error to ask for one, or for one that is gone. If it is the session of
    the current request, the request goes on with a new, empty session, and nobody is logged in.
    ``session_invalidated`` is sent with the reason ``OPERATOR``. Further errors: see
    :func:`sessions_of`.
    """
    user_id = _user_id(user)
    if user_id is None:
        return False
    inspector = Inspector()
    named = _named(_stored(inspector, user_id), handle)
    return bool(named and _end(inspector, named, Reason.OPERATOR))


async def aend_session(user: Any, handle: str) -> bool:
    """Async twin of :func:`end_session`."""
    return await sync_to_async(end_session)(user, handle)


def end_sessions(user: Any, *, keep_current: bool = False) -> int:
    """End all sessions of a user, or all but the current one, and return how many were live.

    One that ends meanwhile is not counted. With ``keep_current`` the session of the current
    request stays; NoCurrentRequest outside a request. Without it, the current request goes on with
    a new, empty session, and nobody is logged in. ``session_invalidated`` is sent for each with
    the reason ``OPERATOR``. Further errors: see :func:`sessions_of`.
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
    inspector = Inspector()
    live = 0
    for _ in range(TRIES):
        # Those that are over as well: a request that is under way may renew its session.
        stored = [session for session in _stored(inspector, user_id) if session.digest != keep]
        ended = _end(inspector, stored, reason)
        live += sum(session.state == "active" for session in ended)
        if len(ended) == len(stored):
            break
        # The others ended meanwhile, or have another id by now.
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
            # Where the user leaves, the view has yet to say goodbye.
            ids.log_out(visit.request)
        visit.notify()
    return ended + current


def _current() -> tuple[Visit | None, str | None]:
    """Return the current visit and the digest of its session; None where there is none."""
    if not context.is_current():
        return None, None
    visit = context.require("sessions_of").visit
    visit.load_data()
    return visit, visit.digest


def _user_id(user: Any) -> str | None:
    """Return what the sessions of a user hold; None for nobody."""
    model: Any = get_user_model()
    if isinstance(user, Model):
        if not isinstance(user, model._meta.concrete_model):
            raise TypeError(
                f"dirigible_session: {user!r} is not a user: AUTH_USER_MODEL is "
                f"{settings.AUTH_USER_MODEL!r}. Pass a user, or a primary key of one."
            )
    elif getattr(user, "is_anonymous", False):
        return None
    else:
        try:
            user = model(pk=model._meta.pk.to_python(user))
        except ValidationError as error:
            raise ValueError(
                f"dirigible_session: {user!r} can't be the primary key of a user."
            ) from error
    return None if user.pk is None else str(user._meta.pk.value_to_string(user))


def _stored(inspector: Inspector, user_id: str, state: State = "all") -> list[StoredSession]:
    return list(inspector.sessions(Selection(user_id=user_id, state=state)))


def _named(stored: Sequence[StoredSession], name: str) -> list[StoredSession]:
    """Return the session that a handle or a key names, if it is among these."""
    digest, prefix = handles.digest(name), name.lower()
    for session in stored:
        if session.digest == digest:
            return [session]
    if len(prefix) < SHORTEST_HANDLE:
        return []
    matches = [session for session in stored if session.digest.startswith(prefix)]
    if len(matches) > 1:
        raise AmbiguousHandle(prefix, sorted(session.digest for session in matches))
    return matches


def _recency(stored: StoredSession) -> tuple[float, float, str]:
    """Return what orders sessions by their last access, then by their login."""
    times = stored.times
    if times is None:
        return 0, 0, stored.digest
    return times.accessed, times.authenticated or times.created, stored.digest


# No more than so many.


def limit_sessions(session: Any, **kwargs: Any) -> None:
    """End the sessions that a user has too many after a login: those accessed longest ago.

    Receives ``login_stored``. Of several logins at once each does this once its session is stored,
    so the last of them sees all. All go by one order, or two would end each other's session: first
    come the logins whose request arrived after this one, then this one, then what others accessed.
    """
    user_id = user_id_of(session)
    if conf.max_per_user is None or user_id is None or not hasattr(session, "end_stored"):
        return
    most = _most_sessions(user_id)
    if most is None:
        return

    began = session.times.authenticated or session.times.accessed

    def rank(stored: StoredSession) -> tuple[bool, float, float, str]:
        accessed, authenticated, digest = _recency(stored)
        is_login = digest == session.digest or authenticated > began
        return is_login, accessed, authenticated, digest

    inspector = Inspector()
    stored = sorted(_stored(inspector, user_id, state="active"), key=rank, reverse=True)
    inspector.end(stored[most:], reason=Reason.LIMIT)


def limit_at_login(request: Any, **kwargs: Any) -> None:
    """Store the session of a login at once where no middleware of ours says when it is stored.

    Receives ``user_logged_in``.
    """
    session: Any = unwrapped(getattr(request, "session", None))
    if conf.max_per_user is None or not hasattr(session, "end_stored") or STAY in vars(session):
        return
    session.save()
    login_stored.send_robust(type(session), session=session, request=request)


def _most_sessions(user_id: str) -> int | None:
    most = conf.max_per_user
    if isinstance(most, str):
        user = get_user_model()._default_manager.get(pk=user_id)
        most = import_string(most)(user)
    if most is not None and (not isinstance(most, int) or isinstance(most, bool)):
        raise ImproperlyConfigured(
            f"{PREFIX}MAX_PER_USER must be None, a number, or the dotted path of a function that "
            f"is given the user and returns one of the two, not {most!r}."
        )
    return None if most is None else max(most, 1)


# No longer than the user.


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
    """End the sessions of a user who is not active any more; receives ``post_save``."""
    if not conf.end_with_user or raw or created or getattr(instance, "is_active", True):
        return
    if update_fields is None or "is_active" in update_fields:
        _end_with(instance, using)


def _end_with(user: Any, using: str) -> None:
    end = partial(_end_left, user._meta.pk.value_to_string(user))
    end()
    if transaction.get_connection(using).in_atomic_block:
        # Until it commits, others may still log in as that user.
        transaction.on_commit(end, using=using)


def _end_left(user_id: str) -> None:
    try:
        _end_all(user_id, Reason.USER)
    except Exception:
        # The user can't log in any more, nor does any session say otherwise.
        logger.exception("The sessions of a user who left could not be ended.")


def connect() -> None:
    """Connect what ends sessions at a login and with the user; for ``AppConfig.ready()``."""
    login_stored.connect(limit_sessions)
    user_logged_in.connect(limit_at_login)
    if not apps.is_installed("django.contrib.auth"):
        return
    user_model: Any = get_user_model()._meta.concrete_model
    for model in apps.get_models():
        # Proxies, and models that inherit from the user's, send signals of their own.
        if issubclass(model, user_model):
            post_delete.connect(end_with_deleted, sender=model)
            post_save.connect(end_with_deactivated, sender=model)
