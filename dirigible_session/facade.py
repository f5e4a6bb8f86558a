"""The session of the current request, in reach of any code.

Twelve functions with the names of Eclipse Dirigible's ``http/session`` and the semantics of the
Jakarta Servlet 6.1 ``HttpSession``; each but :func:`is_valid` has an async twin, whose name begins
with ``a``. Wherever :func:`is_valid` is False they raise :exc:`~.exceptions.NoCurrentRequest`.
Reading never creates a session.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps

from .current import context
from .current.attributes import checked_name
from .current.context import aopen_session, open_session, use_request
from .stored import IMMUTABLE, RESERVED, is_name

if TYPE_CHECKING:
    from django.http import HttpRequest

    from .current.visit import Visit

__all__ = [
    "achange_session_id",
    "aget_attribute",
    "aget_attribute_names",
    "aget_creation_time",
    "aget_id",
    "aget_last_accessed_time",
    "aget_max_inactive_interval",
    "ainvalidate",
    "ais_new",
    "aopen_session",
    "aremove_attribute",
    "aset_attribute",
    "aset_max_inactive_interval",
    "changeSessionId",
    "change_session_id",
    "getAttribute",
    "getAttributeNames",
    "getCreationTime",
    "getId",
    "getLastAccessedTime",
    "getMaxInactiveInterval",
    "get_attribute",
    "get_attribute_names",
    "get_creation_time",
    "get_id",
    "get_last_accessed_time",
    "get_max_inactive_interval",
    "invalidate",
    "isNew",
    "isValid",
    "is_new",
    "is_valid",
    "open_session",
    "removeAttribute",
    "remove_attribute",
    "setAttribute",
    "setMaxInactiveInterval",
    "set_attribute",
    "set_max_inactive_interval",
    "use_request",
]


def _loaded(function: str) -> Visit:
    visit = context.require(function).visit
    visit.load_data()
    return _still_current(visit, function)


async def _aloaded(function: str) -> Visit:
    visit = context.require(function).visit
    await visit.aload_data()
    return _still_current(visit, function)


def _still_current(visit: Visit, function: str) -> Visit:
    # The request may have ended while its session was loaded, or stored, for a task or a thread
    # that it does not wait for. What is done now would be lost.
    context.require(function).loaded = visit.session
    return visit


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)


def is_valid() -> bool:
    """Return whether a session is in reach here.

    True while this execution context handles a request that passed through the middleware, and
    inside :func:`use_request` and :func:`open_session`; False anywhere else. Never raises, never
    loads the session. Dirigible: ``isValid``.
    """
    return context.is_current()


def get_attribute(name: str, default: Any = None) -> Any:
    """Return the value of an attribute, or ``default``.

    Values come back with their types. What is changed in place in a list or dict that this
    returned is stored at the end of the request, as if it had been set. Loads the session, never
    creates it. Raises TypeError and ReservedAttributeName for what can't be a name. Servlet:
    ``HttpSession.getAttribute``.
    """
    current = context.require("get_attribute")
    session = current.holder.session
    if session is not current.loaded:
        _loaded("get_attribute")
    if type(name) is not str or name[:1] == RESERVED or not name.isascii():
        name = checked_name(name)
    # One call where session.get() would make three: this is the package's hot path.
    data = session._get_session()
    value = data.get(name, default)
    if type(value) not in IMMUTABLE and name in data:
        current.visit.attributes.watch(name, value)
    return value


async def aget_attribute(name: str, default: Any = None) -> Any:
    """Async twin of :func:`get_attribute`."""
    await _aloaded("aget_attribute")
    return get_attribute(name, default)


def get_attribute_names() -> list[str]:
    """Return the names of the attributes, in the order in which they were first set.

    Loads the session, never creates it. Servlet: ``HttpSession.getAttributeNames``.
    """
    return [name for name in _loaded("get_attribute_names").data if is_name(name)]


async def aget_attribute_names() -> list[str]:
    """Async twin of :func:`get_attribute_names`."""
    await _aloaded("aget_attribute_names")
    return get_attribute_names()


def set_attribute(name: str, value: Any) -> Any:
    """Add or replace an attribute and return its stored value.

    The value is stored as the session's serializer will give it back: a tuple becomes a list, an
    int key of a dict a str. None removes the attribute and returns None. Raises
    AttributeNotSerializable for a value that the serializer can't take, NaN and the infinities
    included, TypeError and ReservedAttributeName for what can't be a name; the session is then as
    it was. Servlet: ``HttpSession.setAttribute``.
    """
    visit = _loaded("set_attribute")
    stored = _set(visit, name, value)
    visit.notify()
    return stored


async def aset_attribute(name: str, value: Any) -> Any:
    """Async twin of :func:`set_attribute`."""
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


def remove_attribute(name: str) -> Any:
    """Remove an attribute and return its value, None where there is none.

    Removing what is not there does nothing: no write, no new session. Raises TypeError and
    ReservedAttributeName for what can't be a name. Servlet: ``HttpSession.removeAttribute``.
    """
    visit = _loaded("remove_attribute")
    value = _remove(visit, name)
    visit.notify()
    return value


async def aremove_attribute(name: str) -> Any:
    """Async twin of :func:`remove_attribute`."""
    visit = await _aloaded("aremove_attribute")
    value = _remove(visit, name)
    await visit.anotify()
    return value


def _remove(visit: Visit, name: str) -> Any:
    name = checked_name(name)
    return visit.attributes.remove(name)


def get_id() -> str:
    """Return the session's id: its key, which is what the client's cookie carries.

    Creates and stores the session where there is none yet. On signed cookies, whose cookie
    carries the data itself, it is a random id kept in the session. Servlet:
    ``HttpSession.getId``.
    """
    visit = _loaded("get_id")
    if visit.session_id is None:
        visit.create()
    return _id(visit, "get_id")


async def aget_id() -> str:
    """Async twin of :func:`get_id`."""
    visit = await _aloaded("aget_id")
    if visit.session_id is None:
        await visit.acreate()
    return _id(visit, "aget_id")


def _id(visit: Visit, function: str) -> str:
    return cast("str", _still_current(visit, function).session_id)


def get_creation_time() -> datetime:
    """Return when the session was created, an aware datetime in UTC.

    A session that is new in this request was created when the request arrived. Survives a change
    of the session's id. Loads the session, never creates it. Servlet:
    ``HttpSession.getCreationTime``.
    """
    return _utc(_loaded("get_creation_time").times.created)


async def aget_creation_time() -> datetime:
    """Async twin of :func:`get_creation_time`."""
    await _aloaded("aget_creation_time")
    return get_creation_time()


def get_last_accessed_time() -> datetime:
    """Return when the client's previous request in this session arrived, aware and in UTC.

    For a new session, its creation time. As exact as ``DIRIGIBLE_SESSION_TOUCH_INTERVAL``. Loads
    the session, never creates it. Servlet: ``HttpSession.getLastAccessedTime``.
    """
    return _utc(_loaded("get_last_accessed_time").times.accessed)


async def aget_last_accessed_time() -> datetime:
    """Async twin of :func:`get_last_accessed_time`."""
    await _aloaded("aget_last_accessed_time")
    return get_last_accessed_time()


def get_max_inactive_interval() -> int:
    """Return how many seconds the client may stay away before the session ends.

    What was set, else ``SESSION_COOKIE_AGE``. Zero or less: the session never times out. Loads
    the session, never creates it. Servlet: ``HttpSession.getMaxInactiveInterval``.
    """
    return _loaded("get_max_inactive_interval").max_inactive_interval


async def aget_max_inactive_interval() -> int:
    """Async twin of :func:`get_max_inactive_interval`."""
    await _aloaded("aget_max_inactive_interval")
    return get_max_inactive_interval()


def set_max_inactive_interval(interval: int) -> None:
    """End the session once its client has not come for ``interval`` seconds.

    Zero or less: never. Says nothing about the cookie's kind: one that goes with the browser stays
    one. An integral float is taken; anything else but an int raises TypeError, an interval too
    large for a date ValueError. Servlet: ``HttpSession.setMaxInactiveInterval``.
    """
    _loaded("set_max_inactive_interval").set_max_inactive_interval(interval)


async def aset_max_inactive_interval(interval: int) -> None:
    """Async twin of :func:`set_max_inactive_interval`."""
    await _aloaded("aset_max_inactive_interval")
    set_max_inactive_interval(interval)


def is_new() -> bool:
    """Return whether the client does not know the session yet.

    It sent no cookie, or one that names no live session, or the session was invalidated in this
    request. Loads the session, never creates it. Servlet: ``HttpSession.isNew``.
    """
    return not _loaded("is_new").known


async def ais_new() -> bool:
    """Async twin of :func:`is_new`."""
    await _aloaded("ais_new")
    return is_new()


def invalidate() -> None:
    """End the session: its stored data is gone at once, and ``request.user`` is nobody.

    The facade goes on working in the same request, for a new, empty session with another id.
    Servlet: ``HttpSession.invalidate``; the session after it: Dirigible.
    """
    visit = _loaded("invalidate")
    visit.end()
    _log_out(visit.request)


async def ainvalidate() -> None:
    """Async twin of :func:`invalidate`."""
    visit = await _aloaded("ainvalidate")
    await visit.aend()
    _log_out(visit.request)


def _log_out(request: HttpRequest | None) -> None:
    if request is None or not hasattr(request, "user"):
        return
    if not apps.is_installed("django.contrib.auth"):
        # Whoever the project's own way of logging in says it is.
        return
    # Imported here: the facade is imported before the app registry is ready.
    from django.contrib.auth.models import AnonymousUser

    async def auser() -> Any:
        # Who logs in again is told to the user only, on some releases of Django.
        return request.user

    request.user = AnonymousUser()
    request.auser = auser


def change_session_id() -> str:
    """Give the session another id and return it; attributes and creation time stay.

    Creates and stores the session where there is none yet. Done at once, as at a login: a client
    that then gets a 5xx, which carries no cookie, is left with the old id. Servlet:
    ``HttpServletRequest.changeSessionId``.
    """
    visit = _loaded("change_session_id")
    visit.change_id()
    visit.notify()
    return _id(visit, "change_session_id")


async def achange_session_id() -> str:
    """Async twin of :func:`change_session_id`."""
    visit = await _aloaded("achange_session_id")
    await visit.achange_id()
    await visit.anotify()
    return _id(visit, "achange_session_id")


# Dirigible's spellings: one function, two names.
isValid = is_valid
getAttribute = get_attribute
getAttributeNames = get_attribute_names
getCreationTime = get_creation_time
getId = get_id
getLastAccessedTime = get_last_accessed_time
getMaxInactiveInterval = get_max_inactive_interval
isNew = is_new
setAttribute = set_attribute
removeAttribute = remove_attribute
setMaxInactiveInterval = set_max_inactive_interval
changeSessionId = change_session_id
