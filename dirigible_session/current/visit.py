"""What is known of one session while a request, or ``open_session``, works on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from dirigible_session import handles, lifecycle, signals
from dirigible_session.conf import conf
from dirigible_session.exceptions import AttributeNotSerializable
from dirigible_session.lifecycle import BROWSER_CLOSE_KEY, EXPIRY_KEY, TIMES_KEY, Times
from dirigible_session.signals import Reason
from dirigible_session.stored import user_id_of

from .attributes import Attributes
from .lock import RequestLock

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

Data = dict[str, Any]

#: Where Django's ``SessionBase`` keeps the data once it is loaded.
LOADED = "_session_cache"

#: What ``modified`` is after a touch: SessionMiddleware sends the cookie of a session that is
#: modified, and there is nothing to save unless somebody modifies it on the way out.
TOUCHED: Any = "touched"


class Stay(Protocol):
    """What a visit is told of the request that it belongs to."""

    @property
    def arrived(self) -> float:
        """When the request arrived, in seconds since the epoch."""

    @property
    def request(self) -> HttpRequest | None:
        """The request; None where there is none."""

    @property
    def closed(self) -> bool:
        """Whether the request is over, but for what SessionMiddleware does after it."""


#: The visit whose session the engine loads in this thread or task.
_loading: ContextVar[Visit | None] = ContextVar("dirigible_session_loading", default=None)


class State(Enum):
    """What a visit knows of its session, see :class:`Visit`."""

    UNREAD = "unread"
    CLEARED = "cleared"
    NEW = "new"
    KNOWN = "known"


@dataclass
class Ended:
    """A stored session that was found to be over when it was loaded."""

    reason: Reason
    #: The session as it was stored, detached from the request.
    session: SessionBase
    data: Mapping[str, Any]


class Visit:
    r"""What is known of a session during one request.

    Every session of a request has one; ``session.py`` asks it what to do. It has four states::

        UNREAD --- load: a live session -------------------> KNOWN
           |  \--- load: none, or over --------------------> NEW
           | clear() before load                              ^
           v                                                  |
        CLEARED -- its times are loaded --> KNOWN or NEW      |
                                              |  flush()      |
                                              +---------------+

    A session is *known* if the client named a live one, and *new* else. What the engines do
    differently is in the subclasses, see ``engines.py``; this one is for engines whose sessions
    have their times in their data, and can only be saved whole.
    """

    state = State.UNREAD
    #: Whether this counts as an access by the session's client, unless the request is passive.
    counts = True
    #: Whether the view said that it is passive.
    is_marked_passive = False
    #: Whether the request is over, but for what SessionMiddleware does after it.
    finished = False
    #: How many ``use_request`` it is in, if it was none but these that made it current.
    scopes = 0
    #: The session that the client named, if it was over.
    ended: Ended | None = None
    #: Whether a user has logged in since the session was last saved.
    has_login = False
    #: Why the session ends, if it does.
    end_reason = Reason.FLUSHED
    #: How many sessions have ended in this request.
    generation = 0
    #: What to call once the session is saved.
    once_saved: Callable[[], None] | None = None
    #: Whether the store ends a session by its interval, so that one that it gives is not idle.
    store_ends_idle = True

    #: The key of what was loaded, and of what is being loaded.
    _key: str | None = None
    _loading_key: str | None = None
    #: The times that were loaded or set; None if there were none.
    _times: Times | None = None
    _are_times_told = False
    #: When a session that has no times was stored, as far as it is known.
    _stored_at: float | None = None
    _is_announced = False
    _last_handle: str | None = None
    _attributes: Attributes | None = None
    _outbox: signals.Outbox | None = None
    _lock: RequestLock | None = None

    def __init__(self, session: Any, engine: type[SessionBase], stay: Stay) -> None:
        self.session = session
        #: The class of the engine's sessions.
        self.engine = engine
        #: In seconds since the epoch.
        self.arrived = stay.arrived
        self.request = stay.request
        self.finished = stay.closed
        self._sent_key = session.session_key

    # Of two threads that come first, both get the same.

    @property
    def outbox(self) -> signals.Outbox:
        """The signals that are to be sent."""
        return self._outbox or vars(self).setdefault(
            "_outbox", signals.Outbox(self.session, self.request, sender=self.engine)
        )

    @property
    def attributes(self) -> Attributes:
        """The session's attributes, for changing them."""
        return self._attributes or vars(self).setdefault(
            "_attributes", Attributes(self.session, self.outbox)
        )

    @property
    def lock(self) -> RequestLock:
        """What whoever creates the session, ends it or changes its id has to hold."""
        return self._lock or vars(self).setdefault("_lock", RequestLock())

    def notify(self) -> None:
        """Send the signals that were noted."""
        if self._outbox is not None:
            self._outbox.send(is_last=self.finished)

    async def anotify(self) -> None:
        """Async twin of :meth:`notify`."""
        if self._outbox is not None:
            await self._outbox.asend()

    @property
    def client_knows_it(self) -> bool:
        """Whether the client named this session, and it is live."""
        return self.state is State.KNOWN

    @property
    def is_passive(self) -> bool:
        """Whether the view, or the project's settings, say that this is no access of the client."""
        if self.is_marked_passive or not conf.passive:
            return self.is_marked_passive
        match = getattr(self.request, "resolver_match", None)
        return match is not None and match.view_name in conf.passive

    @property
    def is_visit(self) -> bool:
        """Whether this counts as an access by the session's client."""
        return self.counts and not self.is_passive

    # The session is loaded.

    @property
    def data(self) -> Data:
        """The session's data, loaded if need be."""
        data: Data = self.session._get_session()
        return data

    def load_data(self) -> None:
        """Load the session's data, or its times if it was cleared before they were loaded."""
        if self.state is State.CLEARED:
            fresh = self.fresh()
            fresh.load_data()
            self._learn_times(fresh)
        self.session._get_session()

    async def aload_data(self) -> None:
        """Async twin of :meth:`load_data`."""
        if self.state is State.CLEARED:
            fresh = self.fresh()
            await fresh.aload_data()
            self._learn_times(fresh)
        await self.session._aget_session()

    def fresh(self) -> Visit:
        """Return a visit to the session as it is stored now, of no request and not loaded."""
        session = self.session.detached()
        vars(session).pop(LOADED, None)
        session.accessed = session.modified = False
        session.__class__ = type(self.session)
        visit = type(self)(session, self.engine, self)
        session._dirigible_visit = visit
        visit.request = None
        return visit

    @property
    def closed(self) -> bool:
        """See :class:`Stay`."""
        return self.finished

    def _learn_times(self, fresh: Visit) -> None:
        self.state, self._times = fresh.state, fresh._times
        if not self.client_knows_it:
            self.session._session_key = None

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Load, and create nothing."""
        self._loading_key = self.session.session_key
        token = _loading.set(self)
        try:
            yield
        finally:
            _loading.reset(token)

    @property
    def is_loading(self) -> bool:
        """Whether it is here that the engine loads, and in no other thread or task."""
        return _loading.get() is self

    def may_create(self) -> bool:
        """Return whether to create a session: some engines do where they fail to load one."""
        if self.is_loading:
            self.session._session_key = None
        return not self.is_loading

    def admit(self, data: Data) -> Data:
        """Return the data that was loaded; {}, and no key, if it is over or not there."""
        session = self.session
        if LOADED in vars(session):
            # Another task or thread of this request was faster: all must work on the same data,
            # and of the same session, although this one may have found it gone.
            session._session_key = session.session_key or self._key
            loaded: Data = vars(session)[LOADED]
            return loaded
        admitted: Data = vars(session).setdefault(LOADED, self.judge(data))
        return admitted

    def judge(self, data: Data) -> Data:
        """Hold what was loaded to its limits; the data, or {} and no key if it is over."""
        self._key = self.session.session_key
        reason = self.limit_passed(data) if self.is_found else None
        if reason is not None:
            self.note_over(reason, data)
        if not self.is_found or reason is not None:
            self.session._session_key = self._key = None
            self.state = State.NEW
            return {}
        self.state, self._times = State.KNOWN, self.read_times(data)
        if self._times is None:
            # Now, since it may be reckoned from an expiry that this request changes.
            self._stored_at = self.stored_at(data)
        return data

    def limit_passed(self, data: Data) -> Reason | None:
        """Return by which limit the loaded session is over; None if it is live."""
        times = self.read_times(data)
        timeout = None
        if times is not None:
            timeout = lifecycle.absolute_end(times, conf.absolute_timeout)
        if timeout is not None and timeout <= self.arrived:
            return Reason.TIMEOUT
        idle = self._idle_end(data, times)
        return Reason.IDLE if idle is not None and idle <= self.arrived else None

    def _idle_end(self, data: Data, times: Times | None) -> float | None:
        """Return when the session ends unless its client comes back; None: not by an interval."""
        cookie_age = self.session.get_session_cookie_age()
        stored_at = self.stored_at(data)
        if times is None:
            if stored_at is None:
                return lifecycle.fixed_end(data)
            times = Times(stored_at, stored_at)
        elif data[TIMES_KEY].get("age") == cookie_age:
            # A process without this package may have renewed it since, and knows nothing of its
            # times. Where the interval was another then, the times are all there is to go by.
            if self.store_ends_idle:
                return lifecycle.fixed_end(data)
            stored = data[TIMES_KEY].get("stored")
            if stored_at is not None and lifecycle.is_seconds(stored) and stored_at > stored + 2:
                times = replace(times, accessed=max(times.accessed, stored_at))
        return lifecycle.idle_end(data, times, cookie_age=cookie_age)

    def note_over(self, reason: Reason, data: Data) -> None:
        """Remember a session that is over, to delete it and to tell the receivers."""
        session = self.session.detached()
        vars(session)[LOADED] = data
        # An engine that finds a session over forgets its key.
        session._session_key = session.session_key or self._loading_key
        self.ended = Ended(reason, session, data)

    def drop_ended(self) -> None:
        """Delete the session that was found to be over, and note that it ended."""
        ended, self.ended = self.ended, None
        if ended is not None and self.request is not None and self.delete_ended(ended):
            self.note_end(ended.session, ended.reason)

    async def adrop_ended(self) -> None:
        """Async twin of :meth:`drop_ended`."""
        ended, self.ended = self.ended, None
        if ended is not None and self.request is not None and await self.adelete_ended(ended):
            self.note_end(ended.session, ended.reason)

    def cleared(self) -> None:
        """Note that nobody knows the times of the session yet, if it was not loaded."""
        if LOADED not in vars(self.session) and self.session.session_key is not None:
            self.state = State.CLEARED

    # The session is saved.

    def complete(self, must_create: bool) -> None:
        """Add what is saved with the session's data."""
        data = self.session._get_session(no_load=must_create)
        self._key = self.session.session_key
        if self.state is State.UNREAD:
            self.state = State.NEW
        if not self.has_id:
            self.draw_id()
        is_request = self.is_visit or self.request is not None
        if is_request or self._times is not None or not self.client_knows_it:
            self.write_times(data, self.times_to_store())

    def times_to_store(self) -> Times:
        """Return the session's times as of this visit."""
        times = self.times
        if not self.is_visit:
            return times
        accessed = self.arrived
        now = time.time()
        if 0 < self.max_inactive_interval < (now - accessed) * lifecycle.LAG:
            # The session does not time out under a request that came in time.
            accessed = now
        return replace(times, accessed=max(times.accessed, accessed))

    def saved(self) -> bool:
        """Note that the session was stored; return whether a user's login was stored with it."""
        is_last = self.finished or self.once_saved is not None
        if self.once_saved is not None:
            self.once_saved()
        if self.finished:
            self.announce()
        has_login, self.has_login = self.has_login, self.has_login and not is_last
        return has_login and is_last

    @property
    def may_be_limited(self) -> bool:
        """Whether a later login may end the session before the one of this request is answered."""
        return self.has_login and conf.max_per_user is not None

    def announce(self) -> None:
        """Note that the session is new and stored, once."""
        is_stored = self.session.session_key not in (None, self._sent_key)
        if is_stored and self.state is State.NEW and not self._is_announced:
            self._is_announced = True
            self.outbox.note(signals.session_created)

    @property
    def keeps_end(self) -> bool:
        """Whether a save leaves the end of the session where it was."""
        return self.client_knows_it and not self.is_visit

    @property
    def seconds_left(self) -> float | None:
        """The seconds until the session ends by its interval; None: never, or at a fixed date."""
        if EXPIRY_KEY in self.data and lifecycle.fixed_end(self.data) is not None:
            return None
        cookie_age = self.session.get_session_cookie_age()
        end = lifecycle.idle_end(self.data, self.times, cookie_age=cookie_age)
        return None if end is None else max(1, end - time.time())

    # The session ends, or gets another id.

    def ending(self) -> SessionBase | None:
        """Return the session that is about to end, detached, its data loaded; None if not stored.

        A new one that was stored in this request is announced before it ends.
        """
        if self.session.session_key is None or self.state not in (State.NEW, State.KNOWN):
            return None
        self.announce()
        detached: SessionBase = self.session.detached()
        return detached

    @property
    def tells_ends(self) -> bool:
        """Whether anybody is to be told of the session's end."""
        return bool(signals.session_invalidated.receivers)

    def flushed(self, ending: SessionBase | None) -> None:
        """Note that the session has ended, if it was stored; what comes after it is a new one."""
        if ending is not None and self.was_deleted():
            self.note_end(ending, self.end_reason)
        self.begin_anew()

    def was_deleted(self) -> bool:
        """Return whether this request deleted the session, as far as the engine can tell."""
        return True

    def note_end(self, session: SessionBase, reason: Reason) -> None:
        """Note that a stored session has ended; ``session`` still has its attributes."""
        data = vars(session).get(LOADED, {})
        self.outbox.note(
            signals.session_invalidated,
            session=session,
            handle=self.handle_of(session, data),
            user_id=user_id_of(data),
            reason=reason,
        )

    def begin_anew(self) -> None:
        """Forget the session that was ended: what comes after it is a new one."""
        self.state = State.NEW
        self._is_announced = self._are_times_told = self.has_login = False
        self._key = self._times = self._last_handle = self._stored_at = None
        self.end_reason = Reason.FLUSHED
        self.generation += 1
        vars(self).pop("_attributes", None)

    def note_change_of_id(self, old_handle: str | None) -> None:
        """Note that the session that had ``old_handle`` has another id now."""
        new_handle = self.handle
        # An engine's async method may call its sync one.
        if old_handle not in (None, new_handle) and new_handle != self._last_handle:
            self._last_handle = new_handle
            self.outbox.note(
                signals.session_id_changed, old_handle=old_handle, new_handle=new_handle
            )

    # What differs from engine to engine.

    def read_times(self, data: Data) -> Times | None:
        """Return the times of what was loaded; None if it has none yet."""
        return Times.from_record(data.get(TIMES_KEY))

    def write_times(self, data: Data, times: Times) -> None:
        """Put the times where the session's next save stores them."""
        # These tell a later request whether the session was renewed without its times.
        age = self.session.get_session_cookie_age()
        data[TIMES_KEY] = times.as_record() | {"age": age, "stored": time.time()}

    def stored_at(self, data: Data) -> float | None:
        """Return when the session was last stored, in seconds since the epoch, if it is known."""
        return None

    def delete_ended(self, ended: Ended) -> bool:
        """Delete a session that is over; return whether to tell the receivers."""
        fresh = self._again(ended)
        fresh.load_data()
        if fresh.ended is None:
            # It was renewed meanwhile, or another request has deleted it.
            return False
        self.engine.delete(ended.session, ended.session.session_key)
        return True

    def _again(self, ended: Ended) -> Visit:
        # A request that came in time may have renewed it meanwhile.
        fresh = self.fresh()
        fresh.session._session_key = ended.session.session_key
        return fresh

    async def adelete_ended(self, ended: Ended) -> bool:
        """Async twin of :meth:`delete_ended`."""
        fresh = self._again(ended)
        await fresh.aload_data()
        if fresh.ended is None:
            # It was renewed meanwhile, or another request has deleted it.
            return False
        await self.engine.adelete(ended.session, ended.session.session_key)
        return True

    @property
    def has_id(self) -> bool:
        """Whether the loaded session has an id that its client, or a tool, can name it by."""
        return self.is_found

    @property
    def is_found(self) -> bool:
        """Whether a session was loaded, rather than none found."""
        return self.session.session_key is not None

    @property
    def session_id(self) -> str | None:
        """What names the loaded session to its client, None if it has no name yet."""
        key: str | None = self.session.session_key
        return key

    @property
    def digest(self) -> str | None:
        """The digest of the session's id, None if it has no id yet."""
        session_id = self.session_id
        return None if session_id is None else handles.digest(session_id)

    @property
    def handle(self) -> str | None:
        """The handle of the loaded session, None if it has no id yet."""
        digest = self.digest
        return None if digest is None else digest[: handles.HANDLE_LENGTH]

    def handle_of(self, session: SessionBase, data: Mapping[str, Any]) -> str:
        """Return the handle of a session that has ended."""
        return handles.handle(str(session.session_key))

    def draw_id(self) -> None:
        """Give the session a new id, if that is not the key, which the engine draws."""

    def is_gone(self) -> bool:
        """Return whether the stored session was ended elsewhere, if a change of key revived it."""
        return not self.session.exists(self.session.session_key)

    async def ais_gone(self) -> bool:
        """Async twin of :meth:`is_gone`."""
        return not await self.session.aexists(self.session.session_key)

    def touch(self) -> None:
        """Record the last access, and nothing else, and have SessionMiddleware renew the cookie.

        The session is read again just before: what others wrote meanwhile stays.
        """
        fresh = self.fresh()
        fresh.load_data()
        if fresh.may_be_touched():
            fresh.session.save()
            self.session.modified = TOUCHED

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        fresh = self.fresh()
        await fresh.aload_data()
        if fresh.may_be_touched():
            await fresh.session.asave()
            self.session.modified = TOUCHED

    def may_be_touched(self) -> bool:
        """Return whether the session was found again, and this process can decode it."""
        # Without times and data it is not empty, most likely, but written with another SECRET_KEY.
        return self.client_knows_it and (self._times is not None or bool(self.data))

    # Its times. All expect the session to be loaded.

    @property
    def times(self) -> Times:
        """When the session was created and last accessed before this visit."""
        if self._times is not None:
            return self._times
        if self._stored_at is None or self.is_visit:
            return Times(self.arrived, self.arrived)
        return Times(self.arrived, min(self._stored_at, self.arrived))

    def told_times(self) -> Times:
        """Return the times to somebody who asks: what they were told has to be stored."""
        self._are_times_told = True
        return self.times

    @property
    def authenticated(self) -> float | None:
        """When the session's user last logged in; None: nobody is logged in, or it is unknown."""
        return self.times.authenticated if user_id_of(self.data) is not None else None

    def logged_in(self) -> None:
        """Note that a user logs in to the session now."""
        self.has_login = True
        self._times = replace(self.times, authenticated=self.arrived)

    @property
    def max_inactive_interval(self) -> int:
        """The seconds that the client may stay away; zero or less: no limit."""
        age = self.session.get_session_cookie_age()
        return lifecycle.max_inactive_interval(
            self.data, self.times, cookie_age=age, now=self.arrived
        )

    @property
    def time_left(self) -> int | None:
        """The seconds until the session ends by either limit; None: never."""
        end = lifecycle.end_of(
            self.data,
            self.times_to_store(),
            cookie_age=self.session.get_session_cookie_age(),
            absolute_timeout=conf.absolute_timeout,
        )
        return None if end is None else max(0, int(end - time.time()))

    def set_max_inactive_interval(self, interval: object) -> None:
        """End the session after ``interval`` seconds without its client; zero or less: never."""
        seconds = lifecycle.checked_interval(interval, now=self.arrived)
        expiry = lifecycle.stored_expiry(seconds)
        goes_with_browser = self.session.get_expire_at_browser_close()
        self.session.set_expiry(expiry)
        if goes_with_browser:
            self.data[BROWSER_CLOSE_KEY] = expiry
        self._times = replace(self.times, interval=seconds if seconds <= 0 else None)

    def forget_interval(self) -> None:
        """Leave nothing of the interval that was set."""
        self.data.pop(BROWSER_CLOSE_KEY, None)
        if self.times.interval is not None:
            self._times = replace(self.times, interval=None)

    # The end of the visit.

    @property
    def is_unused(self) -> bool:
        """Whether the client named a session that nobody has used."""
        return not self.session.accessed and self.session.session_key is not None

    @property
    def is_quiet(self) -> bool:
        """Whether the request leaves the client's cookie as it is: it is passive."""
        key = self.session.session_key
        return key is not None and key == self._sent_key and self.is_passive

    def keep_changes_in_place(self) -> None:
        """Store what was changed in place; AttributeNotSerializable if it can't be stored."""
        if self._attributes is not None:
            self._attributes.keep_changes_in_place()

    def finish(self, status_code: int | None) -> bool:
        """Prepare what SessionMiddleware is about to store; return whether a touch is due.

        ``status_code`` is that of the response, None if there is none.
        """
        self.finished = True
        if LOADED not in vars(self.session) and not self.session.modified:
            return False
        try:
            if status_code is None:
                return False
            if status_code >= 500:
                self._leave_failed()
                return False
            try:
                self.keep_changes_in_place()
            except AttributeNotSerializable:
                self._leave_failed()
                raise
        finally:
            self.announce()
        return self.is_touch_due

    @property
    def is_touch_due(self) -> bool:
        """Whether to record the last access, which no save will do."""
        is_unchanged = self.client_knows_it and not self.session.modified
        return is_unchanged and self.is_visit and self._touch_due()

    def _leave_failed(self) -> None:
        # Nothing is saved, and no id of another session reaches the client. Where its own session
        # was ended, its cookie has to go: Django deletes it if the session is empty.
        if self._sent_key is not None and self.state is State.NEW:
            self.announce()
            self.session._session_key = None
            self.session.clear()

    def _touch_due(self) -> bool:
        times = self._times
        if times is None and not self._are_times_told:
            # Django stored it. If that was just now, its times can wait.
            stored_at = self._stored_at
            times = None if stored_at is None else Times(stored_at, stored_at)
        return times is None or self.is_old(times)

    def is_old(self, times: Times) -> bool:
        """Return whether the stored last access lags behind so far that it is to be renewed."""
        return lifecycle.touch_due(
            times,
            interval=self.max_inactive_interval,
            throttle=conf.touch_interval,
            now=self.arrived,
        )
