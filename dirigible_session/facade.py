"""The session of the current request, without passing the request around.

Twelve functions with the names of Eclipse Dirigible's ``http/session`` and the semantics of the
Jakarta Servlet 6.1 ``HttpSession``, and some more. Each of them except :func:`is_valid` has an
async twin, whose name begins with ``a``, and raises :exc:`~.exceptions.NoCurrentRequest` if
:func:`is_valid` is False. :func:`use_request` and :func:`open_session` make a session current, and
:func:`passive` marks a view. Reading never creates a session.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import SynchronousOnlyOperation

from .current import context, ids
from .current.attributes import checked_name
from .current.context import aopen_session, open_session, use_request
from .stored import IMMUTABLE, RESERVED, is_name

if TYPE_CHECKING:
    from .current.visit import Visit

__all__ = [
    "achange_session_id",
    "aget_attribute",
    "aget_attribute_names",
    "aget_authentication_time",
    "aget_creation_time",
    "aget_handle",
    "aget_id",
    "aget_last_accessed_time",
    "aget_max_inactive_interval",
    "aget_time_left",
    "ainvalidate",
    "ais_new",
    "aopen_session",
    "aremove_attribute",
    "aset_attribute",
    "aset_default",
    "aset_max_inactive_interval",
    "changeSessionId",
    "change_session_id",
    "getAttribute",
    "getAttributeNames",
    "getAuthenticationTime",
    "getCreationTime",
    "getHandle",
    "getId",
    "getLastAccessedTime",
    "getMaxInactiveInterval",
    "getTimeLeft",
    "get_attribute",
    "get_attribute_names",
    "get_authentication_time",
    "get_creation_time",
    "get_handle",
    "get_id",
    "get_last_accessed_time",
    "get_max_inactive_interval",
    "get_time_left",
    "invalidate",
    "isNew",
    "isValid",
    "is_new",
    "is_valid",
    "open_session",
    "passive",
    "removeAttribute",
    "remove_attribute",
    "setAttribute",
    "setDefault",
    "setMaxInactiveInterval",
    "set_attribute",
    "set_default",
    "set_max_inactive_interval",
    "use_request",
]

_MISSING: Any = object()

#: The character after the underscore. Names below it may be reserved.
_AFTER_RESERVED = chr(ord(RESERVED) + 1)

_current = context.current.get

View = TypeVar("View", bound=Callable[..., Any])


def _loaded(function: str) -> Visit:
    stay = context.require(function)
    if stay.holder.session is stay.loaded:
        return cast("Visit", stay.holder.session._dirigible_visit)
    with _async_twin_named(function):
        stay.visit.load_data()
    return _still_current(stay.visit, function)


async def _aloaded(function: str) -> Visit:
    visit = context.require(function).visit
    await visit.aload_data()
    return _still_current(visit, function)


def _still_current(visit: Visit, function: str) -> Visit:
    # The request may have ended while its session was loaded or stored, in a task or thread that
    # it does not wait for. A change would be lost.
    context.require(function).loaded = visit.session
    return visit


@contextmanager
def _async_twin_named(function: str) -> Iterator[None]:
    """Add the name of the async twin to Django's SynchronousOnlyOperation."""
    try:
        yield
    except SynchronousOnlyOperation as error:
        raise SynchronousOnlyOperation(
            f"dirigible_session: {function}() uses the session store, so it can't be called in an "
            f"event loop. Write `await session.a{function}(...)`, or call it through "
            "sync_to_async()."
        ) from error


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)


def is_valid() -> bool:
    """Return whether there is a current session here.

    True while this execution context handles a request that passed through the middleware, and
    inside :func:`use_request` and :func:`open_session`. Otherwise False. Never raises, never loads
    the session. Dirigible: ``isValid``.
    """
    return context.is_current()


