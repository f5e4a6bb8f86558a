"""Visits to the different kinds of engines: one small class for each kind.

:func:`kind_of` chooses the kind, once for each engine.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
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
from dirigible_session.lifecycle import COOKIE_LIFETIME, EXPIRY_KEY, ID_KEY, TIMES_KEY, Times
from dirigible_session.signals import Reason

from .session import LOADED, TOUCHED, named_like
from .undone import UndoableVisit
from .visit import Arrival, Data, Ended, Stay, Visit

if TYPE_CHECKING:
    from collections.abc import Mapping

VISIT = "_dirigible_visit"
STAY = "_dirigible_stay"


def unwrapped(session: Any) -> Any:
    """Return the session inside a lazy object such as ``SimpleLazyObject`` or that of Channels."""
    while isinstance(session, LazyObject):
        lazy: Any = session
        if lazy._wrapped is empty:
            lazy._setup()
        session = lazy._wrapped
    return session


def watch(session: Any, stay: Stay) -> None:
    """Let a session of ``stay`` ask its visit, which is made on first use.

    A request that does not use its session costs no more than this.
    """
    engine: Any = type(session)
    session_class = CLASSES.get(engine) or class_for(engine)
    if session_class is engine:
        # The request passes through the middleware again.
        stay.visits = tuple(filter(None, [vars(session).get(VISIT)]))
        return
    session.__class__ = session_class
    session._dirigible_stay = stay
    if getattr(session, LOADED, None) is not None:
        # It was loaded before the middleware.
        visit = session._dirigible_visit
        if visit.is_found:
            session._session_cache = visit.judge(session._session_cache)


def begin(session: Any, stay: Stay) -> Visit:
    """Return the visit of a session. If it has none yet, create it in ``stay``."""
    session = unwrapped(session)
    if STAY not in vars(session):
        watch(session, stay)
    visit: Visit = session._dirigible_visit
    if visit not in stay.visits:
        # The session came from another stay.
        stay.visits += (visit,)
    return visit


class _VisitOnFirstUse:
    """The visit of a session, made on first use."""

    def __init__(self, kind: type[Visit], engine: type[SessionBase]) -> None:
        self._kind = kind
        self._engine = engine

    def __get__(self, session: Any, owner: type) -> Any:
        stay = session._dirigible_stay
        made = self._kind(session, self._engine, stay)
        # Two threads that use the session first get the same visit.
        visit = vars(session).setdefault(VISIT, made)
        if visit is made:
            stay.visits += (visit,)
        return visit


#: The classes of sessions in a request, by the engine's ``SessionStore`` that each is derived from.
#: Each is also there by itself.
CLASSES: dict[Any, type[SessionBase]] = {}


def class_for(engine: type[SessionBase]) -> type[SessionBase]:
    """Return the class of an engine's sessions in a request."""
    if engine not in CLASSES:
        kind = kind_of(engine)
        session_class: Any = kind.session_class(engine)
        session_class._dirigible_visit = _VisitOnFirstUse(kind, engine)
        session_class = CLASSES.setdefault(engine, session_class)
        CLASSES[session_class] = session_class
    return CLASSES[engine]


class OwnVisit(UndoableVisit):
    """A visit to an engine that has columns for the times, and applies the limits itself."""

    engine_detects_end = True

    def __init__(self, session: Any, engine: type[SessionBase], stay: Arrival) -> None:
        super().__init__(session, engine, stay)
        session.judged_at = self.arrived

    def limit_passed(self, data: Data) -> Reason | None:
        """Return None: the engine does not load expired sessions."""
        return None

    def judge(self, data: Data) -> Data:
        """Note the session that the engine found expired, if any."""
        over = getattr(self.session, "found_over", None)
        if over is not None:
            timeout = lifecycle.absolute_end(over.times, conf.absolute_timeout)
            is_timeout = timeout is not None and timeout <= self.arrived
            with suppress(ValueError):
                self.note_expired(Reason.TIMEOUT if is_timeout else Reason.IDLE, over.parsed())
        return super().judge(data)

    def delete_ended(self, ended: Ended) -> bool:
        """Delete the session, if it is still there and unchanged."""
        return bool(self.session.end_found_over())

    async def adelete_ended(self, ended: Ended) -> bool:
        """Async twin of :meth:`delete_ended`."""
        return bool(await self.session.aend_found_over())

    def was_deleted(self) -> bool:
        """Return whether this request deleted the session, and not another one."""
        return bool(getattr(self.session, "was_deleted", True))

    @property
    def is_found(self) -> bool:
        """Whether a session was found. One that was opened by its handle has no key."""
        key = self.session.session_key
        return key is not None or getattr(self.session, "digest", None) is not None

    @property
    def session_id(self) -> str | None:
        """The session's key. Raises SessionNotFound if the session was opened by its handle."""
        key: str | None = self.session.session_key
        if key is None and self.has_id:
            raise SessionNotFound(
                "dirigible_session: the store does not keep the ids of sessions, so a session that "
                "was opened by its handle has none here. Use get_handle()."
            )
        return key

    @property
    def digest(self) -> str | None:
        """The digest that is the session's key in the store."""
        digest: str | None = getattr(self.session, "digest", None)
        return digest or super().digest

    def read_times(self, data: Data) -> Times | None:
        """Return the times that the engine read."""
        times: Times | None = self.session.times
        return times

    def write_times(self, data: Data, times: Times) -> None:
        """Pass the times to the engine."""
        # A copy, since the engine ignores the very object that it read.
        self.session.times = replace(times)

    def touch(self) -> None:
        """Touch the session, which is one operation of the engine."""
        if self.session.touch(self.times_to_store().accessed):
            self.session.modified = TOUCHED

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        if await self.session.atouch(self.times_to_store().accessed):
            self.session.modified = TOUCHED


