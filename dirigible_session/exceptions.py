"""The exceptions of the facade and the engines, with messages that say what to do."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

MIDDLEWARE = "dirigible_session.middleware.DirigibleSessionMiddleware"
OWN_SESSION_MIDDLEWARE = "dirigible_session.middleware.SessionMiddleware"
SESSION_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"


class _Portable(Exception):
    """An exception that can be pickled and copied, for example to leave a worker process.

    By default an exception is unpickled by calling its class with its ``args``. The classes below
    take other arguments than their message.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), *self.args), vars(self)


def _again(kind: type[_Portable], *args: object) -> _Portable:
    return kind.__new__(kind, *args)


class NoCurrentRequest(_Portable, RuntimeError):
    """A facade function was called without a current request."""

    def __init__(self, function: str) -> None:
        super().__init__(
            f"dirigible_session: {function}() needs a current request, and there is none. It "
            "works while a request that passed through the middleware is handled. Elsewhere (a "
            "shell, a task queue, a thread of your own, a streaming body) wrap the call in "
            "`with use_request(request):` or `with open_session(session_id):`."
        )


class MiddlewareMissing(NoCurrentRequest, ImproperlyConfigured):
    """No request is current, and ``MIDDLEWARE`` has no middleware that makes one current."""

    def __init__(self, function: str) -> None:
        RuntimeError.__init__(
            self,
            f"dirigible_session: {function}() needs a current request, and no middleware makes one "
            f"current. In MIDDLEWARE, write {OWN_SESSION_MIDDLEWARE!r} in place of "
            f"{SESSION_MIDDLEWARE!r}, or wrap the call in `with use_request(request):`.",
        )


class AttributeNotSerializable(_Portable, TypeError):
    """The session's serializer can't serialize this value."""

    def __init__(self, name: str, value: object, reason: object, *, place: str = "") -> None:
        self.name = name
        where = f" at {name}{place}" if place else ""
        super().__init__(
            f"dirigible_session: attribute {name!r} cannot be stored: a value of type "
            f"{type(value).__name__} does not pass the session's serializer{where} ({reason}). "
            "Store what JSON can hold: str, int, finite float, bool, list, dict."
        )


class ReservedAttributeName(_Portable, ValueError):
    """The name begins with an underscore: Django reserves these names."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"dirigible_session: {name!r} is not an attribute: names that begin with an underscore "
            "are reserved by Django. Choose another name."
        )


class SessionNotFound(_Portable, LookupError):
    """No live session has this id or handle."""


class SessionConflict(_Portable, RuntimeError):
    """A session could not be saved: at each try, another request had changed it."""

    def __init__(self, tries: int) -> None:
        super().__init__(
            f"dirigible_session: the session was not saved: at each of {tries} tries, another "
            "request had changed it meanwhile. Save less often, or find the code that writes to "
            "this session so often."
        )


class StoreUnavailable(_Portable, RuntimeError):
    """The server that stores the sessions can't be reached, or refuses commands.

    Stored sessions are not affected. The changes of this request are not stored.
    """
