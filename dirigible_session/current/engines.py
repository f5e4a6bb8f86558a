"""What differs between engines while a request works on a session, one small class for each kind.

:func:`kind_of` chooses the kind, once for each engine.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.base import VALID_KEY_CHARS, SessionBase
from django.contrib.sessions.backends.cached_db import SessionStore as CachedDatabaseStore
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.core.signing import b62_decode
from django.db import router
from django.utils.crypto import get_random_string
from django.utils.functional import LazyObject, empty

from dirigible_session import handles, lifecycle
from dirigible_session.conf import conf
from dirigible_session.exceptions import SessionNotFound
from dirigible_session.lifecycle import COOKIE_LIFETIME, EXPIRY_KEY, ID_KEY, Times
from dirigible_session.signals import Reason

from .session import watched
from .visit import LOADED, TOUCHED, Data, Ended, Stay, Visit

if TYPE_CHECKING:
    from collections.abc import Mapping

VISIT = "_dirigible_visit"
STAY = "_dirigible_stay"


def unwrapped(session: Any) -> Any:
    """Return the session in a lazy object, as ``SimpleLazyObject`` and Channels make them."""
    while isinstance(session, LazyObject):
        lazy: Any = session
        if lazy._wrapped is empty:
            lazy._setup()
        session = lazy._wrapped
    return session


def watch(session: Any, stay: Stay) -> None:
    """Let a session of ``stay`` ask its visit, which is made when it is first asked.

    A request that does not use its session pays for no more than this.
    """
    engine: Any = type(session)
    session.__class__ = CLASSES.get(engine) or class_for(engine)
    session._dirigible_stay = stay
    if LOADED in session.__dict__:
        # Somebody was faster than the middleware.
        visit = session._dirigible_visit
        if visit.is_found:
            session._session_cache = visit.judge(session._session_cache)


def begin(session: Any, stay: Stay) -> Visit:
    """Return the visit of a session: the one under way, else one of ``stay``."""
    session = unwrapped(session)
    if STAY not in vars(session):
        watch(session, stay)
    visit: Visit = session._dirigible_visit
    return visit


class _VisitOnFirstUse:
    """The visit of a session, made when it is first asked."""

    def __init__(self, kind: type[Visit], engine: type[SessionBase]) -> None:
        self._kind = kind
        self._engine = engine

    def __get__(self, session: Any, owner: type) -> Any:
        visit = self._kind(session, self._engine, session._dirigible_stay)
        # Of two threads that come first, both get the same.
        return vars(session).setdefault(VISIT, visit)


#: The class of each engine's sessions in a request, by the engine's own.
CLASSES: dict[Any, type[SessionBase]] = {}


def class_for(engine: type[SessionBase]) -> type[SessionBase]:
    """Return the class of an engine's sessions in a request."""
    if engine not in CLASSES:
        kind = kind_of(engine)
        session_class: Any = kind.session_class(engine)
        session_class._dirigible_visit = _VisitOnFirstUse(kind, engine)
        CLASSES.setdefault(engine, session_class)
    return CLASSES[engine]


class StockVisit(Visit):
    """A visit to an engine whose sessions have their times in their data."""

    @classmethod
    def session_class(cls, engine: type[SessionBase]) -> type[SessionBase]:
        """Return the class of the engine's sessions in a request."""
        return watched(engine)


class OwnVisit(StockVisit):
    """A visit to an engine that has columns for the times, and applies the limits itself."""

    def __init__(self, session: Any, engine: type[SessionBase], stay: Stay) -> None:
        super().__init__(session, engine, stay)
        session.judged_at = self.arrived

    def limit_passed(self, data: Data) -> Reason | None:
        """Return None: the engine gives no session that is over."""
        return None

    def judge(self, data: Data) -> Data:
        """Tell of a session that the engine found to be over."""
        over = getattr(self.session, "found_over", None)
        if over is not None:
            with suppress(ValueError):
                self._note_found(over, over.parsed())
        return super().judge(data)

    def _note_found(self, over: Any, data: Data) -> None:
        timeout = lifecycle.absolute_end(over.times, conf.absolute_timeout)
        is_timeout = timeout is not None and timeout <= self.arrived
        self.note_over(Reason.TIMEOUT if is_timeout else Reason.IDLE, data)

    def delete_ended(self, ended: Ended) -> bool:
        """Delete it if nobody else did, and it is as it was found."""
        return bool(self.session.end_found_over())

    async def adelete_ended(self, ended: Ended) -> bool:
        """Async twin of :meth:`delete_ended`."""
        return bool(await self.session.aend_found_over())

    def was_deleted(self) -> bool:
        """Return whether this request deleted it, and no other."""
        return bool(getattr(self.session, "was_deleted", True))

    @property
    def is_found(self) -> bool:
        """Whether a session was loaded; one that was opened by its handle has a digest only."""
        key = self.session.session_key
        return key is not None or getattr(self.session, "digest", None) is not None

    @property
    def session_id(self) -> str | None:
        """The session's key; SessionNotFound where the session was opened by its handle."""
        key: str | None = self.session.session_key
        if key is None and self.has_id:
            raise SessionNotFound(
                "dirigible_session: the id of a session that was opened by its handle is not "
                "known, since the store does not keep it. get_handle() works."
            )
        return key

    @property
    def digest(self) -> str | None:
        """The digest that the store knows the session by."""
        digest: str | None = getattr(self.session, "digest", None)
        return digest or super().digest

    def read_times(self, data: Data) -> Times | None:
        """Return what the engine read."""
        times: Times | None = self.session.times
        return times

    def write_times(self, data: Data, times: Times) -> None:
        """Let the engine write them."""
        # A copy, since the engine takes the times that it read for none that were given to it.
        self.session.times = replace(times)

    def is_gone(self) -> bool:
        """Return False: the engine brings no session back."""
        return False

    async def ais_gone(self) -> bool:
        """Async twin of :meth:`is_gone`."""
        return False

    def touch(self) -> None:
        """Let the engine do it."""
        if self.session.touch(self.times_to_store().accessed):
            self.session.modified = TOUCHED

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        if await self.session.atouch(self.times_to_store().accessed):
            self.session.modified = TOUCHED


