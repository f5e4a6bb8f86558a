"""Create a session, end it, or change its id: once, even if several threads or tasks do it at once.

The functions expect the session to be loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.sessions.backends.base import VALID_KEY_CHARS
from django.utils.crypto import get_random_string
from django.utils.functional import LazyObject

from dirigible_session.signals import Reason

from .visit import Visit

if TYPE_CHECKING:
    from django.http import HttpRequest


def create(visit: Visit) -> None:
    """Create and store the session, unless it has an id already."""
    with visit.lock.for_thread():
        if not visit.has_id:
            with _key_restored_on_error(visit):
                visit.draw_id()
                visit.session.create()


async def acreate(visit: Visit) -> None:
    """Async twin of :func:`create`."""
    async with visit.lock.for_task():
        if not visit.has_id:
            with _key_restored_on_error(visit):
                visit.draw_id()
                await visit.session.acreate()


def change(visit: Visit) -> None:
    """Give the session another id; create it if it has none.

    A session that was ended elsewhere is not stored again: the save at the end of the request will
    find it gone.
    """
    if not visit.has_id:
        create(visit)
        return
    with visit.lock.for_thread(), _key_restored_on_error(visit):
        if visit.client_knows_it and visit.is_gone():
            _take_another_key(visit)
        else:
            visit.session.cycle_key()


async def achange(visit: Visit) -> None:
    """Async twin of :func:`change`."""
    if not visit.has_id:
        await acreate(visit)
        return
    async with visit.lock.for_task():
        with _key_restored_on_error(visit):
            if visit.client_knows_it and await visit.ais_gone():
                _take_another_key(visit)
            else:
                await visit.session.acycle_key()


def end(visit: Visit, reason: Reason = Reason.INVALIDATED) -> None:
    """End the session, unless another thread or task just did, and log its user out."""
    generation = visit.generation
    with visit.lock.for_thread():
        if visit.generation == generation:
            visit.end_reason = reason
            visit.session.flush()
    log_out(visit.request)


async def aend(visit: Visit, reason: Reason = Reason.INVALIDATED) -> None:
    """Async twin of :func:`end`."""
    generation = visit.generation
    async with visit.lock.for_task():
        if visit.generation == generation:
            visit.end_reason = reason
            await visit.session.aflush()
    log_out(visit.request)


def log_out(request: HttpRequest | None) -> None:
    """Make ``request.user`` anonymous, also for a request object that wraps this one."""
    if request is None or not hasattr(request, "user"):
        return
    if not apps.is_installed("django.contrib.auth"):
        # The user belongs to the project's own authentication.
        return
    # This module is imported before the app registry is ready.
    from django.contrib.auth.models import AnonymousUser

    async def auser() -> Any:
        # On some releases of Django, a later login sets request.user only.
        return request.user

    user = request.user
    request.user = nobody = AnonymousUser()
    if isinstance(user, LazyObject):
        # A request that wraps this one has kept the lazy object.
        user._wrapped = nobody
    request.auser = auser


def _take_another_key(visit: Visit) -> None:
    visit.session._session_key = get_random_string(32, VALID_KEY_CHARS)
    visit.session.modified = True


@contextmanager
def _key_restored_on_error(visit: Visit) -> Iterator[None]:
    """Give the session its former key back if it could not be stored under another one."""
    key = visit.session.session_key
    try:
        yield
    except BaseException:
        visit.session._session_key = key
        raise