def get_attribute(name: str, default: Any = None) -> Any:
    """Return the value of an attribute, or ``default``.

    Values keep their types. If a list or dict that this returned is changed in place, the change is
    saved at the end of the request, as if it had been set. ``default`` is not saved, see
    :func:`set_default`. Loads the session, never creates it. Raises TypeError or
    ReservedAttributeName for an invalid name. Servlet: ``HttpSession.getAttribute``.
    """
    # The hot path of the package, so it reads the session's data directly.
    stay = _current()
    if stay is None or stay.holder.session is not stay.loaded:
        stay = context.require("get_attribute")
        _loaded("get_attribute")
    if type(name) is not str:
        checked_name(name)
    session: Any = stay.loaded
    value = session._session_cache.get(name, _MISSING)
    if value is _MISSING or name < _AFTER_RESERVED:
        # Either there is no such attribute, or the name may be invalid.
        name = checked_name(name)
        value = session._session_cache.get(name, _MISSING)
        if value is _MISSING:
            return default
    if type(value) not in IMMUTABLE:
        session._dirigible_visit.attributes.watch(name, value)
    return value


async def aget_attribute(name: str, default: Any = None) -> Any:
    """Return the value of an attribute, or ``default``.

    If a list or dict that this returned is changed in place, the change is saved at the end of the
    request. Loads the session, never creates it. Async twin of :func:`get_attribute`.
    """
    await _aloaded("aget_attribute")
    return get_attribute(name, default)


def get_attribute_names() -> list[str]:
    """Return the names of the attributes, in the order in which they were first set.

    Loads the session, never creates it. Servlet: ``HttpSession.getAttributeNames``.
    """
    return [name for name in _loaded("get_attribute_names").data if is_name(name)]


async def aget_attribute_names() -> list[str]:
    """Return the names of the attributes, in the order in which they were first set.

    Async twin of :func:`get_attribute_names`.
    """
    await _aloaded("aget_attribute_names")
    return get_attribute_names()


def set_attribute(name: str, value: Any) -> Any:
    """Add or replace an attribute and return its stored value.

    That is ``value`` itself, whose later changes in place are saved too, unless the session's
    serializer changes it: a tuple becomes a list, an int key of a dict a str. None removes the
    attribute and returns None. Raises AttributeNotSerializable for a value that the serializer
    refuses, including NaN and the infinities, and TypeError or ReservedAttributeName for an
    invalid name. The session is unchanged then. Servlet: ``HttpSession.setAttribute``.
    """
    visit = _loaded("set_attribute")
    stored = _set(visit, name, value)
    visit.notify()
    return stored


async def aset_attribute(name: str, value: Any) -> Any:
    """Add or replace an attribute and return its stored value; None removes it.

    Async twin of :func:`set_attribute`.
    """
    visit = await _aloaded("aset_attribute")
    stored = _set(visit, name, value)
    await visit.anotify()
    return stored


def _set(visit: Visit, name: str, value: Any) -> Any:
    name = checked_name(name)
    if value is None:
        visit.attributes.remove(name)
        return None
    return visit.attributes.put(name, value)


def set_default(name: str, default: Any) -> Any:
    """Return an attribute's value or, if it is not set, store ``default`` and return it.

    Later changes in place are saved at the end of the request. ``default`` is stored as by
    :func:`set_attribute`, with the same exceptions. Python: ``dict.setdefault``.
    """
    visit = _loaded("set_default")
    value = _set_default(visit, name, default)
    visit.notify()
    return value


async def aset_default(name: str, default: Any) -> Any:
    """Return an attribute's value or, if it is not set, store ``default`` and return it.

    Async twin of :func:`set_default`.
    """
    visit = await _aloaded("aset_default")
    value = _set_default(visit, name, default)
    await visit.anotify()
    return value


def _set_default(visit: Visit, name: str, default: Any) -> Any:
    name = checked_name(name)
    if name not in visit.data:
        return _set(visit, name, default)
    value = visit.data[name]
    visit.attributes.watch(name, value)
    return value