class DatabaseVisit(StockVisit):
    """A visit to Django's table, or one like it: a touch is one guarded UPDATE."""

    #: The data in the table as text, if it was read from the database that is written to.
    _text: str | None = None
    _expires: float | None = None

    @classmethod
    def session_class(cls, engine: type[SessionBase]) -> type[SessionBase]:
        """Return a class that finds a session that is over too, unless the engine reads its own."""
        base: Any = watched(engine)
        reads = vars(DatabaseStore)["_get_session_from_db"]
        if getattr(engine, "_get_session_from_db", None) is not reads:
            return base  # type: ignore[no-any-return]

        class SessionStore(base):  # type: ignore[misc]
            def _get_session_from_db(self) -> Any:
                # Django's finds no row that is over. Here the visit tells, as of its arrival.
                rows = self.model.objects.filter(session_key=self.session_key)
                return self._dirigible_visit.note_row(rows.first())

            async def _aget_session_from_db(self) -> Any:
                return await sync_to_async(self._get_session_from_db)()

        SessionStore.__module__, SessionStore.__qualname__ = base.__module__, base.__qualname__
        return SessionStore

    def note_row(self, row: Any) -> Any:
        """Remember what was read; no row, no key."""
        if row is None:
            self.session._session_key = None
            return None
        self._expires = lifecycle.timestamp(row.expire_date)
        if row._state.db == router.db_for_write(type(row), instance=row):
            self._text = row.session_data
        return row

    def limit_passed(self, data: Data) -> Reason | None:
        """Return by which limit it is over: the table's expiry ends it too."""
        reason = super().limit_passed(data)
        if reason is None and self._expires is not None and self._expires <= self.arrived:
            return Reason.IDLE
        return reason

    def stored_at(self, data: Data) -> float | None:
        """Return when it was last stored, reckoned from its expiry."""
        expiry = data.get(EXPIRY_KEY)
        if self._expires is None or isinstance(expiry, (str, datetime)):
            return None
        age = expiry if lifecycle.is_seconds(expiry) and expiry else None
        return self._expires - (age or self.session.get_session_cookie_age())

    def touch(self) -> None:
        """Renew the row, if its data is still what was read there."""
        if self._renew():
            self.session.modified = TOUCHED

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        if await sync_to_async(self._renew)():
            self.session.modified = TOUCHED

    def _renew(self) -> bool:
        session, model = self.session, self.session.model
        rows = model._base_manager.using(router.db_for_write(model)).filter(
            session_key=session.session_key
        )
        text = self._text
        # A rival may write between the two, but not for ever.
        for _ in range(3):
            if text is None:
                text = rows.values_list("session_data", flat=True).first()
            if text is None:
                return False
            renewed = self._renewed(text)
            if renewed is None:
                return False
            if rows.filter(session_data=text).update(**renewed):
                self._drop_copy()
                return True
            text = None
        return False

    def _renewed(self, text: str) -> dict[str, Any] | None:
        session = self.session
        data = session.decode(text)
        found = Times.from_record(data.get(lifecycle.TIMES_KEY))
        if found is None and not data:
            # Most likely written with another SECRET_KEY.
            return None
        times = self.times_to_store()
        if found is not None:
            times = replace(found, accessed=max(found.accessed, times.accessed))
        self.write_times(data, times)
        return {
            "session_data": session.encode(data),
            "expire_date": session.get_expiry_date(expiry=data.get(EXPIRY_KEY)),
        }

    def _drop_copy(self) -> None:
        """Drop what a cache has of the session, which is older now."""


class CachedDatabaseVisit(DatabaseVisit):
    """A visit to Django's table, of which there is a copy in a cache."""

    def _drop_copy(self) -> None:
        session = self.session
        session._cache.delete(session.cache_key_prefix + session.session_key)


