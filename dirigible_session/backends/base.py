"""The base class of this package's engines: Django's session API on top of an engine's operations.

An engine derives from :class:`EngineBase` and implements :class:`~.operations.Operations`. All
decisions are made here; an operation only reads or writes. A sync method and its async twin run
the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from django.contrib.sessions.backends.base import (
    VALID_KEY_CHARS,
    CreateError,
    SessionBase,
    UpdateError,
)
from django.contrib.sessions.serializers import JSONSerializer
from django.utils.crypto import get_random_string
from django.views.decorators.debug import sensitive_variables

from dirigible_session import handles, lifecycle
from dirigible_session.conf import conf
from dirigible_session.lifecycle import Times
from dirigible_session.stored import from_document

from . import mapping
from .batch import BatchOperations
from .data import SessionData, log_damage
from .mapping import Confidential, Delta
from .operations import Change, StoredData

Engine = TypeVar("Engine", bound="EngineBase")
T = TypeVar("T")

#: A generator that yields the name of a method and its arguments, and is sent the method's result.
Steps = Generator[tuple[Any, ...], Any, T]

#: The attribute in which Django's SessionBase keeps the loaded data.
_DATA = "_session_cache"

#: The steps that are not operations, with their async twins.
_TWINS = {"create": "acreate", "_get_session": "_aget_session"}


@dataclass
class _NewKey:
    """A new session key. Its 165 random bits make it unique."""

    key: str = field(default_factory=lambda: get_random_string(32, VALID_KEY_CHARS), repr=False)

    @property
    def digest(self) -> str:
        return handles.digest(self.key)


class EngineBase(BatchOperations, SessionBase):
    """A session store that loses no update and keeps no usable id.

    It stores each attribute as JSON text, whatever ``SESSION_SERIALIZER`` says. Attributes keep
    the order in which they were first set; an attribute that was removed and set again is last.

    A request never sees the changes of other requests. A save applies the request's own changes to
    the state that is stored by then: if two requests change the same attribute, the last save
    wins, and two changes of a dict are merged key by key.
    """

    #: The times are kept by the store, not in the data, see ``lifecycle``.
    keeps_times = True
    #: Whether readers can walk the stored sessions, see ``stored.Listable``.
    can_list = False
    #: Whether all attributes are stored as one text, so that a load parses all of them.
    reads_whole = False
    #: Seconds from a session's expiry to its deletion, in a store that deletes by itself.
    grace = 0
    #: The time to compare a session's expiry with, in seconds since the epoch; None: now.
    judged_at: float | None = None

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self.serializer = JSONSerializer
        #: The session's times, as stored or as the next save will store them; None before the
        #: first load or save. Unless they are replaced, a save counts as an access now.
        self.times: Times | None = None
        #: The times as of the load or the last save; ``times`` is another object if replaced.
        self._stored_times: Times | None = None
        #: The stored session, if the last load found it expired; ``parsed()`` returns its data.
        self.found_over: StoredData | None = None
        self._found_over_digest = ""
        #: Whether the last ``flush()`` deleted the session itself, and no rival did.
        self.was_deleted = False
        #: The digest of a session that was loaded by its digest and has no known key.
        self._digest: str | None = None
        self._digested = ("", "")

    @property
    def digest(self) -> str | None:
        """The digest under which the session is stored; None if it has no key yet."""
        key = self.session_key
        if key is None:
            return self._digest
        if key != self._digested[0]:
            self._digested = (key, handles.digest(key))
        return self._digested[1]

    def end_of(self, data: Mapping[str, Any], times: Times) -> float | None:
        """Return when such a session expires, in seconds since the epoch; None: never."""
        return lifecycle.end_of(
            data,
            times,
            cookie_age=self.get_session_cookie_age(),
            absolute_timeout=conf.absolute_timeout,
        )

    @classmethod
    def by_digest(cls: type[Engine], digest: str) -> Engine:
        """Return the loaded store of one session, to be read, saved or flushed.

        Its session key is None, since only the digest is known. LookupError if the session is
        gone or expired.
        """
        store = cls()
        return store._found_by(digest, store._read(digest))

    @classmethod
    async def aby_digest(cls: type[Engine], digest: str) -> Engine:
        """Async twin of :meth:`by_digest`."""
        store = cls()
        return store._found_by(digest, await store._in_async("_read", digest))

    def _found_by(self: Engine, digest: str, stored: StoredData | None) -> Engine:
        self._digest = digest
        data = self._loaded(stored)
        if self._digest is None:
            raise LookupError(f"dirigible_session: no session has the digest {digest!r}.")
        setattr(self, _DATA, data)
        return self

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

    # Loading.

    def load(self) -> dict[str, Any]:
        """Return the stored data; {}, without a key, if the session is expired or not stored.

        Data that can't be decoded loads as ``{}`` and is logged to Django's security logger, as
        with Django's own engines.
        """
        digest = self.digest
        data: dict[str, Any] = self._loaded(None if digest is None else self._read(digest))
        return data

    async def aload(self) -> dict[str, Any]:
        """Async twin of :meth:`load`."""
        digest = self.digest
        stored = None if digest is None else await self._in_async("_read", digest)
        data: dict[str, Any] = self._loaded(stored)
        return data

    def _loaded(self, stored: StoredData | None) -> Any:
        self.found_over = None
        if stored is not None and self._is_over(stored):
            self.found_over, self._found_over_digest = stored, self.digest or ""
        if stored is None or self.found_over is not None:
            self._forget()
            return {}
        self.times = self._stored_times = None if stored.error else stored.times
        data = SessionData(stored)
        if self.reads_whole:
            data.read()
        return data

    def _is_over(self, stored: StoredData) -> bool:
        return stored.expires is not None and stored.expires <= self._now()

    def _now(self) -> float:
        return time.time() if self.judged_at is None else self.judged_at

    def _forget(self) -> None:
        self._session_key = None
        self._digest = self.times = self._stored_times = None

    def end_found_over(self) -> bool:
        """Delete the session that the last load found expired, unless it has changed since.

        Return whether this call deleted it. Of several concurrent calls, only the first does.
        """
        return self._run(self._ending_found_over())

    async def aend_found_over(self) -> bool:
        """Async twin of :meth:`end_found_over`."""
        return await self._arun(self._ending_found_over())

    def _ending_found_over(self) -> Steps[bool]:
        found = self.found_over
        return found is not None and (yield "_remove_if", self._found_over_digest, found)

    def exists(self, session_key: str | None) -> bool:
        """Return whether a session with this key is stored, expired or not."""
        return self._run(self._existing(session_key))

    async def aexists(self, session_key: str | None) -> bool:
        """Async twin of :meth:`exists`."""
        return await self._arun(self._existing(session_key))

    def _existing(self, session_key: str | None) -> Steps[bool]:
        return session_key is not None and (yield "_has", handles.digest(session_key))

    # Saving.

    def create(self) -> None:
        """Store the session under a new key. No other method stores a new session."""
        while True:
            self._session_key = _NewKey().key
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    async def acreate(self) -> None:
        """Async twin of :meth:`create`."""
        while True:
            self._session_key = _NewKey().key
            try:
                await self.asave(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    @sensitive_variables()
    def save(self, must_create: bool = False) -> None:
        """Store the changes; a session without a key gets a new key.

        An attribute that the request only read is never written. After ``clear()``, all stored
        attributes are removed, including those that other requests have added.

        CreateError if ``must_create`` and the key is taken. UpdateError, and nothing is stored, if
        the session is gone or another request has changed its key. SessionConflict if too many
        attempts were overtaken by other requests.
        """
        self._run(self._saving(must_create))

    async def asave(self, must_create: bool = False) -> None:
        """Async twin of :meth:`save`."""
        await self._arun(self._saving(must_create))

    def _saving(self, must_create: bool) -> Steps[None]:
        self._take_back_undone()
        if self.digest is None:
            yield ("create",)
            return
        yield "_get_session", must_create
        data, digest = self._data(), self.digest
        if must_create:
            stored = yield "_insert", digest, mapping.to_texts(data), self._times_to_store()
            if stored is None:
                raise CreateError
            self._note_saved(None, Delta(), stored)
            return
        change = self._change(data, self._times_to_store())
        stored = yield "_update", digest, change
        if stored is None:
            raise UpdateError
        self._note_saved(data, change.delta, stored)

    def _data(self) -> SessionData | Confidential[Any]:
        data = getattr(self, _DATA)
        return data if isinstance(data, SessionData) else Confidential(data)

    def _times_to_store(self) -> Times:
        now = time.time()
        times = self.times
        if times is None:
            return Times(now, now)
        if times is self._stored_times:
            accessed = max(now, times.accessed)
            return Times(times.created, accessed, times.interval, times.authenticated)
        return times

    def _change(
        self,
        data: SessionData | Confidential[Any],
        times: Times,
        new_digest: str | None = None,
    ) -> Change:
        if self.digest is None:
            raise UpdateError  # It was loaded just now, and found expired.
        if isinstance(data, SessionData):
            return Change(data.delta(), times, data.stored, new_digest)
        return Change(Delta(mapping.to_texts(data), clears=True), times, None, new_digest)

    def _note_saved(
        self, data: SessionData | Confidential[Any] | None, delta: Delta, stored: StoredData
    ) -> None:
        """Note that the data, or all of the session (None), is stored now."""
        self.times = self._stored_times = stored.times
        if isinstance(data, SessionData):
            self._note_undoable(stored, data.saved(delta, stored))
            return
        setattr(self, _DATA, SessionData(stored, dict(getattr(self, _DATA))))
        self._note_undoable(stored, self._clear_again if data is not None else lambda: None)

    def _clear_again(self) -> None:
        setattr(self, _DATA, dict(getattr(self, _DATA)))

    def _note_undoable(self, stored: StoredData, take_back: Callable[[], None]) -> None:
        """Note how to take back a save, in case its transaction is rolled back."""

    def _take_back_undone(self) -> None:
        """Take back the saves that were rolled back."""

    # A touch.

    def touch(self, accessed: float) -> bool:
        """Record a later last access, in seconds since the epoch, and write no attribute.

        Return whether the session is still there.
        """
        return self._run(self._touching(accessed))

    async def atouch(self, accessed: float) -> bool:
        """Async twin of :meth:`touch`."""
        return await self._arun(self._touching(accessed))

    def _touching(self, accessed: float) -> Steps[bool]:
        yield ("_get_session",)
        data, digest = self._data(), self.digest
        if digest is None:
            return False
        loaded = data.stored if isinstance(data, SessionData) else (yield "_read", digest)
        is_there = loaded is not None and (yield "_renew", digest, loaded, accessed)
        if is_there and self.times is not None and self.times.accessed < accessed:
            self.times = self._stored_times = replace(self.times, accessed=accessed)
        return is_there

    # The end.

    def delete(self, session_key: str | None = None) -> bool:  # type: ignore[override]
        """Delete a session, this one by default; return whether this call deleted it.

        A missing session is not an error. By default, the session is also deleted if another
        request has changed its key since it was loaded.
        """
        return self._run(self._deleting(session_key))

    async def adelete(  # type: ignore[override]
        self, session_key: str | None = None
    ) -> bool:
        """Async twin of :meth:`delete`."""
        return await self._arun(self._deleting(session_key))

    def _deleting(self, session_key: str | None) -> Steps[bool]:
        self._take_back_undone()
        loaded = None
        if session_key is None:
            data = vars(self).get(_DATA)
            loaded = data.stored if isinstance(data, SessionData) else None
        digest = self.digest if session_key is None else handles.digest(session_key)
        return digest is not None and bool((yield "_remove", digest, loaded))

    def flush(self) -> None:
        """Delete the session and continue with a new, empty session."""
        self.was_deleted = self.delete()
        self.clear()
        self._forget()

    async def aflush(self) -> None:
        """Async twin of :meth:`flush`."""
        self.was_deleted = await self.adelete()
        self.clear()
        self._forget()

    # A change of key.

    @sensitive_variables()
    def cycle_key(self) -> None:
        """Give the session a new key and store the changes; its creation time stays.

        If another request has already changed the key, this request continues with a copy of the
        session, so that the cookies of both responses open a live session. A session that was
        ended meanwhile is not stored again: this method raises nothing, but the next save raises
        UpdateError.
        """
        self._run(self._changing_key())

    async def acycle_key(self) -> None:
        """Async twin of :meth:`cycle_key`."""
        await self._arun(self._changing_key())

    def _changing_key(self) -> Steps[None]:
        self._take_back_undone()
        yield ("_get_session",)
        data, digest = self._data(), self.digest
        if digest is None:
            yield ("create",)
            return
        new = _NewKey()
        change = self._change(data, self.times or self._times_to_store(), new.digest)
        stored = yield "_update", digest, change
        if stored is None:
            moved = yield "_read_moved", digest, change.loaded
            if moved is not None and not self._is_over(moved):
                times = change.times_over(moved)
                stored = yield "_insert", new.digest, change.copy_of(moved), times
        # Not before the store has answered: an error leaves the session under its old key.
        self._session_key, self.modified = new.key, True
        if stored is not None:
            self._note_saved(data, change.delta, stored)

    # Steps.

    def _run(self, steps: Steps[T]) -> T:
        result = None
        while True:
            try:
                name, *arguments = steps.send(result)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            result = None  # An error report would show it.
            result = getattr(self, name)(*arguments)

    async def _arun(self, steps: Steps[T]) -> T:
        result = None
        while True:
            try:
                name, *arguments = steps.send(result)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            result = None
            if name in _TWINS:
                result = await getattr(self, _TWINS[name])(*arguments)
            else:
                result = await self._in_async(name, *arguments)
