"""The middleware that makes the session of a request the current one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, contextmanager
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
from .current.engines import CLASSES, STAY, begin, unwrapped, watch
from .current.session import TOUCHED
from .exceptions import MIDDLEWARE, SESSION_MIDDLEWARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponseBase

    from .current.visit import Visit

GetResponse = Callable[["HttpRequest"], "HttpResponseBase | Awaitable[HttpResponseBase]"]

#: A function, its async twin, and the context manager to call them in.
LastCall = tuple[
    Callable[[], object], Callable[[], Awaitable[object]], AbstractContextManager[None]
]

logger = logging.getLogger("dirigible_session")

APP = "dirigible_session"

NOT_LOADED = "A session that the view did not use could not be loaded to record its last access."
NOT_RECORDED = "The last access of a session could not be recorded."
NOT_DELETED = "An expired session could not be deleted."


class _CurrentRequest:
    """The common part of both middlewares: it makes a session current, and finishes its visit."""

    sync_capable = True
    async_capable = True
    get_response: Any

    def _respond(self, request: HttpRequest, session: Any) -> HttpResponseBase:
        """Return the response to a request whose ``session`` is the current one meanwhile."""
        stay = context.Current(request)
        watch(session, stay)
        token = context.current.set(stay)
        try:
            response: HttpResponseBase = self.get_response(request)
            # Most pages do not use the session, and cost no more than this.
            if (
                stay.visits
                or session.modified
                or conf.counts_unused
                or getattr(request, "session", None) is not session
            ):
                for call, _, guard in _last_calls(request, stay, response):
                    with guard:
                        call()
            return response
        finally:
            try:
                for visit in stay.visits:
                    visit.close()
                    if visit.has_ended:
                        with _logged(NOT_DELETED):
                            visit.drop_ended()
                    visit.notify()
            finally:
                stay.close()
                context.current.reset(token)

    async def _arespond(self, request: HttpRequest, session: Any) -> HttpResponseBase:
        """Async twin of :meth:`_respond`."""
        stay = context.Current(request)
        watch(session, stay)
        token = context.current.set(stay)
        try:
            response: HttpResponseBase = await self.get_response(request)
            if (
                stay.visits
                or session.modified
                or conf.counts_unused
                or getattr(request, "session", None) is not session
            ):
                for _, acall, guard in _last_calls(request, stay, response):
                    with guard:
                        await acall()
            return response
        finally:
            try:
                for visit in stay.visits:
                    visit.close()
                    if visit.has_ended:
                        with _logged(NOT_DELETED):
                            await visit.adrop_ended()
                    await visit.anotify()
            finally:
                stay.close()
                context.current.reset(token)

    def _pass_through(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response to a request without a session: none is current meanwhile."""
        # The request may be made inside another one, for example by a test client.
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


def _last_calls(
    request: HttpRequest, stay: context.Current, response: HttpResponseBase
) -> Iterator[LastCall]:
    """Yield what the session's store has to do at the end of a request, before Django's save."""
    if not hasattr(request, "session"):
        return
    visit = begin(request.session, stay)
    is_unused = _counts_although_unused(visit, response)
    if is_unused:
        yield visit.load_data, visit.aload_data, _logged(NOT_LOADED)
    if visit.finish(response.status_code):
        yield visit.touch, visit.atouch, _logged(NOT_RECORDED)
    elif visit.is_quiet:
        if _is_to_be_saved(visit, response):
            yield visit.session.save, visit.session.asave, _interruption()
            visit.session.modified = False
        _leave_cookie(visit.session, response)
    if is_unused:
        visit.session.accessed = _sends_cookie(visit)


