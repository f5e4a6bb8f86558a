"""Reading the files of the ``file`` engine."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from django.contrib.sessions.backends.base import VALID_KEY_CHARS

from dirigible_session import handles, lifecycle
from dirigible_session.inspection.errors import store_errors_as
from dirigible_session.lifecycle import EXPIRY_KEY, TIMES_KEY, Times
from dirigible_session.stored import StoredSession

from .base import KeyedReader
from .decoding import Data, Decoder, Undecodable

if TYPE_CHECKING:
    from django.contrib.sessions.backends.file import SessionStore

    from dirigible_session.stored import Query

#: Session keys that are looked for at a time in a walk in pages.
PAGE = 5000

_KEY_CHARS = frozenset(VALID_KEY_CHARS)


class FileReader(KeyedReader):
    """The sessions in a directory, a file each. One of them is in memory at a time."""

    def __init__(self, store_class: type[SessionStore]) -> None:
        """Find the directory; StoreFailed if it is not there."""
        super().__init__(store_class)
        with store_errors_as("The directory of session files"):
            self._store = store_class()
        self._decoder = Decoder(self._store)
        self._prefix: str = self._store.file_prefix
        self._directory: str = self._store.storage_path

    def count(self) -> int | None:
        """Return how many sessions are stored."""
        return sum(1 for _ in self._keys())

    def pages(self, query: Query) -> Iterator[dict[str, str]]:
        """Walk the session keys; in pages, by their digests, which are the positions then."""
        if query.after is None:
            yield from ({key: ""} for key in self._keys())
            return
        after = query.after
        while True:
            digests = ((handles.digest(key), key) for key in self._keys())
            # A directory has no order: the next in order are looked for among all names.
            page = nsmallest(PAGE, (pair for pair in digests if pair[0] > after))
            if not page:
                return
            yield {key: digest for digest, key in page}
            after = page[-1][0]
            query.pause(after)

    def read(self, keys: Iterable[str]) -> Iterator[StoredSession]:
        """Read the sessions with these keys that are still there."""
        for key in keys:
            if _KEY_CHARS.issuperset(key):
                session = self._session(key)
                if session is not None:
                    yield session

    def delete(self, session_key: str) -> bool:
        """Delete the file of a session; return whether this call did it."""
        try:
            os.unlink(self._path(session_key))
        except OSError:
            # It may be gone. If it is still there, the caller finds it.
            return False
        return True

    def _keys(self) -> Iterator[str]:
        with (
            store_errors_as(f"The directory {self._directory}"),
            os.scandir(self._directory) as entries,
        ):
            for entry in entries:
                key = entry.name.removeprefix(self._prefix)
                # The directory may also have files that are being written, and unrelated files.
                is_session = entry.name.startswith(self._prefix) and _KEY_CHARS.issuperset(key)
                if is_session and key and entry.is_file():
                    yield key

    def _path(self, key: str) -> str:
        return os.path.join(self._directory, self._prefix + key)

    def _session(self, key: str) -> StoredSession | None:
        data: Data | None = None
        expires, reason, size, modified = None, "", 0, 0.0
        try:
            with open(self._path(key), "rb") as file:
                modified = os.fstat(file.fileno()).st_mtime
                content = file.read()
            size = len(content)
            # A session that is just being created has an empty file.
            data = self._decoder.decode(content.decode("ascii")) if content else {}
            expires = self._expiry(data, modified)
        except (FileNotFoundError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            reason = f"file can't be read ({type(error).__name__})"
        except UnicodeDecodeError:
            reason = "file is not text"
        except Undecodable as error:
            reason = str(error)
        return StoredSession(
            digest=handles.digest(key),
            data=data,
            times=None if data is None else Times.from_record(data.get(TIMES_KEY)),
            expires=expires,
            size=size,
            error=reason,
            session_key=key,
        )

    def _expiry(self, data: Data, modified: float) -> float | None:
        """Return when the engine itself ends a session; None: never, or not by a valid expiry."""
        expiry: Any = data.get(EXPIRY_KEY)
        if not expiry:
            return modified + self._store.get_session_cookie_age()
        if isinstance(expiry, (int, float)):
            # The engine adds the interval to the time of each check, so the session never ends.
            return None if expiry > 0 else modified
        return lifecycle.fixed_end(data)
