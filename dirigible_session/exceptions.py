"""What can go wrong, each with a message that says what to do."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

MIDDLEWARE = "dirigible_session.middleware.DirigibleSessionMiddleware"
OWN_SESSION_MIDDLEWARE = "dirigible_session.middleware.SessionMiddleware"
SESSION_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"


class _Portable(Exception):
    """Comes through pickle and copy as it is: on its way out of a worker process, for one.

    Left to itself an exception is made again by calling its class with its ``args``, and those
    that make their message themselves don't take it.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), *self.args), vars(self)


def _again(kind: type[_Portable], *args: object) -> _Portable:
    return kind.__new__(kind, *args)


class NoCurrentRequest(_Portable, RuntimeError):
    """A facade function was called where no request is current."""

    def __init__(self, function: str) -> None:
        super().__init__(
            f"dirigible_session: {function}() needs a current request, and there is none here. "
            "It works while a request that passed through DirigibleSessionMiddleware is handled; "
            "elsewhere (a shell, a task queue, a thread of your own, a streaming body) wrap the "
            "call in `with use_request(request):` or `with open_session(session_id):`."
        )


class MiddlewareMissing(NoCurrentRequest, ImproperlyConfigured):
    """No request is current, and none ever will be: ``MIDDLEWARE`` lacks ours."""

    def __init__(self, function: str) -> None:
        RuntimeError.__init__(
            self,
            f"dirigible_session: {function}() needs a current request, and no middleware makes one "
            f"current. Add {MIDDLEWARE!r} to MIDDLEWARE, directly after {SESSION_MIDDLEWARE!r}, "
            "or wrap the call in `with use_request(request):`.",
        )


class AttributeNotSerializable(_Portable, TypeError):
    """The session's serializer cannot take this value."""

    def __init__(self, name: str, value: object, reason: object, *, place: str = "") -> None:
        self.name = name
        where = f" at {name}{place}" if place else ""
        super().__init__(
            f"dirigible_session: attribute {name!r} cannot be stored: a value of type "
            f"{type(value).__name__} does not pass the session's serializer{where} ({reason}). "
            "Store what JSON can hold: str, int, finite float, bool, list, dict."
        )


class ReservedAttributeName(_Portable, ValueError):
    """The name begins with an underscore, which Django keeps for itself."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"dirigible_session: {name!r} is not an attribute: names that begin with an underscore "
            "are reserved by Django. Choose another name."
        )


class SessionNotFound(_Portable, LookupError):
    """The id names no live session."""


class SessionConflict(_Portable, RuntimeError):
    """A session could not be saved: each time it was tried, another request was faster."""

    def __init__(self, tries: int) -> None:
        super().__init__(
            f"dirigible_session: the session was not saved: other requests changed it {tries} "
            "times while this one tried to lay its changes over theirs. Save less often, or find "
            "out what writes to this session without end."
        )


class StoreUnavailable(_Portable, RuntimeError):
    """The server that keeps the sessions can't be reached, or refuses to work.

    What is stored there is neither lost nor ended by that; what this request changed is not stored.
    """
