"""Loading a stored session without ever creating one.

Where what is stored is over or damaged, the file and signed_cookies engines make a new session
while they load, and with it a file or a cookie. Here they only forget the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import lifecycle

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

Data = dict[str, Any]


def load(session: SessionBase) -> Data:
    """Return the stored data; {} and no session key where there is none to be had."""
    if lifecycle.keeps_times(session):
        # Our own engines never create while they load.
        return type(session).load(session)
    key = session.session_key
    data = _load_without_create(session)
    if session.session_key is None and lifecycle.is_carried_by_cookie(session):
        return _load_old_cookie(session, key)
    return data


async def aload(session: SessionBase) -> Data:
    """Return the stored data; {} and no session key where there is none to be had."""

    async def forget_key() -> None:
        session._session_key = None

    vars(session)["acreate"] = forget_key
    try:
        return await type(session).aload(session)
    finally:
        vars(session).pop("acreate", None)


def _load_without_create(session: SessionBase) -> Data:
    def forget_key() -> None:
        session._session_key = None

    vars(session)["create"] = forget_key
    try:
        return type(session).load(session)
    finally:
        vars(session).pop("create", None)


def _load_old_cookie(session: SessionBase, key: str | None) -> Data:
    # The engine takes no cookie older than SESSION_COOKIE_AGE, whatever the session's own
    # interval (Django ticket #19201). One that has times is held to its interval instead.
    session._session_key = key
    vars(session)["get_session_cookie_age"] = lambda: lifecycle.COOKIE_LIFETIME
    try:
        data = _load_without_create(session)
    finally:
        del vars(session)["get_session_cookie_age"]
    if lifecycle.read(session, data) is None:
        session._session_key = None
    return data
