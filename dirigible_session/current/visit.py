"""The state of one session during a request, or inside ``open_session``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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
from .session import LOADED, LOADING, TOUCHED, watched

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

Data = dict[str, Any]


class Arrival(Protocol):
    """The arrival of a request, as a visit needs it."""

    @property
    def arrived(self) -> float:
        """When the request arrived, in seconds since the epoch."""

    @property
    def request(self) -> HttpRequest | None:
        """The request; None for ``open_session``."""

    @property
    def closed(self) -> bool:
        """Whether the response has passed our middleware."""


class Stay(Arrival, Protocol):
    """A request while it is current."""

    #: The visits that began in it.
    visits: tuple[Visit, ...]


class State(Enum):
    """The states of a :class:`Visit`."""

    UNREAD = "unread"
    CLEARED = "cleared"
    NEW = "new"
    KNOWN = "known"


@dataclass
class Ended:
    """A stored session that was expired when it was loaded."""

    reason: Reason
    #: The session as it was stored, detached from the request.
    session: SessionBase
    data: Mapping[str, Any]


class Visit:
    r"""The state of a session during one request.

    Every session of a request has a visit, which ``session.py`` asks. It has four states::

        UNREAD --- load: a live session -------------------> KNOWN
           |  \--- load: none, or an expired one -----------> NEW
           | clear() before load                              ^
           v                                                  |
        CLEARED -- its times are loaded --> KNOWN or NEW      |
                                              |  flush()      |
                                              +---------------+

    A session is *known* if the client named a live one, otherwise *new*. The subclasses in
    ``engines.py`` have the differences between engines. This class is for engines that save a
    session whole, with its times in its data.
    """

    state = State.UNREAD
    #: Whether this counts as an access by the session's client, unless the request is passive.
    counts = True
    #: Whether the view is marked as passive.
    is_marked_passive = False
    #: Whether the response has passed our middleware; the session may still be saved after that.
    closed = False
    #: The number of ``use_request`` blocks around it; 0 if the middleware made it current.
    scopes = 0
    #: The session that the client named, if it was expired.
    ended: Ended | None = None
    #: Whether a user has logged in since the session was last saved.
    has_login = False
    #: The reason to send if the session ends.
    end_reason = Reason.FLUSHED
    #: The number of sessions that have ended in this request.
    generation = 0
    #: A callback for after the next save.
    once_saved: Callable[[], None] | None = None
    #: Whether the store ends idle sessions itself, so that a session that it loads is not idle.
    store_ends_idle = True
    #: Whether the engine itself notices that another request has ended the session.
    engine_detects_end = False

    #: The key of the session that is being loaded, and of the session that was loaded.
    loading_key: str | None = None
    _key: str | None = None
    #: The times that were loaded or set; None if there were none.
    _times: Times | None = None
    _are_times_returned = False
    #: When a session without times was stored, if known.
    _stored_at: float | None = None
    _is_announced = False
    _last_handle: str | None = None
    _attributes: Attributes | None = None
    _outbox: signals.Outbox | None = None
    _lock: RequestLock | None = None

    def __init__(self, session: Any, engine: type[SessionBase], stay: Arrival) -> None:
        self.session = session
        #: The engine's own ``SessionStore``.
        self.engine = engine
        #: In seconds since the epoch.
        self.arrived = stay.arrived
        self.request = stay.request
        self.closed = stay.closed
        self._sent_key = session.session_key

    # setdefault(), so that two threads get the same object.

    @property
    def outbox(self) -> signals.Outbox:
        """The signals to be sent."""
        return self._outbox or vars(self).setdefault(
            "_outbox", signals.Outbox(self.session, self.request, sender=self.engine)
        )

    @property
    def attributes(self) -> Attributes:
        """The session's attributes."""
        return self._attributes or vars(self).setdefault(
            "_attributes", Attributes(self.session, self.outbox)
        )

    @property
    def lock(self) -> RequestLock:
        """The lock for creating the session, ending it and changing its id."""
        return self._lock or vars(self).setdefault("_lock", RequestLock())

    def notify(self) -> None:
        """Send the signals that were noted."""
        if self._outbox is not None:
            self._outbox.send(is_last=self.closed)

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
        """Whether the request is passive, by the view's decorator or by the settings."""
        if self.is_marked_passive or not conf.passive:
            return self.is_marked_passive
        match = getattr(self.request, "resolver_match", None)
        return match is not None and match.view_name in conf.passive

    @property
    def is_visit(self) -> bool:
        """Whether this counts as an access by the session's client."""
        return self.counts and not self.is_passive

    # Loading.

    @classmethod
    def session_class(cls, engine: type[SessionBase]) -> type[SessionBase]:
        """Return the class of the engine's sessions in a request."""
        return watched(engine)

    @property
    def data(self) -> Data:
        """The session's data, loaded if necessary."""
        return self.session._get_session()  # type: ignore[no-any-return]

    def load_data(self) -> None:
        """Load the session's data; if it was cleared before, load its times."""
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
        """Return a visit without a request to the same session, not loaded yet."""
        session = self.session.detached()
        vars(session).pop(LOADED, None)
        session.accessed = session.modified = False
        session.__class__ = type(self.session)
        visit = type(self)(session, self.engine, self)
        session._dirigible_visit = visit
        visit.request = None
        return visit

    def _learn_times(self, fresh: Visit) -> None:
        self.state, self._times = fresh.state, fresh._times
        if not self.client_knows_it:
            self.session._session_key = None

    @property
    def is_loading(self) -> bool:
        """Whether the session is being loaded in this thread or task."""
        return LOADING.get() is self

    def may_create(self) -> bool:
        """Return whether to create a session: not while loading, as some engines would."""
        if self.is_loading:
            self.session._session_key = None
        return not self.is_loading

    def data_to_use(self, data: Data) -> Data:
        """Return the data to use: that of a live session, otherwise {}."""
        session = self.session
        if LOADED in vars(session):
            # Another task or thread of this request was faster. All must use the same data, even
            # if this one has found the session gone.
            session._session_key = session.session_key or self._key
            loaded: Data = vars(session)[LOADED]
            return loaded
        used: Data = vars(session).setdefault(LOADED, self.judge(data))
        return used

    def judge(self, data: Data) -> Data:
        """Apply the limits to a session that was loaded; return its data, {} if it is expired."""
        self._key = self.session.session_key
        reason = self.limit_passed(data) if self.is_found else None
        if reason is not None:
            self.note_expired(reason, data)
        if not self.is_found or reason is not None:
            self.session._session_key = self._key = None
            self.state = State.NEW
            return {}
        self.state, self._times = State.KNOWN, self.read_times(data)
        if self._times is None:
            # Now, since it may depend on an expiry that this request changes.
            self._stored_at = self.stored_at(data)
        return data

    def limit_passed(self, data: Data) -> Reason | None:
        """Return the limit that the loaded session has passed; None if it is live."""
        cookie_age = self.session.get_session_cookie_age()
        times, stored_at = self.read_times(data), self.stored_at(data)
        # The end by a fixed date, unless the session has an interval that must be applied here.
        end = lifecycle.fixed_end(data)
        if times is None:
            if stored_at is not None:
                since = Times(stored_at, stored_at)
                end = lifecycle.idle_end(data, since, cookie_age=cookie_age)
        else:
            timeout = lifecycle.absolute_end(times, conf.absolute_timeout)
            if timeout is not None and timeout <= self.arrived:
                return Reason.TIMEOUT
            record = data[TIMES_KEY]
            # A process without this package may have renewed the session without its times. They
            # decide if SESSION_COOKIE_AGE has changed since, or the store ends no session itself.
            if record.get("age") != cookie_age:
                end = lifecycle.idle_end(data, times, cookie_age=cookie_age)
            elif not self.store_ends_idle:
                stored = record.get("stored")
                is_renewed = lifecycle.is_seconds(stored) and (stored_at or 0) > stored + 2
                accessed = max(times.accessed, stored_at or 0) if is_renewed else times.accessed
                since = replace(times, accessed=accessed)
                end = lifecycle.idle_end(data, since, cookie_age=cookie_age)
        return Reason.IDLE if end is not None and end <= self.arrived else None

    def note_expired(self, reason: Reason, data: Data) -> None:
        """Remember an expired session, to delete it and to notify the receivers."""
        session = self.session.detached()
        vars(session)[LOADED] = data
        # An engine drops the key of an expired session.
        session._session_key = session.session_key or self.loading_key
        self.ended = Ended(reason, session, data)

    @property
    def has_ended(self) -> bool:
        """Whether there is a stored session for :meth:`drop_ended` to delete."""
        return self.ended is not None

    def drop_ended(self) -> None:
        """Delete the session that was loaded expired, and note that it ended."""
        ended, self.ended = self.ended, None
        if ended is not None and self.request is not None and self.delete_ended(ended):
            self.note_end(ended.session, ended.reason)

    async def adrop_ended(self) -> None:
        """Async twin of :meth:`drop_ended`."""
        ended, self.ended = self.ended, None
        if ended is not None and self.request is not None and await self.adelete_ended(ended):
            self.note_end(ended.session, ended.reason)

    def cleared(self) -> None:
        """Note that the session was cleared, so that its times are loaded if needed."""
        if LOADED not in vars(self.session) and self.session.session_key is not None:
            self.state = State.CLEARED

    # Saving.

    def complete(self, must_create: bool) -> None:
        """Add the id and the times that are saved with the session."""
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
        """Return the session's times, including this access if it counts."""
        times = self.times
        if not self.is_visit:
            return times
        accessed = self.arrived
        now = time.time()
        if 0 < self.max_inactive_interval < (now - accessed) * lifecycle.LAG:
            # A session does not time out during a request that arrived in time.
            accessed = now
        return replace(times, accessed=max(times.accessed, accessed))

    def saved(self) -> bool:
        """Note that the session was saved; return whether that completes a login."""
        is_last = self.closed or self.once_saved is not None
        if self.once_saved is not None:
            self.once_saved()
        if self.closed:
            self.announce()
        has_login, self.has_login = self.has_login, self.has_login and not is_last
        return has_login and is_last

    @property
    def may_be_limited(self) -> bool:
        """Whether a later login may have ended the session, which is not an error then."""
        return self.has_login and conf.max_per_user is not None

    def announce(self) -> None:
        """Note once that a new session was stored."""
        is_stored = self.session.session_key not in (None, self._sent_key)
        if is_stored and self.state is State.NEW and not self._is_announced:
            self._is_announced = True
            self.outbox.note(signals.session_created)

    @property
    def keeps_end(self) -> bool:
        """Whether a save must not change when the session ends."""
        return self.client_knows_it and not self.is_visit

    @property
    def seconds_left(self) -> float | None:
        """The seconds until the interval ends the session; None: never, or at a fixed date."""
        if EXPIRY_KEY in self.data and lifecycle.fixed_end(self.data) is not None:
            return None
        cookie_age = self.session.get_session_cookie_age()
        end = lifecycle.idle_end(self.data, self.times, cookie_age=cookie_age)
        return None if end is None else max(1, end - time.time())

    # Ending, and another id.

    def ending(self) -> SessionBase | None:
        """Return the stored session that is about to end, detached; None if there is none.

        ``session_created`` comes first if the session was stored in this request.
        """
        if self.session.session_key is None or self.state not in (State.NEW, State.KNOWN):
            return None
        self.announce()
        return self.session.detached()  # type: ignore[no-any-return]

    @property
    def tells_ends(self) -> bool:
        """Whether ``session_invalidated`` has receivers."""
        return bool(signals.session_invalidated.receivers)

    def flushed(self, ending: SessionBase | None) -> None:
        """Note that the session has ended, if it was stored, and begin a new one."""
        if ending is not None and self.was_deleted():
            self.note_end(ending, self.end_reason)
        self.begin_anew()

    def was_deleted(self) -> bool:
        """Return whether this request deleted the session, as far as the engine can tell."""
        return True

    def note_end(self, session: SessionBase, reason: Reason) -> None:
        """Note that a stored session has ended. ``session`` still has its attributes."""
        data = vars(session).get(LOADED, {})
        self.outbox.note(
            signals.session_invalidated,
            session=session,
            handle=self.handle_of(session, data),
            user_id=user_id_of(data),
            reason=reason,
        )

    def begin_anew(self) -> None:
        """Forget the session that has ended, and begin a new one."""
        self.state = State.NEW
        self._is_announced = self._are_times_returned = self.has_login = False
        self._key = self._times = self._last_handle = self._stored_at = None
        self.end_reason = Reason.FLUSHED
        self.generation += 1
        vars(self).pop("_attributes", None)

    def note_change_of_id(self, old_handle: str | None) -> None:
        """Note that the id of the session has changed."""
        new_handle = self.handle
        # An engine's async method may call its sync one.
        if old_handle not in (None, new_handle) and new_handle != self._last_handle:
            self._last_handle = new_handle
            self.outbox.note(
                signals.session_id_changed, old_handle=old_handle, new_handle=new_handle
            )

    # The differences between engines, see ``engines.py``.

    def read_times(self, data: Data) -> Times | None:
        """Return the times of the loaded session; None if it has none yet."""
        return Times.from_record(data.get(TIMES_KEY))

    def write_times(self, data: Data, times: Times) -> None:
        """Put the times into the data, for the next save."""
        # "age" and "stored" show whether the session was later renewed without its times.
        age = self.session.get_session_cookie_age()
        data[TIMES_KEY] = times.as_record() | {"age": age, "stored": time.time()}

    def stored_at(self, data: Data) -> float | None:
        """Return when the session was last stored, in seconds since the epoch; None: unknown."""
        return None

    def delete_ended(self, ended: Ended) -> bool:
        """Delete an expired session; return whether to notify the receivers."""
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
        """Whether the loaded session has an id."""
        return self.is_found

    @property
    def is_found(self) -> bool:
        """Whether a session was found, live or expired."""
        return self.session.session_key is not None

    @property
    def session_id(self) -> str | None:
        """The id of the loaded session; None if it has no id yet."""
        return self.session.session_key  # type: ignore[no-any-return]

    @property
    def digest(self) -> str | None:
        """The digest of the session's id; None if it has no id yet."""
        session_id = self.session_id
        return None if session_id is None else handles.digest(session_id)

    @property
    def handle(self) -> str | None:
        """The handle of the loaded session; None if it has no id yet."""
        digest = self.digest
        return None if digest is None else digest[: handles.HANDLE_LENGTH]

    def handle_of(self, session: SessionBase, data: Mapping[str, Any]) -> str:
        """Return the handle of a session that has ended."""
        return handles.handle(str(session.session_key))

    def draw_id(self) -> None:
        """Give the session a new id, if its id is not the key, which the engine draws."""

    def is_gone(self) -> bool:
        """Return whether another request has ended the stored session, if that matters here."""
        return not self.engine_detects_end and not self.session.exists(self.session.session_key)

    async def ais_gone(self) -> bool:
        """Async twin of :meth:`is_gone`."""
        return not self.engine_detects_end and not await self.session.aexists(
            self.session.session_key
        )

    def touch(self) -> None:
        """Record the last access, and nothing else. The session middleware then renews the cookie.

        The session is read again first, to keep the changes of other requests.
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
        """Return whether the session was found again, and could be decoded."""
        # Without times and data, it was most likely written with another SECRET_KEY.
        return self.client_knows_it and (self._times is not None or bool(self.data))

    # Times of the loaded session.

    @property
    def times(self) -> Times:
        """When the session was created, and last accessed before this request."""
        if self._times is not None:
            return self._times
        if self._stored_at is None or self.is_visit:
            return Times(self.arrived, self.arrived)
        return Times(self.arrived, min(self._stored_at, self.arrived))

    def times_for_facade(self) -> Times:
        """Return the times for the facade, which this request must then store."""
        self._are_times_returned = True
        return self.times

    @property
    def authenticated(self) -> float | None:
        """When the session's user last logged in; None: unknown, or without a user."""
        return self.times.authenticated if user_id_of(self.data) is not None else None

    def logged_in(self) -> None:
        """Note that a user logs in now."""
        self.has_login = True
        self._times = replace(self.times, authenticated=self.arrived)

    @property
    def max_inactive_interval(self) -> int:
        """The seconds that the client may be idle; zero or less: no limit."""
        age = self.session.get_session_cookie_age()
        return lifecycle.max_inactive_interval(
            self.data, self.times, cookie_age=age, now=self.arrived
        )

    @property
    def time_left(self) -> int | None:
        """The seconds until the session ends by either limit; None: never."""
        return self.time_left_after(self.times_to_store())

    def time_left_after(self, times: Times) -> int | None:
        """Return the seconds until the session ends if these are its times; None: never."""
        age, timeout = self.session.get_session_cookie_age(), conf.absolute_timeout
        end = lifecycle.end_of(self.data, times, cookie_age=age, absolute_timeout=timeout)
        return None if end is None else max(0, int(end - time.time()))

    def set_max_inactive_interval(self, interval: object) -> None:
        """End the session after ``interval`` idle seconds; zero or less: never."""
        seconds = lifecycle.checked_interval(interval, now=self.arrived)
        expiry = lifecycle.stored_expiry(seconds)
        goes_with_browser = self.session.get_expire_at_browser_close()
        self.session.set_expiry(expiry)
        if goes_with_browser:
            self.data[BROWSER_CLOSE_KEY] = expiry
        self._times = replace(self.times, interval=seconds if seconds <= 0 else None)

    def forget_interval(self) -> None:
        """Remove the interval that was set."""
        self.data.pop(BROWSER_CLOSE_KEY, None)
        if self.times.interval is not None:
            self._times = replace(self.times, interval=None)

    # The end of the request.

    @property
    def is_unused(self) -> bool:
        """Whether the client named a session that the request has not used."""
        return not self.session.accessed and self.session.session_key is not None

    @property
    def is_quiet(self) -> bool:
        """Whether to send no cookie: in a passive request."""
        key = self.session.session_key
        return key is not None and key == self._sent_key and self.is_passive

    def keep_changes_in_place(self) -> None:
        """Set the values that were changed in place. Raises AttributeNotSerializable."""
        if self._attributes is not None:
            self._attributes.keep_changes_in_place()

    def finish(self, status_code: int | None) -> bool:
        """Prepare the session for the session middleware; return whether to touch it.

        ``status_code`` is that of the response; None if there is none.
        """
        self.closed = True
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
        """Whether to record the last access, because no save will do it."""
        if not self.client_knows_it or self.session.modified or not self.is_visit:
            return False
        times = self._times
        if times is None and not self._are_times_returned and self._stored_at is not None:
            # Django stored the session. If that was just now, storing the times can wait.
            times = Times(self._stored_at, self._stored_at)
        return times is None or self.is_old(times)

    def _leave_failed(self) -> None:
        # Nothing is saved, and the client gets no new id. If its session was ended, its cookie has
        # to be deleted: Django does that if the session is empty.
        if self._sent_key is not None and self.state is State.NEW:
            self.announce()
            self.session._session_key = None
            self.session.clear()

    def close(self) -> None:
        """Finish the visit, unless that is done: its request failed, or replaced its session."""
        if not self.closed:
            self.finish(None)

    def is_old(self, times: Times) -> bool:
        """Return whether the stored last access is old enough to be renewed."""
        return lifecycle.touch_due(
            times,
            interval=self.max_inactive_interval,
            throttle=conf.touch_interval,
            now=self.arrived,
        )