class DatabaseVisit(UndoableVisit):
    """A visit to Django's table, or a similar one: a touch is one guarded UPDATE."""

    #: The encoded data, if it was read from the database that sessions are written to.
    _text: str | None = None
    _expires: float | None = None

    @classmethod
    def session_class(cls, engine: type[SessionBase]) -> type[SessionBase]:
        """Return a class that also reads expired rows, unless the engine reads its rows itself."""
        base: Any = super().session_class(engine)
        reads = vars(DatabaseStore)["_get_session_from_db"]
        if getattr(engine, "_get_session_from_db", None) is not reads:
            return base  # type: ignore[no-any-return]

        class SessionStore(base):  # type: ignore[misc]
            def _get_session_from_db(self) -> Any:
                # Django ignores expired rows. The visit decides, as of the arrival of its request.
                rows = self.model.objects.filter(session_key=self.session_key)
                return self._dirigible_visit.note_row(rows.first())

            async def _aget_session_from_db(self) -> Any:
                return await sync_to_async(self._get_session_from_db)()

        return named_like(engine, SessionStore)

    def note_row(self, row: Any) -> Any:
        """Remember the row that was read. Without a row, the session loses its key."""
        if row is None:
            self.session._session_key = None
            return None
        self._expires = lifecycle.timestamp(row.expire_date)
        if row._state.db == router.db_for_write(type(row), instance=row):
            self._text = row.session_data
        return row

    def limit_passed(self, data: Data) -> Reason | None:
        """Return the limit that the session has passed: ``expire_date`` is an idle limit."""
        reason = super().limit_passed(data)
        if reason is None and self._expires is not None and self._expires <= self.arrived:
            return Reason.IDLE
        return reason

    def stored_at(self, data: Data) -> float | None:
        """Return when the row was last written, calculated from its expiry."""
        expiry = data.get(EXPIRY_KEY)
        if self._expires is None or isinstance(expiry, (str, datetime)):
            return None
        age = expiry if lifecycle.is_seconds(expiry) and expiry else None
        return self._expires - (age or self.session.get_session_cookie_age())

    def touch(self) -> None:
        """Renew the row, if its data is unchanged."""
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
        # A rival may write between the read and the UPDATE, so try again, but not for ever.
        for _ in range(3):
            if text is None:
                text = rows.values_list("session_data", flat=True).first()
            data = {} if text is None else session.decode(text)
            if not data:
                # The session is gone, or was written with another SECRET_KEY.
                return False
            times = self.times_to_store()
            found = Times.from_record(data.get(TIMES_KEY))
            if found is not None:
                times = replace(found, accessed=max(found.accessed, times.accessed))
            self.write_times(data, times)
            renewed = {
                "session_data": session.encode(data),
                "expire_date": session.get_expiry_date(expiry=data.get(EXPIRY_KEY)),
            }
            if rows.filter(session_data=text).update(**renewed):
                self.drop_cached()
                return True
            text = None
        return False

    def drop_cached(self) -> None:
        """Drop the copy of the row in a cache, if the engine has one."""


class CachedDatabaseVisit(DatabaseVisit):
    """A visit to Django's table with copies of its rows in a cache."""

    def drop_cached(self) -> None:
        """Drop the copy, which is older than the row now."""
        session = self.session
        session._cache.delete(session.cache_key_prefix + session.session_key)


