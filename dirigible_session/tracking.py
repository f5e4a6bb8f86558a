"""One session while a request works on it: the doors that are watched, and what is remembered.

Anybody may load, store or end ``request.session``: the facade, a view, ``request.user``, a login.
So a tracker stands at the session's own doors, ``load``, ``save`` and ``flush``, and their async
twins. At ``load`` it holds the session to its limits, at ``save`` it adds the session's times, and
from all three it knows whether the client knows the session.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.contrib.sessions.backends.base import VALID_KEY_CHARS
from django.core.exceptions import SynchronousOnlyOperation
from django.utils.crypto import get_random_string

from . import handles, lifecycle, loading, signals, touching
from .attributes import Attributes, Snapshot
from .conf import conf
from .notices import Notices
from .timekeeping import Timekeeping
from .turns import Turns

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

Data = dict[str, Any]

_TRACKER = "_dirigible_tracker"
_DATA = "_session_cache"


def is_tracked(session: SessionBase) -> bool:
    """Return whether the session has a tracker."""
    return _TRACKER in vars(session)


def track(
    session: SessionBase, request: HttpRequest | None = None, arrived: float | None = None
) -> Tracker:
    """Return the session's tracker: the one it has, else one of a request that ``arrived``."""
    tracker: Tracker | None = vars(session).get(_TRACKER)
    return tracker or Tracker(session, arrived or time.time(), request)


