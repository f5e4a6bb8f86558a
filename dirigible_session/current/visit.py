"""One visit: what is known of a session while a request, or ``open_session``, works on it.

Anybody may load, save or end ``request.session``: the facade, a view, ``request.user``, a login.
So its class is replaced by one that is derived from it, see :func:`watched`, and asks the visit:
when the session is loaded, it is held to its limits; when it is saved, its times are saved with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from django.contrib.sessions.backends.base import VALID_KEY_CHARS, SessionBase, UpdateError
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.core.signing import b62_decode
from django.utils.crypto import get_random_string

from dirigible_session import handles, lifecycle, signals
from dirigible_session.conf import conf
from dirigible_session.lifecycle import BROWSER_CLOSE_KEY, COOKIE_LIFETIME, ID_KEY, TIMES_KEY, Times

from .attributes import Attributes
from .turns import Turns

if TYPE_CHECKING:
    from django.http import HttpRequest

logger = logging.getLogger("dirigible_session")

Data = dict[str, Any]

#: Where Django's SessionBase keeps the data once it is loaded.
LOADED = "_session_cache"
VISIT = "_dirigible_visit"

#: What ``modified`` is after a touch: SessionMiddleware sends the cookie of a session that is
#: modified, and there is nothing to save unless somebody modifies it on the way out.
TOUCHED: Any = "touched"


def begin(session: SessionBase, arrived: float, request: HttpRequest | None = None) -> Visit:
    """Return the visit of a session: the one under way, else one that ``arrived`` then."""
    visit: Visit | None = vars(session).get(VISIT)
    if visit is None:
        engine = type(session)
        visit = kind_of(engine)(session, engine, arrived, request)
        vars(session)[VISIT] = visit
        session.__class__ = watched(engine)
        if LOADED in vars(session) and session.session_key is not None:
            # Somebody was faster than the middleware.
            vars(session)[LOADED] = visit._judged(vars(session)[LOADED])
    return visit


@cache
def watched(engine: type[SessionBase]) -> type[SessionBase]:
    """Return a class for the sessions of an engine that asks their visit."""

    class SessionStore(engine):  # type: ignore[misc,valid-type]
        def load(self) -> Data:
            visit = self._dirigible_visit
            with visit.loading():
                data = super().load()
                if self.session_key is None and visit.loads_older():
                    data = super().load()
            admitted: Data = visit.admitted(data)
            return admitted

        async def aload(self) -> Data:
            visit = self._dirigible_visit
            with visit.loading():
                data = await super().aload()
            admitted: Data = visit.admitted(data)
            return admitted

        def create(self) -> None:
            if self._dirigible_visit.may_create():
                super().create()

        async def acreate(self) -> None:
            if self._dirigible_visit.may_create():
                await super().acreate()

        def save(self, must_create: bool = False) -> None:
            visit = self._dirigible_visit
            if self.modified is TOUCHED and not must_create:
                return
            if not must_create:
                visit.load_data()
            visit.complete(must_create)
            super().save(must_create)
            if visit.finished:
                visit.announce()
                visit.notify()

        async def asave(self, must_create: bool = False) -> None:
            visit = self._dirigible_visit
            if self.modified is TOUCHED and not must_create:
                return
            if not must_create:
                await visit.aload_data()
            visit.complete(must_create)
            await super().asave(must_create)
            if visit.finished:
                visit.announce()
                await visit.anotify()

        def clear(self) -> None:
            self._dirigible_visit.cleared()
            super().clear()

        def flush(self) -> None:
            super().flush()
            self._dirigible_visit.begin_anew()

        async def aflush(self) -> None:
            await super().aflush()
            self._dirigible_visit.begin_anew()

        def cycle_key(self) -> None:
            self._dirigible_visit.draw_id()
            super().cycle_key()

        def set_expiry(self, value: Any) -> None:
            self._dirigible_visit.forget_interval()
            super().set_expiry(value)

        async def aset_expiry(self, value: Any) -> None:
            await self._dirigible_visit.aload_data()
            self.set_expiry(value)

        def get_expire_at_browser_close(self) -> bool:
            return lifecycle.stays_for_browser(self._session) or (
                super().get_expire_at_browser_close()
            )

        async def aget_expire_at_browser_close(self) -> bool:
            await self._dirigible_visit.aload_data()
            return self.get_expire_at_browser_close()

        def get_session_cookie_age(self) -> int:
            age: int = self._dirigible_visit.cookie_age or super().get_session_cookie_age()
            return age

    SessionStore.__module__ = engine.__module__
    # Django salts signatures with it.
    SessionStore.__qualname__ = engine.__qualname__
    return SessionStore


class Visit:
    """A visit of a session whose times are in its data, under a reserved key."""

    #: Whether this counts as an access by the session's client.
    counts = True
    #: Whether the client knows the session: it sent the id of a live one.
    known = False
    #: Whether the request is over, but for what SessionMiddleware does after it.
    finished = False
    #: How many ``use_request`` it is in, if it was none but these that made it current.
    scopes = 0
    #: What the session's engine shall take for SESSION_COOKIE_AGE, if it is something else.
    cookie_age = 0

    #: The key of what was loaded.
    _key: str | None = None
    #: The times that this visit found; None if there were none.
    _found: Times | None = None
    _announced = False
    _is_loading = False
    #: Whether the session was cleared before it was loaded.
    _is_cleared_unread = False
    _attributes: Attributes | None = None
    _notices: signals.Outbox | None = None
    _turns: Turns | None = None

    def __init__(
        self,
        session: SessionBase,
        engine: type[SessionBase],
        arrived: float,
        request: HttpRequest | None,
    ) -> None:
        self.session = session
        #: The session's class by itself.
        self.engine = engine
        #: In seconds since the epoch.
        self.arrived = arrived
        self.request = request
        self._sent_key = session.session_key

    # Of two threads that come first, both get the same.

    @property
    def notices(self) -> signals.Outbox:
        """What the receivers of the signals have yet to be told."""
        return self._notices or vars(self).setdefault(
            "_notices", signals.Outbox(self.session, self.request, sender=self.engine)
        )

    @property
    def attributes(self) -> Attributes:
        """The session's attributes, for changing them."""
        return self._attributes or vars(self).setdefault(
            "_attributes", Attributes(self.session, self.notices)
        )

    @property
    def turns(self) -> Turns:
        """Who may make, change or end the session now."""
        return self._turns or vars(self).setdefault("_turns", Turns())

    def notify(self) -> None:
        """Tell the receivers of the signals what there is to tell."""
        if self._notices is not None:
            self._notices.send(is_last=self.finished)

    async def anotify(self) -> None:
        """Async twin of :meth:`notify`."""
        if self._notices is not None:
            await self._notices.asend()

    # The session is loaded.

    @property
    def data(self) -> Data:
        """The session's data, loaded if need be."""
        return self.session._get_session()  # type: ignore[attr-defined,no-any-return]

    def load_data(self) -> None:
        """Load the session's data, or its times if it was cleared before they were loaded."""
        if self._is_cleared_unread:
            fresh = self._fresh()
            fresh.load_data()
            self._get_to_know(fresh)
        self.session._get_session()  # type: ignore[attr-defined]

    async def aload_data(self) -> None:
        """Async twin of :meth:`load_data`."""
        if self._is_cleared_unread:
            fresh = self._fresh()
            await fresh.aload_data()
            self._get_to_know(fresh)
        await self.session._aget_session()  # type: ignore[attr-defined]

    def _fresh(self) -> Visit:
        """Return a visit to the session as it is stored now."""
        return begin(self.engine(self.session.session_key), self.arrived)

    def _get_to_know(self, fresh: Visit) -> None:
        self._is_cleared_unread = False
        self.known, self._found = fresh.known, fresh._found
        if not self.known:
            self.session._session_key = None

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Load, and create nothing."""
        self._is_loading = True
        try:
            yield
        finally:
            self._is_loading = False

    def loads_older(self) -> bool:
        """Return whether to try again to load what the engine takes for too old."""
        return False

    def may_create(self) -> bool:
        """Return whether to create a session: some engines do where they fail to load one."""
        if self._is_loading:
            self.session._session_key = None
        return not self._is_loading

    def admitted(self, data: Data) -> Data:
        """Return the data that was loaded; {}, and no key, if it is over or not there."""
        session = self.session
        if LOADED in vars(session):
            # Another task or thread of this request was faster: all must work on the same data,
            # and of the same session, although this one may have found it gone.
            session._session_key = session.session_key or self._key
            return cast("Data", vars(session)[LOADED])
        return cast("Data", vars(session).setdefault(LOADED, self._judged(data)))

    def _judged(self, data: Data) -> Data:
        self._key = self.session.session_key
        if self._key is None or self._is_over(data):
            self.session._session_key = self._key = None
            return {}
        self.known, self._found = True, self.read_times(data)
        return data

    def _is_over(self, data: Data) -> bool:
        times, age = self.read_times(data), self.session.get_session_cookie_age()
        if times is None:
            end = self._end_unused(data, age)
        else:
            timeout = conf.absolute_timeout
            end = lifecycle.end_of(data, times, cookie_age=age, absolute_timeout=timeout)
        return end is not None and end <= self.arrived

    def _end_unused(self, data: Data, cookie_age: int) -> float | None:
        """Return when a session ends that no request has used since it was stored."""
        stored_at = self._stored_at()
        if stored_at is None:
            return lifecycle.fixed_end(data)
        return lifecycle.idle_end(data, Times(stored_at, stored_at), cookie_age=cookie_age)

    def cleared(self) -> None:
        """Note that nobody knows the times of the session yet, if it was not loaded."""
        is_unread = LOADED not in vars(self.session) and self.session.session_key is not None
        self._is_cleared_unread = is_unread

    # The session is saved.

    def complete(self, must_create: bool) -> None:
        """Add what is saved with the session's data."""
        session = self.session
        data = session._get_session(no_load=must_create)  # type: ignore[attr-defined]
        self._key = session.session_key
        if self.session_id is None:
            self.draw_id()
        if self.counts or self._found is not None or not self.known:
            self.write_times(data, self._times_to_store())

    def _times_to_store(self) -> Times:
        accessed = max(self.times.accessed, self.arrived) if self.counts else self.times.accessed
        return replace(self.times, accessed=accessed)

    def begin_anew(self) -> None:
        """Forget the session that was ended: what comes after it is a new one."""
        self.known = self._announced = self._is_cleared_unread = False
        self._key = self._found = None
        vars(self).pop("_attributes", None)
        vars(self).pop("_end", None)

    # What differs from engine to engine.

    def read_times(self, data: Data) -> Times | None:
        """Return the times of what was loaded; None if it has none yet."""
        return Times.from_record(data.get(TIMES_KEY))

    def write_times(self, data: Data, times: Times) -> None:
        """Put the times where the session's next save stores them."""
        data[TIMES_KEY] = times.as_record()

    def _stored_at(self) -> float | None:
        """Return when it was stored, where the engine itself does not end what is too old."""
        return None

    @property
    def session_id(self) -> str | None:
        """What names the loaded session to its client, None if it has no name yet."""
        return self.session.session_key

    def draw_id(self) -> None:
        """Give the session a new id, if that is not the key, which the engine draws."""

    def touch(self) -> None:
        """Record the last access, and nothing else, and have SessionMiddleware renew the cookie.

        The session is read again just before: what others wrote meanwhile stays.
        """
        with _excused():
            fresh = self._fresh()
            fresh.load_data()
            if fresh._may_be_saved():
                fresh.session.save()
                self.session.modified = TOUCHED

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        with _excused():
            fresh = self._fresh()
            await fresh.aload_data()
            if fresh._may_be_saved():
                await fresh.session.asave()
                self.session.modified = TOUCHED

    def _may_be_saved(self) -> bool:
        # Without times and data it is not empty, most likely, but one that this process can't
        # decode, and another can: it has another SECRET_KEY for a while.
        return self.known and (self._found is not None or bool(self.data))

    # Its times. All expect the session to be loaded.

    @property
    def times(self) -> Times:
        """When the session was created and last accessed before this visit."""
        return self._found or Times(self.arrived, self.arrived)

    @property
    def max_inactive_interval(self) -> int:
        """The seconds that the session may idle; zero or less: no limit."""
        age = self.session.get_session_cookie_age()
        return lifecycle.max_inactive_interval(
            self.data, self.times, cookie_age=age, now=self.arrived
        )

    def set_max_inactive_interval(self, interval: object) -> None:
        """Let the session idle for ``interval`` seconds; zero or less: for ever."""
        seconds = lifecycle.checked_interval(interval, now=self.arrived)
        expiry = lifecycle.stored_expiry(seconds)
        goes_with_browser = self.session.get_expire_at_browser_close()
        self.session.set_expiry(expiry)
        if goes_with_browser:
            self.data[BROWSER_CLOSE_KEY] = expiry
        self._found = replace(self.times, interval=seconds if seconds <= 0 else None)

    def forget_interval(self) -> None:
        """Leave nothing of the interval that was set."""
        self.data.pop(BROWSER_CLOSE_KEY, None)
        if self.times.interval is not None:
            self._found = replace(self.times, interval=None)

    # Its id: made, changed and ended once, however many threads or tasks ask for it at once.

    @property
    def handle(self) -> str | None:
        """The handle of the loaded session, None if it has no id yet."""
        return None if self.session_id is None else handles.handle(self.session_id)

    def create(self) -> None:
        """Create and store the session unless it has an id by now."""
        with self.turns.of_thread():
            if self.session_id is None:
                with self._undone():
                    self.draw_id()
                    self.session.create()

    async def acreate(self) -> None:
        """Async twin of :meth:`create`."""
        async with self.turns.of_task():
            await self._acreate()

    async def _acreate(self) -> None:
        if self.session_id is None:
            with self._undone():
                self.draw_id()
                await self.session.acreate()

    def change_id(self) -> None:
        """Give the session another id; create it if it has none."""
        with self.turns.of_thread():
            old_handle = self.handle
            if old_handle is None:
                self.create()
            else:
                with self._undone():
                    self.session.cycle_key()
                self._note_change(old_handle)

    async def achange_id(self) -> None:
        """Async twin of :meth:`change_id`."""
        async with self.turns.of_task():
            old_handle = self.handle
            if old_handle is None:
                await self._acreate()
            else:
                with self._undone():
                    await self.session.acycle_key()
                self._note_change(old_handle)

    def _note_change(self, old_handle: str) -> None:
        signal = signals.session_id_changed
        self.notices.note(signal, old_handle=old_handle, new_handle=self.handle)

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Give the session back the key that it had, where it could not be stored under another."""
        key = self.session.session_key
        try:
            yield
        except BaseException:
            self.session._session_key = key
            raise

    def end(self) -> None:
        """End the session, and tell the receivers before."""
        self._note_end()
        self.notify()
        # Others, or a receiver, may have ended it by now, and this may be the one after it.
        with self.turns.of_thread():
            if "_end" in vars(self):
                self.session.flush()

    async def aend(self) -> None:
        """Async twin of :meth:`end`."""
        self._note_end()
        await self.anotify()
        async with self.turns.of_task():
            if "_end" in vars(self):
                await self.session.aflush()

    def _note_end(self) -> None:
        mark = object()
        if vars(self).setdefault("_end", mark) is mark and not self.session.is_empty():
            self.notices.note(signals.session_invalidated, handle=self.handle)

    # The end of the visit.

    def announce(self) -> None:
        """Note that the session is new and stored, once."""
        is_stored = self.session.session_key not in (None, self._sent_key)
        if is_stored and not self.known and not self._announced:
            self._announced = True
            self.notices.note(signals.session_created)

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
        if LOADED not in vars(self.session) and not self.session.modified:
            return False
        try:
            if status_code is None:
                return False
            if status_code >= 500:
                self._leave_failed()
                return False
            self.settle()
        finally:
            self.announce()
        return self.known and not self.session.modified and self._touch_due()

    def _leave_failed(self) -> None:
        # Nothing is saved, and no id of another session reaches the client. Where its own session
        # was ended, its cookie has to go: Django deletes it if the session is empty.
        if self._sent_key is not None and not self.known and not self._is_cleared_unread:
            self.announce()
            self.session._session_key = None
            self.session.clear()

    def _touch_due(self) -> bool:
        return self._found is None or lifecycle.touch_due(
            self._found,
            interval=self.max_inactive_interval,
            throttle=conf.touch_interval,
            now=self.arrived,
        )


class TimekeepersVisit(Visit):
    """A visit where the engine has columns for the times, and applies the limits itself."""

    session: Any

    def _is_over(self, data: Data) -> bool:
        return False

    def read_times(self, data: Data) -> Times | None:
        """Return what the engine read."""
        times: Times | None = self.session.times
        return times

    def write_times(self, data: Data, times: Times) -> None:
        """Let the engine write them."""
        self.session.times = times

    def touch(self) -> None:
        """Let the engine do it."""
        with _excused():
            if self.session.touch(self._times_to_store().accessed):
                self.session.modified = TOUCHED

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        with _excused():
            if await self.session.atouch(self._times_to_store().accessed):
                self.session.modified = TOUCHED


class FileVisit(Visit):
    """A visit to the file engine, which never ends a session by its interval."""

    def _stored_at(self) -> float | None:
        session: Any = self.session
        with suppress(FileNotFoundError):
            return float(session._last_modification().timestamp())
        return None


class CookieVisit(Visit):
    """A visit that brings its session along: it needs an id of its own, which is kept in it."""

    def loads_older(self) -> bool:
        """Return whether the cookie may be older than ``SESSION_COOKIE_AGE``.

        The engine takes no such cookie, whatever the session's own interval (Django ticket
        #19201). One that has times is held to its interval instead.
        """
        if self.cookie_age:
            return False
        self.session._session_key = self._sent_key
        self.cookie_age = COOKIE_LIFETIME
        return True

    def _is_over(self, data: Data) -> bool:
        is_older, self.cookie_age = bool(self.cookie_age), 0
        return (is_older and self.read_times(data) is None) or super()._is_over(data)

    def _stored_at(self) -> float | None:
        try:
            return float(b62_decode(str(self.session.session_key).rsplit(":", 2)[1]))
        except (IndexError, ValueError):
            # No signature of Django's: what was loaded is nothing.
            return 0.0

    @property
    def session_id(self) -> str | None:
        """The id that is kept in the session."""
        return self.data.get(ID_KEY)

    def draw_id(self) -> None:
        """Draw it."""
        self.session[ID_KEY] = get_random_string(32, VALID_KEY_CHARS)

    def touch(self) -> None:
        """Have the cookie sent, and the session with it."""
        self.session.modified = True

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        self.session.modified = True


@cache
def kind_of(engine: type[SessionBase]) -> type[Visit]:
    """Return the kind of the visits to an engine."""
    if getattr(engine, "keeps_times", False):
        return TimekeepersVisit
    if issubclass(engine, CookieStore):
        return CookieVisit
    return FileVisit if issubclass(engine, FileStore) else Visit


@contextmanager
def _excused() -> Iterator[None]:
    try:
        yield
    except UpdateError:
        # It is gone.
        return
    except Exception:
        # Whatever a store raises that can't be reached, or takes no writes.
        logger.exception("The last access of a session could not be recorded.")