class FileVisit(StockVisit):
    """A visit to the file engine, which never ends a session by its interval."""

    store_ends_idle = False
    #: What the engine decoded last.
    decoded: Mapping[str, Any] | None = None
    #: Whether the engine has deleted the session because it found it over.
    engine_deleted_it = False

    @classmethod
    def session_class(cls, engine: type[SessionBase]) -> type[SessionBase]:
        """Return a class that remembers what it decodes, since the engine may find it over."""
        base: Any = watched(engine)

        class SessionStore(base):  # type: ignore[misc]
            def decode(self, session_data: Any) -> Any:
                self._dirigible_visit.decoded = data = super().decode(session_data)
                return data

        SessionStore.__module__, SessionStore.__qualname__ = base.__module__, base.__qualname__
        return SessionStore

    def may_create(self) -> bool:
        """Return whether to create: the engine does in place of a session that is over."""
        if self.is_loading and self.decoded and self.session.session_key is not None:
            self.note_over(Reason.IDLE, dict(self.decoded))
            self.engine_deleted_it = True
        return super().may_create()

    def delete_ended(self, ended: Ended) -> bool:
        """Delete a session that is over, unless the engine did; return whether to tell of it."""
        return self.engine_deleted_it or super().delete_ended(ended)

    async def adelete_ended(self, ended: Ended) -> bool:
        """Async twin of :meth:`delete_ended`."""
        return self.engine_deleted_it or await super().adelete_ended(ended)

    def stored_at(self, data: Data) -> float | None:
        """Return when the file was written."""
        with suppress(OSError):
            return float(self.session._last_modification().timestamp())
        return None


class CookieVisit(StockVisit):
    """A visit that brings its session along: it needs an id of its own, which is kept in it."""

    store_ends_idle = False

    @classmethod
    def session_class(cls, engine: type[SessionBase]) -> type[SessionBase]:
        """Return a class that takes cookies of any age.

        The engine takes none older than ``SESSION_COOKIE_AGE``, whatever the session's own interval
        (Django ticket #19201). One that has times is held to its interval instead.
        """
        base: Any = watched(engine)

        class SessionStore(base):  # type: ignore[misc]
            def get_session_cookie_age(self) -> Any:
                is_loading = self._dirigible_visit.is_loading
                return COOKIE_LIFETIME if is_loading else super().get_session_cookie_age()

        SessionStore.__module__, SessionStore.__qualname__ = base.__module__, base.__qualname__
        return SessionStore

    def limit_passed(self, data: Data) -> Reason | None:
        """Return by which limit it is over; without times, by its cookie's age."""
        if self.read_times(data) is None:
            age = self.session.get_session_cookie_age()
            if (self.stored_at(data) or 0) + age <= self.arrived:
                return Reason.IDLE
        return super().limit_passed(data)

    def note_over(self, reason: Reason, data: Data) -> None:
        """Do nothing: a cookie was never stored."""

    def stored_at(self, data: Data) -> float | None:
        """Return when the cookie was signed."""
        try:
            return float(b62_decode(str(self.session.session_key).rsplit(":", 2)[1]))
        except (IndexError, ValueError):
            # No signature of Django's: what was loaded is nothing.
            return 0.0

    @property
    def has_id(self) -> bool:
        """Whether an id is kept in the session."""
        return ID_KEY in self.data

    @property
    def session_id(self) -> str | None:
        """The id that is kept in the session."""
        return self.data.get(ID_KEY)

    def handle_of(self, session: SessionBase, data: Mapping[str, Any]) -> str:
        """Return the handle of the id that was kept in the session."""
        return handles.handle(str(data.get(ID_KEY)))

    def draw_id(self) -> None:
        """Draw it."""
        self.session[ID_KEY] = get_random_string(32, VALID_KEY_CHARS)

    def is_gone(self) -> bool:
        """Return False: the browser has it."""
        return False

    async def ais_gone(self) -> bool:
        """Async twin of :meth:`is_gone`."""
        return False

    @property
    def is_quiet(self) -> bool:
        """Whether the cookie stays as it is: not where it carries what was changed."""
        return super().is_quiet and not self.session.modified

    def is_old(self, times: Times) -> bool:
        """Return whether half of the interval has passed.

        Each answer that has the cookie may overtake another, and would undo what that one wrote.
        """
        interval = self.max_inactive_interval
        return self.arrived - times.accessed > (interval if interval > 0 else COOKIE_LIFETIME) / 2

    def touch(self) -> None:
        """Have the cookie sent, and the session with it."""
        self.session.modified = True

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        self.session.modified = True


def kind_of(engine: type[SessionBase]) -> type[StockVisit]:
    """Return the kind of the visits to an engine."""
    if getattr(engine, "keeps_times", False):
        return OwnVisit
    kinds: tuple[tuple[type[SessionBase], type[StockVisit]], ...] = (
        (CachedDatabaseStore, CachedDatabaseVisit),
        (DatabaseStore, DatabaseVisit),
        (FileStore, FileVisit),
        (CookieStore, CookieVisit),
    )
    return next((kind for store, kind in kinds if issubclass(engine, store)), StockVisit)