class FileVisit(Visit):
    """A visit to the file engine, which never ends a session by its interval."""

    store_ends_idle = False
    #: The data that the engine decoded last.
    decoded: Mapping[str, Any] | None = None
    #: Whether the engine has deleted the expired session.
    engine_deleted_it = False

    @classmethod
    def session_class(cls, engine: type[SessionBase]) -> type[SessionBase]:
        """Return a class that remembers what it decoded, since the engine hides expired data."""
        base: Any = super().session_class(engine)

        class SessionStore(base):  # type: ignore[misc]
            def decode(self, session_data: Any) -> Any:
                self._dirigible_visit.decoded = data = super().decode(session_data)
                return data

        return named_like(engine, SessionStore)

    def may_create(self) -> bool:
        """Return whether to create a session, which the engine also does for an expired one."""
        if self.is_loading and self.decoded and self.session.session_key is not None:
            self.note_expired(Reason.IDLE, dict(self.decoded))
            self.engine_deleted_it = True
        return super().may_create()

    def delete_ended(self, ended: Ended) -> bool:
        """Delete an expired session, unless the engine did; return whether to notify receivers."""
        return self.engine_deleted_it or super().delete_ended(ended)

    async def adelete_ended(self, ended: Ended) -> bool:
        """Async twin of :meth:`delete_ended`."""
        return self.engine_deleted_it or await super().adelete_ended(ended)

    def stored_at(self, data: Data) -> float | None:
        """Return when the file was written."""
        with suppress(OSError):
            return float(self.session._last_modification().timestamp())
        return None


class CookieVisit(Visit):
    """A visit to the signed_cookies engine, whose sessions need an id in their data."""

    store_ends_idle = False
    engine_detects_end = True

    @classmethod
    def session_class(cls, engine: type[SessionBase]) -> type[SessionBase]:
        """Return a class that loads cookies of any age.

        The engine refuses those older than ``SESSION_COOKIE_AGE``, whatever the session's own
        interval (Django ticket #19201). With times, the session's interval is applied instead.
        """
        base: Any = super().session_class(engine)

        class SessionStore(base):  # type: ignore[misc]
            def get_session_cookie_age(self) -> Any:
                is_loading = self._dirigible_visit.is_loading
                return COOKIE_LIFETIME if is_loading else super().get_session_cookie_age()

        return named_like(engine, SessionStore)

    def limit_passed(self, data: Data) -> Reason | None:
        """Return the limit that the session has passed; without times, by the cookie's age."""
        if self.read_times(data) is None:
            age = self.session.get_session_cookie_age()
            if (self.stored_at(data) or 0) + age <= self.arrived:
                return Reason.IDLE
        return super().limit_passed(data)

    def note_expired(self, reason: Reason, data: Data) -> None:
        """Do nothing: the session was never stored."""

    def stored_at(self, data: Data) -> float | None:
        """Return when the cookie was signed."""
        try:
            return float(b62_decode(str(self.session.session_key).rsplit(":", 2)[1]))
        except (IndexError, ValueError):
            # The cookie has no signature of Django's, so nothing was loaded from it.
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
        """Draw the id that is kept in the session."""
        self.session[ID_KEY] = get_random_string(32, VALID_KEY_CHARS)

    @property
    def is_quiet(self) -> bool:
        """Whether to send no cookie: but a changed session must be sent."""
        return super().is_quiet and not self.session.modified

    @property
    def time_left(self) -> int | None:
        """The seconds until the session ends; if the cookie is not sent, as it says."""
        is_kept = self.client_knows_it and not (self.session.modified or self.is_touch_due)
        if is_kept and not settings.SESSION_SAVE_EVERY_REQUEST:
            return self.time_left_after(self.times)
        return super().time_left

    def is_old(self, times: Times) -> bool:
        """Return whether half of the interval has passed.

        Each response with the cookie may overtake another, and would undo its changes.
        """
        interval = self.max_inactive_interval
        return self.arrived - times.accessed > (interval if interval > 0 else COOKIE_LIFETIME) / 2

    def touch(self) -> None:
        """Let the session middleware send the cookie, which has the session in it."""
        self.session.modified = True

    async def atouch(self) -> None:
        """Async twin of :meth:`touch`."""
        self.session.modified = True


def kind_of(engine: type[SessionBase]) -> type[Visit]:
    """Return the class of the visits to an engine."""
    if getattr(engine, "keeps_times", False):
        return OwnVisit
    kinds: tuple[tuple[type[SessionBase], type[Visit]], ...] = (
        (CachedDatabaseStore, CachedDatabaseVisit),
        (DatabaseStore, DatabaseVisit),
        (FileStore, FileVisit),
        (CookieStore, CookieVisit),
    )
    return next((kind for store, kind in kinds if issubclass(engine, store)), Visit)