def remove_attribute(name: str) -> Any:
    """Remove an attribute and return its value; None if it is not set.

    Removing an attribute that is not set does nothing: no write, no new session. Raises TypeError
    or ReservedAttributeName for an invalid name. Servlet: ``HttpSession.removeAttribute``.
    """
    visit = _loaded("remove_attribute")
    value = visit.attributes.remove(checked_name(name))
    visit.notify()
    return value


async def aremove_attribute(name: str) -> Any:
    """Remove an attribute and return its value; None if it is not set.

    Async twin of :func:`remove_attribute`.
    """
    visit = await _aloaded("aremove_attribute")
    value = visit.attributes.remove(checked_name(name))
    await visit.anotify()
    return value


def get_id() -> str:
    """Return the session's id: its key, which is the value of the client's cookie.

    Creates and stores the session if there is none yet. With signed cookies, where the cookie has
    the data itself, the id is a random one in the session's data. Servlet: ``HttpSession.getId``.
    """
    return cast("str", _created("get_id").session_id)


async def aget_id() -> str:
    """Return the session's id: its key, which is the value of the client's cookie.

    Creates and stores the session if there is none yet. Async twin of :func:`get_id`.
    """
    return cast("str", (await _acreated("aget_id")).session_id)


def get_handle() -> str:
    """Return the session's full handle: 40 hex digits that identify it to tools and tasks.

    It is a digest of the session's id, and useless as a cookie. :func:`open_session` accepts it on
    the engines of this package. Creates and stores the session if there is none yet.
    """
    return cast("str", _created("get_handle").digest)


async def aget_handle() -> str:
    """Return the session's full handle: 40 hex digits that identify it to tools and tasks.

    Creates and stores the session if there is none yet. Async twin of :func:`get_handle`.
    """
    return cast("str", (await _acreated("aget_handle")).digest)


def _created(function: str) -> Visit:
    visit = _loaded(function)
    if not visit.has_id:
        with _async_twin_named(function):
            ids.create(visit)
    return _still_current(visit, function)


async def _acreated(function: str) -> Visit:
    visit = await _aloaded(function)
    if not visit.has_id:
        await ids.acreate(visit)
    return _still_current(visit, function)


def get_creation_time() -> datetime:
    """Return when the session was created, an aware datetime in UTC.

    A session that is new in this request was created when the request arrived. A change of the
    session's id does not change it. Loads the session, never creates it. Servlet:
    ``HttpSession.getCreationTime``.
    """
    return _utc(_loaded("get_creation_time").times_for_facade().created)


async def aget_creation_time() -> datetime:
    """Return when the session was created, an aware datetime in UTC.

    Async twin of :func:`get_creation_time`.
    """
    await _aloaded("aget_creation_time")
    return get_creation_time()


def get_last_accessed_time() -> datetime:
    """Return when the client's previous request in this session arrived, aware and in UTC.

    For a new session, its creation time. The stored time may lag behind by
    ``DIRIGIBLE_SESSION_TOUCH_INTERVAL``. Loads the session, never creates it. Servlet:
    ``HttpSession.getLastAccessedTime``.
    """
    return _utc(_loaded("get_last_accessed_time").times_for_facade().accessed)


async def aget_last_accessed_time() -> datetime:
    """Return when the client's previous request in this session arrived, aware and in UTC.

    Async twin of :func:`get_last_accessed_time`.
    """
    await _aloaded("aget_last_accessed_time")
    return get_last_accessed_time()


def get_authentication_time() -> datetime | None:
    """Return when the user of this session last logged in, an aware datetime in UTC.

    None without a user, or if the login was before the package was installed. A repeated login of
    the same user counts. Loads the session, never creates it. NIST SP 800-63B-4, 5.2.
    """
    authenticated = _loaded("get_authentication_time").authenticated
    return None if authenticated is None else _utc(authenticated)


