"""Makes the request current; leaves the last access to be recorded on the way out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import apps
from django.conf import settings
from django.contrib.sessions import middleware as django_middleware
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.exceptions import ImproperlyConfigured
from django.utils.cache import patch_vary_headers
from django.utils.module_loading import import_string

from .conf import conf
from .current import context
from .current.engines import CLASSES, STAY, VISIT, begin, unwrapped, watch
from .current.visit import TOUCHED, Visit
from .exceptions import MIDDLEWARE, SESSION_MIDDLEWARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponseBase

GetResponse = Callable[["HttpRequest"], "HttpResponseBase | Awaitable[HttpResponseBase]"]

logger = logging.getLogger("dirigible_session")

APP = "dirigible_session"

NOT_LOADED = "A session that no view used could not be loaded to record its last access."
NOT_RECORDED = "The last access of a session could not be recorded."
NOT_DELETED = "A session that is over could not be deleted."


class _CurrentRequest:
    """What both middlewares do: make the session of a request current, and finish its visit."""

    sync_capable = True
    async_capable = True
    get_response: Any

    def _respond(self, request: HttpRequest, session: Any) -> HttpResponseBase:
        """Get the response to a request whose ``session`` is current meanwhile."""
        stay = context.Current(request)
        known = session.__dict__
        if STAY not in known:
            watch(session, stay)
        token = context.current.set(stay)
        is_used = True
        try:
            response: HttpResponseBase = self.get_response(request)
            # Most pages use no session, and pay for no more than this.
            is_used = (
                VISIT in known
                or session.modified
                or conf.counts_unused
                or getattr(request, "session", None) is not session
            )
            if is_used and hasattr(request, "session"):
                visit = begin(request.session, stay)
                is_unused = _counts_although_unused(visit, response)
                if is_unused:
                    with _excused(NOT_LOADED):
                        visit.load_data()
                if visit.finish(response.status_code):
                    with _excused(NOT_RECORDED):
                        visit.touch()
                elif visit.is_quiet:
                    if _is_to_be_stored(visit, response):
                        with _interruption():
                            visit.session.save()
                        visit.session.modified = False
                    _leave_cookie(visit.session, response)
                if is_unused:
                    visit.session.accessed = _sends_cookie(visit)
            return response
        finally:
            try:
                if is_used:
                    for visit in _visits_under_way(request, session):
                        with _excused(NOT_DELETED):
                            visit.drop_ended()
                        visit.notify()
            finally:
                stay.close()
                context.current.reset(token)

    async def _arespond(self, request: HttpRequest, session: Any) -> HttpResponseBase:
        """Async twin of :meth:`_respond`."""
        stay = context.Current(request)
        known = session.__dict__
        if STAY not in known:
            watch(session, stay)
        token = context.current.set(stay)
        is_used = True
        try:
            response: HttpResponseBase = await self.get_response(request)
            # Most pages use no session, and pay for no more than this.
            is_used = (
                VISIT in known
                or session.modified
                or conf.counts_unused
                or getattr(request, "session", None) is not session
            )
            if is_used and hasattr(request, "session"):
                visit = begin(request.session, stay)
                is_unused = _counts_although_unused(visit, response)
                if is_unused:
                    with _excused(NOT_LOADED):
                        await visit.aload_data()
                if visit.finish(response.status_code):
                    with _excused(NOT_RECORDED):
                        await visit.atouch()
                elif visit.is_quiet:
                    if _is_to_be_stored(visit, response):
                        with _interruption():
                            await visit.session.asave()
                        visit.session.modified = False
                    _leave_cookie(visit.session, response)
                if is_unused:
                    visit.session.accessed = _sends_cookie(visit)
            return response
        finally:
            try:
                if is_used:
                    for visit in _visits_under_way(request, session):
                        with _excused(NOT_DELETED):
                            await visit.adrop_ended()
                        await visit.anotify()
            finally:
                stay.close()
                context.current.reset(token)

    def _pass_through(self, request: HttpRequest) -> HttpResponseBase:
        """Get the response to a request without a session: none is current meanwhile."""
        # The request may be made inside another one, by a test client for example.
        token = context.current.set(None)
        try:
            response: HttpResponseBase = self.get_response(request)
            return response
        finally:
            context.current.reset(token)

    async def _apass_through(self, request: HttpRequest) -> HttpResponseBase:
        """Async twin of :meth:`_pass_through`."""
        token = context.current.set(None)
        try:
            response: HttpResponseBase = await self.get_response(request)
            return response
        finally:
            context.current.reset(token)


class SessionMiddleware(_CurrentRequest, django_middleware.SessionMiddleware):
    """Stands in the place of Django's ``SessionMiddleware``, under WSGI and ASGI.

    It does all that Django's does, and makes the request current. Under ASGI it needs no thread
    but those that the session store needs.
    """

    def __init__(self, get_response: Any) -> None:
        _check_installed(type(self))
        super().__init__(get_response)
        self._is_async = iscoroutinefunction(get_response)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle the request with its session in reach of any code, and store the session."""
        if self._is_async:
            return self.__acall__(request)
        self.process_request(request)
        session = unwrapped(getattr(request, "session", None))
        # A subclass may leave the session out for some paths.
        if session is None:
            response = self._pass_through(request)
        else:
            response = self._respond(request, session)
        return self.process_response(request, response)

    async def __acall__(self, request: HttpRequest) -> Any:
        """Async twin of :meth:`__call__`."""
        self.process_request(request)
        session = unwrapped(getattr(request, "session", None))
        if session is None:
            response = await self._apass_through(request)
        else:
            response = await self._arespond(request, session)
        await self._astore(request, response)
        return self.process_response(request, response)

    async def _astore(self, request: HttpRequest, response: Any) -> None:
        """Save what :meth:`process_response` would, so that it finds the session saved."""
        session = unwrapped(getattr(request, "session", None))
        if (
            session is None
            or session.modified is TOUCHED
            or not (session.modified or settings.SESSION_SAVE_EVERY_REQUEST)
            or session.is_empty()
            or _is_quiet(session)
        ):
            return
        if response.status_code >= 500:
            # It saves nothing then, and yet asks the session for its expiry.
            accessed = session.accessed
            await session._aget_session()
            session.accessed = accessed
        else:
            with _interruption():
                await session.asave()
            if STAY in vars(session):
                session.modified = TOUCHED

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        """Store the session and send its cookie as Django does, except in a passive request."""
        session = unwrapped(getattr(request, "session", None))
        response = super().process_response(request, response)
        if session is not None and session.modified is TOUCHED:
            # The body of a streaming response may still save the session by itself.
            session.modified = True
        return response


