"""Looking at all sessions in Redis, and cleaning up after those that ended."""

from __future__ import annotations

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from dirigible_session.backends.mapping import indexed_user
from dirigible_session.handles import DIGEST_LENGTH
from dirigible_session.stored import Query, StoredSession

from . import record
from .client import Client, clients, drive
from .operations import (
    Site,
    delete_call,
    ended_text,
    listed_call,
    remove_all,
    unlisted_call,
)
from .record import StoredHash
from .scripts import READ, Call, Unordered

logger = logging.getLogger("dirigible_session")

#: How many sessions are read at once, and how many bytes of them, unless one alone has more.
BATCH = 100
READ_AT_ONCE = 4 * 2**20

#: Whatever else is there is nobody's session.
_IS_DIGEST = re.compile(rb"[0-9a-f]{%d}" % DIGEST_LENGTH).fullmatch

T = TypeVar("T")


class RedisListing(ABC):
    """What readers and ``clearsessions`` ask of the engine: sync only, in bounded memory."""

    @abstractmethod
    def _site(self) -> Site:
        """Return what the operations of this store have in common."""

    @classmethod
    def list_stored(cls, query: Query) -> Iterator[StoredSession]:
        """Walk the stored sessions that ``query`` asks for.

        By SCAN on all nodes, unless it names a digest or a user. Redis may give a session twice
        if its keys are being moved about meanwhile. Of what is stored, no more than 4 MiB are held
        in memory at once, or one session, if that is larger.
        """
        site = cls()._site()
        client = clients.of_process()
        if query.user_id is not None:
            query = replace(query, user_id=indexed_user(query.user_id))
        for positions in _positions(client, site, query):
            for stored, user in _read(client, site, [*positions]):
                if _is_wanted(stored, user, query):
                    stored.position = positions[stored.digest]
                    yield stored

    @classmethod
    def end_stored(cls, digests: Sequence[str]) -> set[str]:
        """Delete these sessions and return the digests of those that were still there."""
        return drive(remove_all(cls()._site(), digests))

    @classmethod
    def clear_expired(cls) -> None:
        """Delete what is over, and mend the index of sessions by user.

        Redis deletes what expires by itself. What is left are sessions that are over by limits
        that were lowered since, entries of the index whose session is gone, and sessions that the
        index lost. What was found is logged.
        """
        site = cls()._site()
        client = clients.of_process()
        removed = _clear_index(client, site)
        ended, added = _clear_sessions(client, site)
        logger.info(
            "clearsessions: %d sessions that were over deleted; of the index of sessions by user, "
            "%d entries removed and %d added.",
            ended,
            removed,
            added,
        )


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _positions(client: Client, site: Site, query: Query) -> Iterator[dict[str, str]]:
    """Walk the digests that may be wanted, some at a time, each with its position.

    Where they are known beforehand, a digest is its own position. Else it is the place in a SCAN
    and, since an answer holds several, the digest, by which they are sorted.
    """
    digests = _named(client, site, query)
    if digests is not None:
        for batch in _batches(d for d in sorted(digests) if d > (query.after or "")):
            yield {digest: digest for digest in batch}
        return
    start, pattern = site.keys.session(""), _literal(site.keys.session(query.digest_prefix)) + b"*"
    if query.after is None:
        for batch in _batches(_scanned(start, client.scan(pattern, "hash"))):
            yield dict.fromkeys(batch, "")
        return
    place, _, passed = query.after.rpartition("/")
    while True:
        following, keys = client.scan_page(place, pattern, "hash")
        found = sorted({digest for digest in _scanned(start, keys) if digest > passed})
        for batch in _batches(found):
            yield {digest: f"{place}/{digest}" for digest in batch}
        if not following:
            return
        place, passed = following, ""
        query.pause(f"{place}/")


def _named(client: Client, site: Site, query: Query) -> set[str] | None:
    """Return the digests that the query names or an index knows; None: no other than by a walk."""
    if query.digests is not None:
        digests = set(query.digests)
    elif len(query.digest_prefix) == DIGEST_LENGTH:
        digests = {query.digest_prefix}
    elif query.user_id is not None:
        # A user has a handful of sessions, not millions.
        members = client.scan_index(site.keys.user(query.user_id))
        digests = {member.decode(errors="replace") for member in members}
    else:
        return None
    return {digest for digest in digests if digest.startswith(query.digest_prefix)}


def _scanned(start: bytes, keys: Iterable[bytes]) -> Iterator[str]:
    """Give the digests of sessions among keys that begin with ``start``."""
    for key in keys:
        if _IS_DIGEST(key[len(start) :]):
            yield key[len(start) :].decode()


