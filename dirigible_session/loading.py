"""Loading a stored session without ever creating one.

Where what is stored is over or damaged, the file and signed_cookies engines make a new session
while they load, and with it a file or a cookie. Here they only forget the key.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.core.signing import b62_decode

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


def stored_at(session: SessionBase) -> float | None:
    """Return when a loaded session was stored, in seconds since the epoch; None if nobody can tell.

    Of the engines that don't end a session by its interval: the age of a file, or of a signature.
    """
    if lifecycle.is_carried_by_cookie(session):
        try:
            return float(b62_decode(str(session.session_key).rsplit(":", 2)[1]))
        except (IndexError, ValueError):
            # No signature of Django's: what was loaded is nothing.
            return 0.0
    if isinstance(session, FileStore):
        with suppress(FileNotFoundError):
            modified: datetime = session._last_modification()  # type: ignore[attr-defined]
            return modified.timestamp()
    return None


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
