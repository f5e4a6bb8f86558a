"""The engine contract: what an engine of our own promises on top of Django's ``SessionBase``.

An engine derives from :class:`EngineBase` and implements :class:`~.operations.Operations`, each of
them sync and async. What is decided, is decided here, once: an operation only does it.

**Keys.** The store knows a session by its digest (``handles.digest``), nowhere by its key.

**Data.** JSON, whatever ``SESSION_SERIALIZER`` says, a text for each attribute. Attributes come
back in the order in which they were first set; one that was removed and set again comes last.

**Missing is no error.** Loading a session that is not there, or is over, gives ``{}`` and a store
without a key. Deleting twice is fine. A touch of a session that is gone says so by False.

**No lost updates.** A save stores what this request changed (a :class:`~.mapping.Delta`: the JSON
text of each attribute against what was loaded, so a change in place counts; and what was set, even
to what it was), laid over what is stored by then. Of two requests that change the same attribute,
the one that saves last wins. An attribute that a request only read is never written back.
``clear()`` removes all that is stored at the time of the save, a rival's new attributes too.

**No resurrection.** Only ``create`` makes a session. A save of one that is gone, or a save after a
change of its key elsewhere, raises ``UpdateError`` and stores nothing; also where the session was
gone when its key was changed: the change of key then passes quietly, and the save raises.
``UpdateError`` says that the session is gone, and nothing else: what the store's connection raises
(a lost server, a deadlock) comes out as it is, and a conflict that can't be resolved is a
``SessionConflict``.

**Times.** ``times`` is what is stored, from the time of the load; :mod:`..lifecycle` replaces it
before a save. A save to which nobody gave times (no middleware of ours) counts as an access now.
The stored last access never goes back, nor is the creation time ever changed. ``touch`` writes the
last access and what follows from it, and no attribute. Where a rival changed the interval
meanwhile, the end of the session follows from the rival's interval.

**Expiry.** A session ends at :meth:`EngineBase.end_of`; from that moment on it is as good as gone
to ``load``. What ``clear_expired`` finds, it deletes in batches.

**Errors** are not swallowed: data that can't be decoded is logged to Django's security logger, and
loads as ``{}``, as with Django's own engines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from django.contrib.sessions.backends.base import (
    VALID_KEY_CHARS,
    CreateError,
    SessionBase,
    UpdateError,
)
from django.contrib.sessions.serializers import JSONSerializer
from django.utils.crypto import get_random_string

from dirigible_session import handles, lifecycle
from dirigible_session.conf import conf
from dirigible_session.lifecycle import Times
from dirigible_session.stored import from_document

from . import mapping
from .batch import BatchOperations
from .data import LoadedData, log_damage
from .mapping import Delta
from .operations import Change, StoredData

Engine = TypeVar("Engine", bound="EngineBase")

_DATA = "_session_cache"


class EngineBase(BatchOperations, SessionBase):
    """A session store that loses no update and keeps no usable id; see the module's docstring."""

    #: The times are the store's, see ``lifecycle``.
    keeps_times = True
    #: Whether readers can walk the stored sessions, see :class:`~.listing.Listable`.
    can_list = False
    #: Whether the store gives all attributes as one text, see :class:`~.loaded.LoadedData`.
    reads_whole = False
    #: Seconds that a store which deletes by itself waits once a session is over.
    grace = 0

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self.serializer = JSONSerializer
        #: The session's times, as stored or as the next save shall store them; None before.
        self.times: Times | None = None
        #: The times that nobody replaced since the load or the last save.
        self._stored_times: Times | None = None
        #: What the last load found stored, if that was over; its data is in ``parsed()``.
        self.found_over: StoredData | None = None
        self._found_over_digest = ""
        #: What stands for the key of a session that was found by its digest.
        self._digest: str | None = None
        self._digested = ("", "")

    @property
    def digest(self) -> str | None:
        """What the store knows the session by; None if it has no key yet."""
        key = self.session_key
        if key is None:
            return self._digest
        if key != self._digested[0]:
            self._digested = (key, handles.digest(key))
        return self._digested[1]

    def end_of(self, data: Mapping[str, Any], times: Times) -> float | None:
        """Return when a session with this data and these times ends; None: never."""
        return lifecycle.end_of(
            data,
            times,
            cookie_age=self.get_session_cookie_age(),
            absolute_timeout=conf.absolute_timeout,
        )

    @classmethod
    def by_digest(cls: type[Engine], digest: str) -> Engine:
        """Return the loaded store of one session, to be read or flushed; LookupError if gone.

        It has no session key, since none is known.
        """
        store = cls()
        stored = store._read(digest)
        if stored is None:
            raise LookupError(f"dirigible_session: no session has the digest {digest!r}.")
        store._digest = digest
        setattr(store, _DATA, store._loaded(stored))
        return store

    def encode(self, session_dict: Mapping[str, Any]) -> str:
        """Return the data as JSON."""
        return mapping.to_document(mapping.to_texts(session_dict))

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        """Return the data of a JSON text; {} if it is damaged, which is logged."""
        try:
            return from_document(session_data)
        except ValueError:
            log_damage()
            return {}

    def load(self) -> dict[str, Any]:
        """Return the stored data; {}, and no key, if the session is over or not there."""
        digest = self.digest
        return self._admitted(None if digest is None else self._read(digest))

    async def aload(self) -> dict[str, Any]:
        """Async twin of :meth:`load`."""
        digest = self.digest
        return self._admitted(None if digest is None else await self._aread(digest))

    def _data(self, *, no_load: bool = False) -> dict[str, Any]:
        return self._get_session(no_load)  # type: ignore[attr-defined, no-any-return]

    async def _adata(self, *, no_load: bool = False) -> dict[str, Any]:
        return await self._aget_session(no_load)  # type: ignore[attr-defined, no-any-return]

    def _admitted(self, stored: StoredData | None) -> dict[str, Any]:
        self.found_over = None
        if stored is not None and self._is_over(stored):
            self.found_over, self._found_over_digest = stored, self.digest or ""
            stored = None
        if stored is None:
            self._forget()
            return {}
        loaded: dict[str, Any] = self._loaded(stored)
        return loaded

    def _is_over(self, stored: StoredData) -> bool:
        return stored.expires is not None and stored.expires <= time.time()

    def end_found_over(self) -> bool:
        """Delete what the last load found over, if it is still as it was found.

        Return whether this call deleted it: of several, one does.
        """
        found = self.found_over
        return found is not None and self._remove_if(self._found_over_digest, found)

    async def aend_found_over(self) -> bool:
        """Async twin of :meth:`end_found_over`."""
        found = self.found_over
        return found is not None and await self._aremove_if(self._found_over_digest, found)

    def _loaded(self, stored: StoredData) -> Any:
        self.times = self._stored_times = stored.times
        data = LoadedData(stored)
        if self.reads_whole:
            data.read()
        return data

    def _forget(self) -> None:
        self._session_key = None
        self._digest = self.times = self._stored_times = None

    def exists(self, session_key: str | None) -> bool:
        """Return whether a session with this key is stored, expired or not."""
        return session_key is not None and self._has(handles.digest(session_key))

    async def aexists(self, session_key: str | None) -> bool:
        """Async twin of :meth:`exists`."""
        return session_key is not None and await self._ahas(handles.digest(session_key))

    def create(self) -> None:
        """Store the session under a new key."""
        while True:
            self._draw_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    async def acreate(self) -> None:
        """Async twin of :meth:`create`."""
        while True:
            self._draw_key()
            try:
                await self.asave(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def _draw_key(self) -> None:
        # Whether it is free is found out when it is stored. It is: it has 165 random bits.
        self._session_key = get_random_string(32, VALID_KEY_CHARS)

    def save(self, must_create: bool = False) -> None:
        """Store what changed; a session without a key gets one.

        CreateError if ``must_create`` and the key is taken; UpdateError if it is gone.
        """
        digest = self.digest
        if digest is None:
            self.create()
            return
        data = self._data(no_load=must_create)
        if must_create:
            self._created(self._insert(digest, mapping.to_texts(data), self._times_to_store()))
        else:
            change = self._change(data, self._times_to_store())
            self._updated(data, change, self._update(digest, change))

    async def asave(self, must_create: bool = False) -> None:
        """Async twin of :meth:`save`."""
        digest = self.digest
        if digest is None:
            await self.acreate()
            return
        data = await self._adata(no_load=must_create)
        if must_create:
            self._created(
                await self._ainsert(digest, mapping.to_texts(data), self._times_to_store())
            )
        else:
            change = self._change(data, self._times_to_store())
            self._updated(data, change, await self._aupdate(digest, change))

    def _times_to_store(self) -> Times:
        now = time.time()
        if self.times is None:
            return Times(now, now)
        if self.times is self._stored_times:
            return replace(self.times, accessed=max(now, self.times.accessed))
        return self.times

    def _change(
        self, data: Mapping[str, Any], times: Times, new_digest: str | None = None
    ) -> Change:
        if self.digest is None:
            raise UpdateError  # Loaded just now, and over.
        if isinstance(data, LoadedData):
            return Change(data.delta(), times, data.stored, new_digest)
        return Change(Delta(mapping.to_texts(data), clears=True), times, None, new_digest)

    def _created(self, stored: StoredData | None) -> None:
        if stored is None:
            raise CreateError
        self.times = self._stored_times = stored.times
        setattr(self, _DATA, LoadedData(stored, dict(getattr(self, _DATA))))

    def _updated(self, data: dict[str, Any], change: Change, stored: StoredData | None) -> None:
        if stored is None:
            raise UpdateError
        self.times = self._stored_times = stored.times
        self._once_durable(partial(self._keep, data, change.delta, stored))

    def _once_durable(self, note: Callable[[], None]) -> None:
        """Take note of what was stored, once nothing can undo it any more."""
        note()

    def _keep(self, data: Any, delta: Delta, stored: StoredData) -> None:
        if isinstance(data, LoadedData):
            data.saved(delta, stored)
        else:
            setattr(self, _DATA, LoadedData(stored, data))

    def touch(self, accessed: float) -> bool:
        """Record a later last access, in seconds since the epoch, and write no attribute.

        Return whether the session is still there.
        """
        data, digest = self._data(), self.digest
        if digest is None:
            return False
        loaded = data.stored if isinstance(data, LoadedData) else self._read(digest)
        return self._touched(accessed, loaded is not None and self._renew(digest, loaded, accessed))

    async def atouch(self, accessed: float) -> bool:
        """Async twin of :meth:`touch`."""
        data, digest = await self._adata(), self.digest
        if digest is None:
            return False
        loaded = data.stored if isinstance(data, LoadedData) else await self._aread(digest)
        return self._touched(
            accessed, loaded is not None and await self._arenew(digest, loaded, accessed)
        )

    def _touched(self, accessed: float, is_there: bool) -> bool:
        if is_there and self.times is not None and self.times.accessed < accessed:
            self.times = self._stored_times = replace(self.times, accessed=accessed)
        return is_there

    def delete(self, session_key: str | None = None) -> None:
        """Delete a session, this one by default; one that is not there is no error."""
        digest = self.digest if session_key is None else handles.digest(session_key)
        if digest is not None:
            self._remove(digest)

    async def adelete(self, session_key: str | None = None) -> None:
        """Async twin of :meth:`delete`."""
        digest = self.digest if session_key is None else handles.digest(session_key)
        if digest is not None:
            await self._aremove(digest)

    def flush(self) -> None:
        """Delete the session; what comes after it is a new one."""
        super().flush()
        self._forget()

    async def aflush(self) -> None:
        """Async twin of :meth:`flush`."""
        await super().aflush()
        self._forget()

    def cycle_key(self) -> None:
        """Give the session another key and store what changed; its creation time stays."""
        data, digest = self._data(), self.digest
        if digest is None:
            self.create()
            return
        with self._another_key():
            change = self._change_of_key(data)
            self._cycled(data, change, self._update(digest, change))

    async def acycle_key(self) -> None:
        """Async twin of :meth:`cycle_key`."""
        data, digest = await self._adata(), self.digest
        if digest is None:
            await self.acreate()
            return
        with self._another_key():
            change = self._change_of_key(data)
            self._cycled(data, change, await self._aupdate(digest, change))

    @contextmanager
    def _another_key(self) -> Iterator[None]:
        old_key = self.session_key
        self._draw_key()
        try:
            yield
        except BaseException:
            # As far as anybody knows, the session is where it was.
            self._session_key = old_key
            raise

    def _change_of_key(self, data: Mapping[str, Any]) -> Change:
        return self._change(data, self.times or self._times_to_store(), self.digest)

    def _cycled(self, data: dict[str, Any], change: Change, stored: StoredData | None) -> None:
        self.modified = True
        # A session that is gone has a new key and no row: the save at the end of the request
        # finds that out, and Django's middleware knows how to say it.
        if stored is not None:
            self._updated(data, change, stored)