def _literal(key: bytes) -> bytes:
    return b"".join(b"\\" + bytes([c]) if c in b"*?[]\\^-" else bytes([c]) for c in key)


def _read(
    client: Client, site: Site, digests: Sequence[str]
) -> Iterator[tuple[StoredSession, str | None]]:
    now, share = time.time(), READ_AT_ONCE // len(digests)
    calls = Unordered(Call((1, site.keys.session(digest), share), READ) for digest in digests)
    answers = client.run(calls)
    # Each is let go of before the next is parsed.
    answers.reverse()
    for digest in digests:
        answer = answers.pop()
        if isinstance(answer, int):
            # Larger than its share, so it is read by itself.
            (answer,) = client.run([Call(("HGETALL", site.keys.session(digest)))])
        fields = record.fields_of(answer)
        stored = record.parse(record.as_listed(fields, now), site.end_of)
        if stored is not None:
            yield _record(digest, stored, record.size_of(fields)), stored.user


def _record(digest: str, stored: StoredHash, size: int) -> StoredSession:
    data: dict[str, Any] | None = None
    error = stored.error
    try:
        data = stored.parsed()
    except ValueError as problem:
        error = error or record.damage(problem)
    times = None if stored.error else stored.times
    return StoredSession(digest, data, times, stored.expires, size, error)


def _is_wanted(stored: StoredSession, user: str | None, query: Query) -> bool:
    if query.user_id is not None and user != query.user_id:
        return False
    is_over = stored.expires is not None and stored.expires <= query.now
    return query.state == "all" or stored.data is None or is_over is (query.state == "expired")


def _clear_index(client: Client, site: Site) -> int:
    """Remove the entries of sessions that are gone or another user's; return how many."""
    removed = 0
    for key in client.scan(_literal(site.keys.user("")) + b"*", "zset"):
        for members in _batches(client.scan_index(key)):
            digests = [member.decode() for member in members if _IS_DIGEST(member)]
            users = {d: head.user for d, head in _read_heads(client, site, digests)}
            named = {
                digest.encode()
                for digest, user in users.items()
                if user is not None and site.keys.user(user) == key
            }
            gone = [member for member in members if member not in named]
            if gone:
                (count,) = client.run([Call(("ZREM", key, *gone))])
                removed += count
    return removed


def _clear_sessions(client: Client, site: Site) -> tuple[int, int]:
    """Delete sessions that are over, and see that the index knows the others; return counts."""
    ended = added = 0
    start = site.keys.session("")
    for digests in _batches(_scanned(start, client.scan(_literal(start) + b"*", "hash"))):
        now = time.time()
        over: list[tuple[str, StoredHash]] = []
        live: list[tuple[str, StoredHash]] = []
        for digest, head in _read_heads(client, site, digests):
            is_over = head.expires is not None and head.expires <= now
            (over if is_over else live).append((digest, head))
        ended += _end(client, site, over)
        added += _list_anew(client, site, live, now)
    return ended, added


def _end(client: Client, site: Site, over: Sequence[tuple[str, StoredHash]]) -> int:
    # Unless a visit came between.
    answers = client.run(Unordered(delete_call(site, digest, head) for digest, head in over))
    ended = [
        found for found, answer in zip(over, answers, strict=True) if ended_text(answer) is not None
    ]
    client.run(
        Unordered(
            unlisted_call(site, digest, head.user)
            for digest, head in ended
            if head.user is not None
        )
    )
    return len(ended)


def _list_anew(
    client: Client, site: Site, live: Sequence[tuple[str, StoredHash]], now: float
) -> int:
    users = [(digest, head.user, head) for digest, head in live if head.user is not None]
    known = client.run(
        Unordered(Call(("ZSCORE", site.keys.user(user), digest)) for digest, user, _ in users)
    )
    calls = Unordered(
        listed_call(site, digest, user, record.kept_until(head.expires, head.times), now)
        for (digest, user, head), score in zip(users, known, strict=True)
        if score is None
    )
    client.run(calls)
    return len(calls)


def _read_heads(
    client: Client, site: Site, digests: Sequence[str]
) -> Iterator[tuple[str, StoredHash]]:
    """Read what tells whether sessions are over and whose they are, and no other attribute."""
    calls = Unordered(Call(("HMGET", site.keys.session(d), *record.HEAD)) for d in digests)
    now = time.time()
    for digest, values in zip(digests, client.run(calls), strict=True):
        fields = {n: v for n, v in zip(record.HEAD, values, strict=True) if v is not None}
        stored = record.parse(record.as_listed(fields, now), site.end_of)
        if stored is not None:
            yield digest, stored
