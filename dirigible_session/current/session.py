"""The class of ``request.session``: derived from its engine's ``SessionStore``, it asks its visit.

Every load, save, flush and change of key of ``request.session`` passes through here, whether the
facade, a view, ``request.user`` or a login asks for it.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from django.contrib.sessions.backends.base import UpdateError
from django.utils import timezone

from dirigible_session import lifecycle
from dirigible_session.signals import login_stored

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

Data = dict[str, Any]

#: The attribute in which Django's ``SessionBase`` keeps the loaded data.
LOADED = "_session_cache"

#: The value of ``modified`` after a touch: the session middleware sends the cookie of a session
#: that is modified, but there is nothing to save, unless the session is modified again.
TOUCHED: Any = "touched"

#: The visit whose session is being loaded in this thread or task.
LOADING: ContextVar[Any] = ContextVar("dirigible_session_loading", default=None)

#: The attributes that a session has in a request beside those of its engine.
OWN_STATE = frozenset({"_dirigible_visit", "_dirigible_stay"})


def as_it_is(session: Any) -> Any:
    """Return a session that was copied or unpickled."""
    return session


@cache
def watched(engine: type[SessionBase]) -> type[SessionBase]:
    """Return the class of an engine's sessions in a request; its only base is the engine's."""

    class SessionStore(engine):  # type: ignore[misc,valid-type]
        def load(self) -> Data:
            visit = self._dirigible_visit
            if visit.is_loading:
                # An engine's aload() may call load().
                return super().load()  # type: ignore[no-any-return]
            if LOADED in vars(self):
                # An explicit load() reads the stored session again.
                return visit.fresh().session.load()  # type: ignore[no-any-return]
            visit.loading_key = self.session_key
            token = LOADING.set(visit)
            try:
                data = super().load()
            finally:
                LOADING.reset(token)
            return visit.data_to_use(data)  # type: ignore[no-any-return]

        async def aload(self) -> Data:
            visit = self._dirigible_visit
            if LOADED in vars(self):
                return await visit.fresh().session.aload()  # type: ignore[no-any-return]
            visit.loading_key = self.session_key
            token = LOADING.set(visit)
            try:
                data = await super().aload()
            finally:
                LOADING.reset(token)
            return visit.data_to_use(data)  # type: ignore[no-any-return]

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
            try:
                super().save(must_create)
            except UpdateError:
                if not visit.may_be_limited:
                    raise
            if visit.saved():
                login_stored.send_robust(visit.engine, session=self, request=visit.request)
            if visit.closed:
                visit.notify()

        async def asave(self, must_create: bool = False) -> None:
            visit = self._dirigible_visit
            if self.modified is TOUCHED and not must_create:
                return
            if not must_create:
                await visit.aload_data()
            visit.complete(must_create)
            try:
                await super().asave(must_create)
            except UpdateError:
                if not visit.may_be_limited:
                    raise
            if visit.saved():
                await login_stored.asend_robust(visit.engine, session=self, request=visit.request)
            if visit.closed:
                await visit.anotify()

        def clear(self) -> None:
            self._dirigible_visit.cleared()
            super().clear()

        def flush(self) -> None:
            visit = self._dirigible_visit
            if visit.tells_ends:
                visit.load_data()
            ending = visit.ending()
            if ending is not None and visit.tells_ends and visit.is_gone():
                # Another request has ended it, and sent the signal.
                ending = None
            super().flush()
            visit.flushed(ending)

        async def aflush(self) -> None:
            visit = self._dirigible_visit
            if visit.tells_ends:
                await visit.aload_data()
            ending = visit.ending()
            if ending is not None and visit.tells_ends and await visit.ais_gone():
                # Another request has ended it, and sent the signal.
                ending = None
            await super().aflush()
            visit.flushed(ending)

        def cycle_key(self) -> None:
            visit = self._dirigible_visit
            visit.load_data()
            old_handle = visit.handle
            visit.draw_id()
            super().cycle_key()
            visit.note_change_of_id(old_handle)

        async def acycle_key(self) -> None:
            visit = self._dirigible_visit
            await visit.aload_data()
            old_handle = visit.handle
            await super().acycle_key()
            visit.note_change_of_id(old_handle)

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

        def get_expiry_age(self, **kwargs: Any) -> Any:
            visit = self._dirigible_visit
            left = visit.seconds_left if visit.keeps_end and not kwargs else None
            return super().get_expiry_age(**kwargs) if left is None else int(left)

        async def aget_expiry_age(self, **kwargs: Any) -> Any:
            if kwargs:
                return await super().aget_expiry_age(**kwargs)
            await self._dirigible_visit.aload_data()
            return self.get_expiry_age()

        def get_expiry_date(self, **kwargs: Any) -> Any:
            visit = self._dirigible_visit
            left = visit.seconds_left if visit.keeps_end and not kwargs else None
            if left is None:
                return super().get_expiry_date(**kwargs)
            return timezone.now() + timedelta(seconds=left)

        async def aget_expiry_date(self, **kwargs: Any) -> Any:
            if kwargs:
                return await super().aget_expiry_date(**kwargs)
            await self._dirigible_visit.aload_data()
            return self.get_expiry_date()

        def detached(self) -> Any:
            """Return the same session as one of its engine's class, of no request."""
            state = {name: value for name, value in vars(self).items() if name not in OWN_STATE}
            session = engine.__new__(engine)
            vars(session).update(state)
            return session

        def __reduce_ex__(self, protocol: Any) -> Any:
            # Copies and pickles are of the engine's class.
            return as_it_is, (self.detached(),)

    return named_like(engine, SessionStore)


def named_like(engine: type[SessionBase], session_class: type[SessionBase]) -> type[SessionBase]:
    """Give a class its engine's name and return it: Django salts signatures with the name."""
    session_class.__module__ = engine.__module__
    session_class.__qualname__ = engine.__qualname__
    return session_class