class DirigibleSessionMiddleware(_CurrentRequest):
    """Stands directly after a session middleware, Django's or another, under WSGI and ASGI.

    The session is loaded by whoever uses it first, and stored by the session middleware: a page
    that does not use it costs no query, no write, no cookie and no ``Vary`` header.
    """

    def __init__(self, get_response: GetResponse) -> None:
        _check_installed(type(self))
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        self._answer = self._arespond if self._is_async else self._respond
        self._pass_on = self._apass_through if self._is_async else self._pass_through
        self._gets_sessions = False
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle the request with its session in reach of any code."""
        session = getattr(request, "session", None)
        if type(session) not in CLASSES:
            session = unwrapped(session)
        if isinstance(session, SessionBase):
            self._gets_sessions = True
            return self._answer(request, session)
        if session is None and (self._gets_sessions or _may_leave_out_sessions(type(self))):
            return self._pass_on(request)
        raise ImproperlyConfigured(
            f"{MIDDLEWARE!r} needs a session, and request.session is {session!r}. In MIDDLEWARE, "
            f"write {SESSION_MIDDLEWARE!r} and directly after it {MIDDLEWARE!r}."
        )


@contextmanager
def _excused(what: str) -> Iterator[None]:
    """Log what a store raises where a page that only reads must not fail for it."""
    try:
        yield
    except UpdateError:
        # The session is gone.
        return
    except Exception:
        # Whatever a store raises that can't be reached, or takes no writes.
        logger.exception(what)


def _check_installed(middleware: type) -> None:
    # No system check can tell, since none would run.
    if not apps.is_installed(APP):
        path = f"{middleware.__module__}.{middleware.__qualname__}"
        raise ImproperlyConfigured(
            f"dirigible_session: {path!r} is in MIDDLEWARE, but {APP!r} is not in INSTALLED_APPS. "
            "Add it there: without it the system checks, commands and template tags are missing."
        )


def _visits_under_way(request: HttpRequest, session: Any) -> Sequence[Visit]:
    """Return the visits that end with the request, each finished, of an exchanged session too."""
    last = unwrapped(getattr(request, "session", session))
    sessions = {id(found): found for found in (session, last)}
    found_visits = (getattr(found, "__dict__", {}).get(VISIT) for found in sessions.values())
    visits: list[Visit] = [visit for visit in found_visits if visit is not None]
    for visit in visits:
        if not visit.finished:
            # The view exchanged it or was cancelled, or the server is going down.
            visit.finish(None)
    return visits


def _counts_although_unused(visit: Visit, response: HttpResponseBase) -> bool:
    """Return whether the request is one in its session although the view did not use it."""
    # With SESSION_SAVE_EVERY_REQUEST, SessionMiddleware loads and saves the session after this.
    return visit.is_unused and visit.is_visit and conf.counts_unused and response.status_code < 500


def _sends_cookie(visit: Visit) -> bool:
    """Return whether SessionMiddleware will set the cookie of a session that no page used.

    If not, no part of the response depends on the session. If so, a page cache must not give it
    to another visitor; not every release of Django sees to that for a session unused.
    """
    return visit.session.modified or settings.SESSION_SAVE_EVERY_REQUEST


def _is_to_be_stored(visit: Visit, response: HttpResponseBase) -> bool:
    """Return whether a passive request changed the session."""
    session = visit.session
    return session.modified and not session.is_empty() and response.status_code < 500


def _leave_cookie(session: Any, response: HttpResponseBase) -> None:
    """Have SessionMiddleware neither save the session nor renew its cookie."""
    if session.modified or settings.SESSION_SAVE_EVERY_REQUEST:
        if session.accessed:
            patch_vary_headers(response, ("Cookie",))
        # Django's takes this for a request whose session was deleted, and leaves it alone.
        del session.accessed


def _is_quiet(session: Any) -> bool:
    # A view is passive by its own word, which makes a visit, or by that of the settings.
    if VISIT in vars(session) or (conf.passive and STAY in vars(session)):
        return bool(session._dirigible_visit.is_quiet)
    return False


@contextmanager
def _interruption() -> Iterator[None]:
    """Raise what Django raises where a session is gone that is to be saved."""
    try:
        yield
    except UpdateError as error:
        raise SessionInterrupted(
            "The session was ended before the request was answered, by a logout in another request "
            "for one, so what this request changed in it was not stored."
        ) from error


def _may_leave_out_sessions(ours: type) -> bool:
    """Return whether a session middleware of the project's own stands before ours.

    Django's own gives each request a session, so it is not at fault where there is none.
    """
    for path in settings.MIDDLEWARE:
        candidate = import_string(path)
        if candidate is ours:
            return False
        is_session = isinstance(candidate, type) and issubclass(
            candidate, django_middleware.SessionMiddleware
        )
        if (is_session or "session" in path.lower()) and path != SESSION_MIDDLEWARE:
            return True
    return False