async def aget_authentication_time() -> datetime | None:
    """Return when the user of this session last logged in, aware and in UTC; None if unknown.

    Async twin of :func:`get_authentication_time`.
    """
    await _aloaded("aget_authentication_time")
    return get_authentication_time()


def get_max_inactive_interval() -> int:
    """Return how many seconds the client may be idle before the session ends.

    The interval that was set, otherwise ``SESSION_COOKIE_AGE``. Zero or less: the session never
    times out. Loads the session, never creates it. Servlet: ``HttpSession.getMaxInactiveInterval``.
    """
    return _loaded("get_max_inactive_interval").max_inactive_interval


async def aget_max_inactive_interval() -> int:
    """Return how many seconds the client may be idle before the session ends.

    Async twin of :func:`get_max_inactive_interval`.
    """
    await _aloaded("aget_max_inactive_interval")
    return get_max_inactive_interval()


def set_max_inactive_interval(interval: int) -> None:
    """End the session when its client has been idle for ``interval`` seconds.

    Zero or less: never. A cookie that ends with the browser stays such a cookie. A new session is
    stored at the end of the request. Raises TypeError unless ``interval`` is an int or an integral
    float, and ValueError if it is too large for a date. Servlet:
    ``HttpSession.setMaxInactiveInterval``.
    """
    _loaded("set_max_inactive_interval").set_max_inactive_interval(interval)


async def aset_max_inactive_interval(interval: int) -> None:
    """End the session when its client has been idle for ``interval`` seconds; zero or less: never.

    Async twin of :func:`set_max_inactive_interval`.
    """
    await _aloaded("aset_max_inactive_interval")
    set_max_inactive_interval(interval)


def get_time_left() -> int | None:
    """Return the seconds until the session ends if its client stays away; None: never.

    By the max inactive interval or the absolute timeout, whichever comes first. The call counts as
    use of the session; in a passive request it extends nothing. Loads the session, never
    creates it.
    """
    return _loaded("get_time_left").time_left


async def aget_time_left() -> int | None:
    """Return the seconds until the session ends if its client stays away; None: never.

    Async twin of :func:`get_time_left`.
    """
    await _aloaded("aget_time_left")
    return get_time_left()


def is_new() -> bool:
    """Return whether the client does not know the session yet.

    It sent no cookie, or one that names no live session, or the session was invalidated in this
    request. Loads the session, never creates it. Servlet: ``HttpSession.isNew``.
    """
    return not _loaded("is_new").client_knows_it


async def ais_new() -> bool:
    """Return whether the client does not know the session yet.

    Async twin of :func:`is_new`.
    """
    await _aloaded("ais_new")
    return is_new()


def invalidate() -> None:
    """End the session: its stored data is deleted at once, and ``request.user`` is anonymous.

    In the same request, the facade continues with a new, empty session with another id. Servlet:
    ``HttpSession.invalidate``; the new session: Dirigible.
    """
    visit = _loaded("invalidate")
    with _async_twin_named("invalidate"):
        ids.end(visit)
    visit.notify()


async def ainvalidate() -> None:
    """End the session: its stored data is deleted at once, and ``request.user`` is anonymous.

    Async twin of :func:`invalidate`.
    """
    visit = await _aloaded("ainvalidate")
    await ids.aend(visit)
    await visit.anotify()


def change_session_id() -> str:
    """Give the session another id and return it; attributes and creation time stay.

    Creates and stores the session if there is none yet. The store is changed at once, as at a
    login: a client that then gets a 5xx, which has no cookie, keeps the old id. A session that
    was ended meanwhile is not brought back. Servlet: ``HttpServletRequest.changeSessionId``.
    """
    visit = _loaded("change_session_id")
    with _async_twin_named("change_session_id"):
        ids.change(visit)
    visit.notify()
    return cast("str", _still_current(visit, "change_session_id").session_id)


