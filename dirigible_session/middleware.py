"""Makes the request current; leaves the last access to be recorded on the way out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured

from .conf import conf
from .current.context import Current
from .current.visit import Visit, begin
from .exceptions import MIDDLEWARE, SESSION_MIDDLEWARE

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

GetResponse = Callable[["HttpRequest"], "HttpResponseBase | Awaitable[HttpResponseBase]"]


class DirigibleSessionMiddleware:
    """Stands directly after Django's ``SessionMiddleware``, under WSGI and ASGI.

    The session is loaded by whoever uses it first, and stored by ``SessionMiddleware``: a page
    that does not use it costs no query, no write, no cookie and no ``Vary`` header.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle the request with its session in reach of any code."""
        if self._is_async:
            return self.__acall__(request)
        visit = _begin(request)
        current = Current(request, request, visit.arrived)
        try:
            response = cast("HttpResponseBase", self.get_response(request))
            if getattr(request, "session", visit.session) is not visit.session:
                # The view exchanged it.
                visit.notify()
                visit = begin(request.session, visit.arrived, request)
            counts_although_unused = _counts_although_unused(visit, response)
            if counts_although_unused:
                visit.load_data()
            if visit.finish(response.status_code):
                visit.touch()
            if counts_although_unused:
                visit.session.accessed = _sends_cookie(visit)
            return response
        finally:
            try:
                if not visit.finished:
                    # The view was cancelled, or the server is going down: there is no response.
                    visit.finish(None)
                visit.notify()
            finally:
                current.leave()

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        visit = _begin(request)
        current = Current(request, request, visit.arrived)
        try:
            response = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
            if getattr(request, "session", visit.session) is not visit.session:
                # The view exchanged it.
                await visit.anotify()
                visit = begin(request.session, visit.arrived, request)
            counts_although_unused = _counts_although_unused(visit, response)
            if counts_although_unused:
                await visit.aload_data()
            if visit.finish(response.status_code):
                await visit.atouch()
            if counts_although_unused:
                visit.session.accessed = _sends_cookie(visit)
            return response
        finally:
            try:
                if not visit.finished:
                    # The view was cancelled, or the server is going down: there is no response.
                    visit.finish(None)
                await visit.anotify()
            finally:
                current.leave()


def _begin(request: HttpRequest) -> Visit:
    """Return the visit of the request's session."""
    session: Any = getattr(request, "session", None)
    if not isinstance(session, SessionBase):
        raise ImproperlyConfigured(
            f"{MIDDLEWARE!r} needs a session, and request.session is {session!r}. In MIDDLEWARE, "
            f"write {SESSION_MIDDLEWARE!r} and directly after it {MIDDLEWARE!r}."
        )
    return begin(session, time.time(), request)


def _counts_although_unused(visit: Visit, response: HttpResponseBase) -> bool:
    """Return whether the request is one in its session although the view did not use it."""
    # With SESSION_SAVE_EVERY_REQUEST, SessionMiddleware loads and saves the session after this.
    return (
        visit.is_idle
        and (conf.touch_every_request or settings.SESSION_SAVE_EVERY_REQUEST)
        and response.status_code < 500
    )


def _sends_cookie(visit: Visit) -> bool:
    """Return whether SessionMiddleware will set the cookie of a session that no page used.

    If not, no part of the response depends on the session. If so, a page cache must not give it
    to another visitor; not every release of Django sees to that for a session unused.
    """
    return visit.session.modified or settings.SESSION_SAVE_EVERY_REQUEST