class Tracker(Timekeeping):
    """What is known of one session while a request, or ``open_session``, works on it."""

    #: Whether the client knows the session: it sent the id of a live one.
    known = False
    #: Whether the request is over, but for what SessionMiddleware does after it.
    finished = False
    #: How many ``use_request`` it is in, if it was none but these that made it current.
    scopes = 0

    #: The session key, for when a load that comes too late takes it away.
    _key: str | None = None
    _attributes: Attributes | None = None
    _notices: Notices | None = None
    _announced = False
    #: What a touch left to be stored: nothing, unless the session changes after it.
    _touched: Snapshot | None = None
    _turns: Turns | None = None
    #: Whether the session was cleared by somebody who could not load it.
    _is_cleared_unread = False

    def __init__(
        self, session: SessionBase, arrived: float, request: HttpRequest | None = None
    ) -> None:
        """Stand at the doors of ``session``; ``arrived`` is in seconds since the epoch.

        Every request pays for this, so a session that the client did not name, of which there is
        nothing to load and to end, is only watched for being stored.
        """
        self.session = session
        self.arrived = arrived
        self.request = request
        self._first_key = session.session_key
        doors = vars(session)
        doors[_TRACKER] = self
        # One by one, since that is the fastest way.
        doors["save"], doors["asave"] = self.save, self.asave
        if self._first_key is not None:
            doors["load"], doors["aload"] = self.load, self.aload
            doors["clear"] = self.clear
            doors["flush"], doors["aflush"] = self.flush, self.aflush
            self._watch_expiry()
        if lifecycle.is_carried_by_cookie(session):
            doors["cycle_key"] = self.cycle_key
        if _DATA in doors:
            # Somebody was at the session before the watch was.
            self._get_to_know(doors[_DATA])

    @property
    def data(self) -> Data:
        """The session's data, loaded if need be."""
        data: Data = self.session._session  # type: ignore[attr-defined]
        return data

    def load_data(self) -> None:
        """Load the session's data if need be."""
        if self._is_cleared_unread:
            fresh = self._fresh()
            self._get_to_know_cleared(fresh, loading.load(fresh))
        # Not by session.keys(): an engine may load without reading every attribute.
        self.session._get_session()  # type: ignore[attr-defined]

    async def aload_data(self) -> None:
        """Load the session's data if need be."""
        if self._is_cleared_unread:
            fresh = self._fresh()
            self._get_to_know_cleared(fresh, await loading.aload(fresh))
        await self.session._aget_session()  # type: ignore[attr-defined]

    @property
    def attributes(self) -> Attributes:
        """The session's attributes, for changing them."""
        # Of two threads that come first, both must get the same.
        return self._attributes or vars(self).setdefault(
            "_attributes", Attributes(self.session, self.notices)
        )

    @property
    def notices(self) -> Notices:
        """What the receivers of the signals have yet to be told."""
        return self._notices or vars(self).setdefault(
            "_notices", Notices(self.session, self.request)
        )

    def notify(self) -> None:
        """Tell the receivers of the signals what there is to tell."""
        if self._notices is not None:
            self._notices.send(is_last=self.finished)

    async def anotify(self) -> None:
        """Tell the receivers of the signals what there is to tell."""
        if self._notices is not None:
            await self._notices.asend()

    # The doors.

    def load(self) -> Data:
        """Load the session's data; {} and no key if it is over or not there."""
        return self._admit(loading.load(self.session))

    async def aload(self) -> Data:
        """Load the session's data; {} and no key if it is over or not there."""
        return self._admit(await loading.aload(self.session))

    def save(self, must_create: bool = False) -> None:
        """Store the session, its times with it."""
        if self._is_stored(must_create):
            return
        session = self.session
        if not must_create:
            self.load_data()
        self._complete(must_create)
        type(session).save(session, must_create)
        if self.finished:
            self._announce()
            self.notify()

    async def asave(self, must_create: bool = False) -> None:
        """Store the session, its times with it."""
        if self._is_stored(must_create):
            return
        session = self.session
        if not must_create:
            await self.aload_data()
        self._complete(must_create)
        await type(session).asave(session, must_create)
        if self.finished:
            self._announce()
            await self.anotify()

    def clear(self) -> None:
        """Remove the attributes of the session.

        Its times stay and its limits bind, so one that nobody has loaded is loaded for them: now
        or, where nobody may wait for the store, by the next who may.
        """
        if _DATA not in vars(self.session):
            try:
                self.load_data()
            except SynchronousOnlyOperation:
                self._is_cleared_unread = True
        type(self.session).clear(self.session)

    def _fresh(self) -> SessionBase:
        return type(self.session)(self.session.session_key)

    def _get_to_know_cleared(self, fresh: SessionBase, data: Data) -> None:
        self._is_cleared_unread = False
        if fresh.session_key is None or self._is_over(fresh, data):
            self.session._session_key = None
        else:
            self.known = True
            self._times = lifecycle.read(fresh, data)

    def flush(self) -> None:
        """End the stored session; what comes after it is a new one."""
        vars(self.session).pop("clear", None)
        type(self.session).flush(self.session)
        self._begin_anew()

    async def aflush(self) -> None:
        """End the stored session; what comes after it is a new one."""
        vars(self.session).pop("clear", None)
        await type(self.session).aflush(self.session)
        self._begin_anew()

    def _is_stored(self, must_create: bool) -> bool:
        return self._touched is not None and not must_create and not self._touched.changed()

    def _complete(self, must_create: bool) -> None:
        """Add to the session what is stored with it."""
        if must_create:
            # A session that is created is not loaded, whatever its key.
            vars(self.session).setdefault(_DATA, {})
        self._key = self.session.session_key
        if self.session_id is None:
            self.draw_id()
        if self.is_visit or self._times is not None or not self.known:
            lifecycle.write(self.session, self.data, self._times_to_store())

    def _admit(self, data: Data) -> Data:
        doors = vars(self.session)
        if _DATA in doors:
            # Another task or thread of this request was faster: all must work on the same data,
            # and of the same session, although this one may have found it gone.
            self.session._session_key = self.session.session_key or self._key
            return doors[_DATA]  # type: ignore[no-any-return]
        return self._get_to_know({} if self.session.session_key is None else data)

    def _get_to_know(self, data: Data) -> Data:
        session, doors = self.session, vars(self.session)
        if session.session_key is not None:
            if self._is_over(session, data):
                session._session_key = None
                data = doors[_DATA] = {}
            else:
                self.known = True
                self._times = lifecycle.read(session, data)
        self._key = session.session_key
        return doors.setdefault(_DATA, data)  # type: ignore[no-any-return]

    def _is_over(self, session: SessionBase, data: Data) -> bool:
        if lifecycle.keeps_times(session):
            # Such an engine gives nothing that is over.
            return False
        times = lifecycle.read(session, data)
        if times is None:
            end = self._end_unused(session, data)
        else:
            end = lifecycle.end_of(
                data,
                times,
                cookie_age=session.get_session_cookie_age(),
                absolute_timeout=conf.absolute_timeout,
            )
        return end is not None and end <= self.arrived

    def _end_unused(self, session: SessionBase, data: Data) -> float | None:
        """Return when a session ends that no request has used since it was stored."""
        stored_at = loading.stored_at(session)
        if stored_at is None:
            return lifecycle.fixed_end(data)
        times = lifecycle.Times(stored_at, stored_at)
        return lifecycle.idle_end(data, times, cookie_age=session.get_session_cookie_age())

    def _begin_anew(self) -> None:
        self.known = self._announced = self._is_cleared_unread = False
        self._key = None
        self._times = None
        vars(self).pop("_attributes", None)
        vars(self).pop("_end", None)

    def _announce(self) -> None:
        is_stored = self.session.session_key not in (None, self._first_key)
        if is_stored and not self.known and not self._announced:
            self._announced = True
            self.notices.note(signals.session_created)

    # The session's id.

    @property
    def session_id(self) -> str | None:
        """What names the loaded session to its client, None if it has no name yet."""
        if lifecycle.is_carried_by_cookie(self.session):
            return self.data.get(lifecycle.ID_KEY)
        return self.session.session_key

    @property
    def handle(self) -> str | None:
        """The handle of the loaded session, None if it has no id yet."""
        return None if self.session_id is None else handles.handle(self.session_id)

    @property
    def turns(self) -> Turns:
        """Who may make, change or end the session now."""
        return self._turns or vars(self).setdefault("_turns", Turns())

    def cycle_key(self) -> None:
        """Give the stored session another id."""
        self.draw_id()
        type(self.session).cycle_key(self.session)

    def draw_id(self) -> None:
        """Give the session a new id if it keeps its id itself, as a signed cookie does."""
        if lifecycle.is_carried_by_cookie(self.session):
            self.session[lifecycle.ID_KEY] = get_random_string(32, VALID_KEY_CHARS)

    def ending(self) -> None:
        """Tell the receivers that the loaded session is about to end, once, if there is one."""
        mark = object()
        if vars(self).setdefault("_end", mark) is mark and not self.session.is_empty():
            self.notices.note(signals.session_invalidated, handle=self.handle)

    @property
    def is_ending(self) -> bool:
        """Whether somebody is about to end the loaded session."""
        return "_end" in vars(self)

    # The end of the request.

    def settle(self) -> None:
        """Keep what was changed in place; AttributeNotSerializable if it can't be stored."""
        if self._attributes is not None:
            self._attributes.settle()

    @property
    def is_idle(self) -> bool:
        """Whether the client named a session that nobody has used."""
        return not self.session.accessed and self.session.session_key is not None

    def finish(self, status_code: int | None) -> bool:
        """Settle what SessionMiddleware is about to store; return whether a touch is due.

        ``status_code`` is that of the response, None if there is none.
        """
        self.finished = True
        session = self.session
        if _DATA not in vars(session) and not session.modified:
            return False
        try:
            if status_code is None:
                return False
            if status_code >= 500:
                self._leave_failed()
                return False
            self.settle()
        finally:
            self._announce()
        return self.known and not session.modified and self._touch_due()

    def _leave_failed(self) -> None:
        # Nothing is saved, and no id of another session reaches the client. Where its own session
        # was ended, its cookie has to go: Django deletes it if the session is empty.
        if self._first_key is not None and not self.known:
            self._announce()
            self.session._session_key = None
            type(self.session).clear(self.session)

    def _touch_due(self) -> bool:
        return self._times is None or lifecycle.touch_due(
            self._times,
            interval=self.max_inactive_interval,
            throttle=conf.touch_interval,
            now=self.arrived,
        )

    def touch(self) -> None:
        """Record the last access, and have SessionMiddleware renew the cookie."""
        if lifecycle.is_carried_by_cookie(self.session):
            self.session.modified = True
        elif touching.touch(self.session, self._times_to_store()):
            self._leave_cookie()

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        if lifecycle.is_carried_by_cookie(self.session):
            self.session.modified = True
        elif await touching.atouch(self.session, self._times_to_store()):
            self._leave_cookie()

    def _leave_cookie(self) -> None:
        # SessionMiddleware sends the cookie of a session that it saves. This one is stored by now,
        # so there is nothing to save, unless somebody changes it on the way out.
        self._touched = Snapshot(self.session, self.data)
        self.session.modified = True