async def achange_session_id() -> str:
    """Give the session another id and return it; attributes and creation time stay.

    Async twin of :func:`change_session_id`.
    """
    visit = await _aloaded("achange_session_id")
    await ids.achange(visit)
    await visit.anotify()
    return cast("str", _still_current(visit, "achange_session_id").session_id)


def passive(view: View) -> View:
    """Mark a view, sync or async, whose requests are not accesses of the client.

    Such requests can read and change the session, but renew neither its last access nor its cookie.
    This is for requests that a page makes by itself: polling, a count-down, a heartbeat. For views
    of other packages, the setting ``DIRIGIBLE_SESSION_PASSIVE`` lists view names.
    """
    if iscoroutinefunction(view):

        @wraps(view)
        async def apassive_view(*args: Any, **kwargs: Any) -> Any:
            context.mark_passive()
            return await view(*args, **kwargs)

        return cast("View", apassive_view)

    @wraps(view)
    def passive_view(*args: Any, **kwargs: Any) -> Any:
        context.mark_passive()
        return view(*args, **kwargs)

    return cast("View", passive_view)


# Dirigible's spellings: one function, two names.
isValid = is_valid
getAttribute = get_attribute
getAttributeNames = get_attribute_names
getAuthenticationTime = get_authentication_time
getCreationTime = get_creation_time
getHandle = get_handle
getId = get_id
getLastAccessedTime = get_last_accessed_time
getMaxInactiveInterval = get_max_inactive_interval
getTimeLeft = get_time_left
isNew = is_new
setAttribute = set_attribute
setDefault = set_default
removeAttribute = remove_attribute
setMaxInactiveInterval = set_max_inactive_interval
changeSessionId = change_session_id


class _Facade(ModuleType):
    """A module with helpful errors for code that uses it like ``request.session``.

    A value that is set on a module would be shared by all visitors.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        # Tests replace functions, and the import system sets names of its own.
        if name in __all__ or name.startswith("__"):
            super().__setattr__(name, value)
            return
        raise AttributeError(
            f"dirigible_session: `session.{name} = ...` would be shared by all visitors. Write "
            f"`session.set_attribute({name!r}, ...)`; `modified` need not be set."
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        hint = _HINTS.get(name, f"get_attribute({name!r})")
        raise AttributeError(
            f"dirigible_session: the facade has no {name!r}. Write `session.{hint}`; "
            "request.session is Django's own session."
        )

    def __getitem__(self, name: object) -> Any:
        raise AttributeError(
            f"dirigible_session: write `session.get_attribute({name!r})` for `session[{name!r}]`."
        )

    def __setitem__(self, name: object, value: Any) -> None:
        raise AttributeError(
            f"dirigible_session: write `session.set_attribute({name!r}, ...)` for "
            f"`session[{name!r}] = ...`."
        )

    def __delitem__(self, name: object) -> None:
        raise AttributeError(
            f"dirigible_session: write `session.remove_attribute({name!r})` for "
            f"`del session[{name!r}]`."
        )

    def __contains__(self, name: object) -> bool:
        raise AttributeError(
            f"dirigible_session: write `{name!r} in session.get_attribute_names()`."
        )

    def __dir__(self) -> list[str]:
        return list(__all__)


#: The functions of the facade, by the methods of ``request.session``.
_HINTS = {
    "get": "get_attribute(name, default)",
    "setdefault": "set_default(name, default)",
    "set_default": "set_default(name, default)",
    "pop": "remove_attribute(name)",
    "keys": "get_attribute_names()",
    "items": "get_attribute_names()",
    "flush": "invalidate()",
    "clear": "invalidate()",
    "cycle_key": "change_session_id()",
    "session_key": "get_id()",
    "set_expiry": "set_max_inactive_interval(interval)",
    "get_expiry_age": "get_time_left()",
}

sys.modules[__name__].__class__ = _Facade
