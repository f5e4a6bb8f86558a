"""Makes the request current; leaves the last access to be recorded on the way out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured

from .conf import conf
from .context import Current
from .exceptions import MIDDLEWARE, SESSION_MIDDLEWARE
from .tracking import Tracker, track

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
        tracker = _track(request)
        current = Current(request, request, tracker.arrived)
        try:
            response = cast("HttpResponseBase", self.get_response(request))
            if getattr(request, "session", tracker.session) is not tracker.session:
                # The view exchanged it.
                tracker.notify()
                tracker = track(request.session, request, tracker.arrived)
            counts_although_unused = _counts_although_unused(tracker, response)
            if counts_although_unused:
                tracker.load_data()
            if tracker.finish(response.status_code):
                tracker.touch()
            if counts_although_unused:
                tracker.session.accessed = _sends_cookie(tracker)
            return response
        finally:
            try:
                if not tracker.finished:
                    # The view was cancelled, or the server is going down: there is no response.
                    tracker.finish(None)
                tracker.notify()
            finally:
                current.leave()

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        tracker = _track(request)
        current = Current(request, request, tracker.arrived)
        try:
            response = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
            if getattr(request, "session", tracker.session) is not tracker.session:
                # The view exchanged it.
                await tracker.anotify()
                tracker = track(request.session, request, tracker.arrived)
            counts_although_unused = _counts_although_unused(tracker, response)
            if counts_although_unused:
                await tracker.aload_data()
            if tracker.finish(response.status_code):
                await tracker.atouch()
            if counts_although_unused:
                tracker.session.accessed = _sends_cookie(tracker)
            return response
        finally:
            try:
                if not tracker.finished:
                    # The view was cancelled, or the server is going down: there is no response.
                    tracker.finish(None)
                await tracker.anotify()
            finally:
                current.leave()


def _track(request: HttpRequest) -> Tracker:
    """Return the tracker of the request's session."""
    session: Any = getattr(request, "session", None)
    if not isinstance(session, SessionBase):
        raise ImproperlyConfigured(
            f"{MIDDLEWARE!r} needs a session, and request.session is {session!r}. In MIDDLEWARE, "
            f"write {SESSION_MIDDLEWARE!r} and directly after it {MIDDLEWARE!r}."
        )
    return track(session, request)


def _counts_although_unused(tracker: Tracker, response: HttpResponseBase) -> bool:
    """Return whether the request is one in its session although the view did not use it."""
    # With SESSION_SAVE_EVERY_REQUEST, SessionMiddleware loads and saves the session after this.
    return (
        tracker.is_idle
        and (conf.touch_every_request or settings.SESSION_SAVE_EVERY_REQUEST)
        and response.status_code < 500
    )


def _sends_cookie(tracker: Tracker) -> bool:
    """Return whether SessionMiddleware will set the cookie of a session that no page used.

    If not, no part of the response depends on the session. If so, a page cache must not give it
    to another visitor; not every release of Django sees to that for a session unused.
    """
    return tracker.session.modified or settings.SESSION_SAVE_EVERY_REQUEST
