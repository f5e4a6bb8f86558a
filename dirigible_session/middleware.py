"""Makes the request current; leaves the last access to be recorded on the way out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured

from .conf import conf
from .context import Current
from .exceptions import MIDDLEWARE, SESSION_MIDDLEWARE
from .tracking import Tracker, track

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
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
        current = Current(request)
        try:
            response = cast("HttpResponseBase", self.get_response(request))
            if request.session is not tracker.session:
                tracker = _track(request)
            if conf.touch_every_request and tracker.is_idle:
                tracker.load_data()
                tracker.session.accessed = False
            tracker.finish(response.status_code)
            tracker.notify()
            return response
        finally:
            current.leave()

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        tracker = _track(request)
        current = Current(request)
        try:
            response = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
            if request.session is not tracker.session:
                tracker = _track(request)
            if conf.touch_every_request and tracker.is_idle:
                await tracker.aload_data()
                tracker.session.accessed = False
            tracker.finish(response.status_code)
            await tracker.anotify()
            return response
        finally:
            current.leave()


def _track(request: HttpRequest) -> Tracker:
    """Return the tracker of the request's session."""
    session: SessionBase | None = getattr(request, "session", None)
    if session is None:
        raise ImproperlyConfigured(
            f"{MIDDLEWARE!r} needs request.session, and there is none. In MIDDLEWARE, write "
            f"{SESSION_MIDDLEWARE!r} and directly after it {MIDDLEWARE!r}."
        )
    return track(session, request)