class SessionMiddleware(_CurrentRequest, django_middleware.SessionMiddleware):
    """Replaces Django's ``SessionMiddleware``, under WSGI and ASGI.

    It does all that Django's does, and makes the request current. Under ASGI it needs no threads
    other than those of the session store.
    """

    def __init__(self, get_response: Any) -> None:
        _check_installed(type(self))
        super().__init__(get_response)
        self._is_async = iscoroutinefunction(get_response)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle the request with its session as the current one, and save the session."""
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
        """Save the session as :meth:`process_response` would, which then finds it saved."""
        session = unwrapped(getattr(request, "session", None))
        if (
            session is None
            or session.modified is TOUCHED
            or not (session.modified or settings.SESSION_SAVE_EVERY_REQUEST)
            or session.is_empty()
            or not hasattr(session, "accessed")  # see _leave_cookie()
        ):
            return
        if response.status_code >= 500:
            # process_response() saves nothing then, but asks the session for its expiry.
            accessed = session.accessed
            await session._aget_session()
            session.accessed = accessed
        else:
            with _interruption():
                await session.asave()
            if STAY in vars(session):
                session.modified = TOUCHED

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        """Save the session and send its cookie, as Django does."""
        session = unwrapped(getattr(request, "session", None))
        response = super().process_response(request, response)
        if session is not None and session.modified is TOUCHED:
            # The body of a streaming response may still save the session.
            session.modified = True
        return response


class DirigibleSessionMiddleware(_CurrentRequest):
    """Makes the session current. It stands directly after Django's session middleware or another.

    The session is loaded on first use, and saved by the session middleware. A page that does not
    use it costs no query, no write, no cookie and no ``Vary`` header.
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
        """Handle the request with its session as the current one."""
        session = getattr(request, "session", None)
        if type(session) not in CLASSES:
            session = unwrapped(session)
        if isinstance(session, SessionBase):
            self._gets_sessions = True
            return self._answer(request, session)
        if session is None and (self._gets_sessions or _may_skip_sessions(type(self))):
            return self._pass_on(request)
        raise ImproperlyConfigured(
            f"{MIDDLEWARE!r} needs a session, but request.session is {session!r}. In MIDDLEWARE, "
            f"write {SESSION_MIDDLEWARE!r} and directly after it {MIDDLEWARE!r}."
        )


@contextmanager
def _logged(message: str) -> Iterator[None]:
    """Log an exception of the store, so that a page that only reads is still served."""
    try:
        yield
    except UpdateError:
        # The session is gone.
        return
    except Exception:
        # A store that can't be reached, or accepts no writes, may raise anything.
        logger.exception(message)


def _check_installed(middleware: type) -> None:
    # No system check can report this: the checks are those of the app.
    if not apps.is_installed(APP):
        path = f"{middleware.__module__}.{middleware.__qualname__}"
        raise ImproperlyConfigured(
            f"dirigible_session: {path!r} is in MIDDLEWARE, but {APP!r} is not in INSTALLED_APPS. "
            "Add it there: without it the system checks, commands and template tags are missing."
        )


def _counts_although_unused(visit: Visit, response: HttpResponseBase) -> bool:
    """Return whether the request is an access although the view did not use the session."""
    # With SESSION_SAVE_EVERY_REQUEST, SessionMiddleware saves the session after this.
    return visit.is_unused and visit.is_visit and conf.counts_unused and response.status_code < 500


def _sends_cookie(visit: Visit) -> bool:
    """Return whether SessionMiddleware will set the cookie of a session that the view did not use.

    If so, a page cache must not send the response to another visitor: then ``accessed`` makes
    every release of Django add the ``Vary`` header. If not, the response does not depend on the
    session.
    """
    return visit.session.modified or settings.SESSION_SAVE_EVERY_REQUEST


def _is_to_be_saved(visit: Visit, response: HttpResponseBase) -> bool:
    """Return whether a passive request has changed the session."""
    session = visit.session
    return session.modified and not session.is_empty() and response.status_code < 500


def _leave_cookie(session: Any, response: HttpResponseBase) -> None:
    """Make SessionMiddleware send no cookie where it would although nothing is modified."""
    if settings.SESSION_SAVE_EVERY_REQUEST:
        if session.accessed:
            patch_vary_headers(response, ("Cookie",))
        # Django's middleware ignores an object without this attribute.
        del session.accessed


@contextmanager
def _interruption() -> Iterator[None]:
    """Raise SessionInterrupted, as Django does, if the session to be saved is gone."""
    try:
        yield
    except UpdateError as error:
        raise SessionInterrupted(
            "The session was ended before this request completed, for example by a logout in "
            "another request, so the changes of this request were not saved."
        ) from error


def _may_skip_sessions(ours: type) -> bool:
    """Return whether the project has a session middleware of its own before ours.

    That may skip some requests, which Django's never does.
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
