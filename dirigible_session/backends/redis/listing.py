"""Listing the sessions in Redis, and removing expired sessions and stale index entries."""

from __future__ import annotations

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from dirigible_session.backends.mapping import indexed_user
from dirigible_session.handles import DIGEST_LENGTH
from dirigible_session.stored import Query, StoredSession

from . import record
from .client import Client, clients, drive
from .operations import (
    Site,
    listed_call,
    remove_all,
)
from .record import StoredHash
from .scripts import READ, Call, Unordered

logger = logging.getLogger("dirigible_session")

#: The most sessions, and bytes of sessions, read at once. A larger session is read by itself.
BATCH = 100
READ_AT_ONCE = 4 * 2**20

#: Other keys with the prefix do not belong to a session.
_IS_DIGEST = re.compile(rb"[0-9a-f]{%d}" % DIGEST_LENGTH).fullmatch

T = TypeVar("T")


class RedisListing(ABC):
    """The operations for readers and ``clearsessions``: sync only, in bounded memory."""

    @abstractmethod
    def _site(self) -> Site:
        """Return the context of the operations of this store."""

    @classmethod
    def list_stored(cls, query: Query) -> Iterator[StoredSession]:
        """Walk the stored sessions that match ``query``.

        It uses SCAN on all nodes, unless the query names a digest or a user. Redis may return a
        session twice if it moves keys during the walk. Memory holds at most 4 MiB of sessions at
        once, or one larger session.
        """
        site = cls()._site()
        client = clients.of_process()
        if query.user_id is not None:
            query = replace(query, user_id=indexed_user(query.user_id))
        for positions in _positions(client, site, query):
            for stored, user in _read(client, site, [*positions]):
                is_over = stored.expires is not None and stored.expires <= query.now
                is_state = stored.data is None or is_over is (query.state == "expired")
                is_user = query.user_id is None or user == query.user_id
                if is_user and (is_state or query.state == "all"):
                    stored.position = positions[stored.digest]
                    yield stored

    @classmethod
    def end_stored(cls, digests: Sequence[str]) -> set[str]:
        """Delete these sessions and return the digests of the sessions that still existed."""
        return drive(remove_all(cls()._site(), dict.fromkeys(digests)))

    @classmethod
    def clear_expired(cls) -> None:
        """Delete sessions that are over, and repair the index of sessions by user.

        Redis itself deletes sessions that expire. This deletes sessions that are over by limits
        lowered since, removes index entries without a session, and adds sessions that the index
        lost. It logs the counts.
        """
        site = cls()._site()
        client = clients.of_process()
        removed = _clear_index(client, site)
        ended, added = _clear_sessions(client, site)
        logger.info(
            "clearsessions: deleted %d expired sessions; removed %d entries from the index of "
            "sessions by user and added %d.",
            ended,
            removed,
            added,
        )


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _positions(client: Client, site: Site, query: Query) -> Iterator[dict[str, str]]:
    """Walk the digests of sessions that may match, some at a time, each with its position.

    If the query names the digests, a digest is its own position. Else a position is the place in a
    SCAN, a slash and the digest; the digests of one answer are sorted.
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
    """Return the digests that the query names or an index knows; None if it takes a walk."""
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
    """Walk the digests of sessions among keys that begin with ``start``."""
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
    # Free the memory of each answer before the next is parsed.
    answers.reverse()
    for digest in digests:
        answer = answers.pop()
        if isinstance(answer, int):
            # The session is larger than its share.
            (answer,) = client.run([Call(("HGETALL", site.keys.session(digest)))])
        fields = record.fields_of(answer)
        stored = record.parse(record.as_listed(fields, now), site.end_of)
        if stored is None:
            continue
        data, error = None, stored.error
        try:
            data = stored.parsed()
        except ValueError as problem:
            error = error or record.damage(problem)
        times, size = None if stored.error else stored.times, record.size_of(fields)
        found = StoredSession(digest, data, times, stored.expires, size, error)
        yield found, stored.user


def _clear_index(client: Client, site: Site) -> int:
    """Remove index entries without a session of that user; return their number."""
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
    """Delete sessions that are over, and add the others to the index; return both counts."""
    ended = added = 0
    start = site.keys.session("")
    for digests in _batches(_scanned(start, client.scan(_literal(start) + b"*", "hash"))):
        now = time.time()
        over: dict[str, StoredHash] = {}
        live: list[tuple[str, str, StoredHash]] = []
        for digest, head in _read_heads(client, site, digests):
            if head.expires is not None and head.expires <= now:
                over[digest] = head
            elif head.user is not None:
                live.append((digest, head.user, head))
        # A session that was visited meanwhile stays.
        ended += len(drive(remove_all(site, over)))
        known = client.run(
            Unordered(Call(("ZSCORE", site.keys.user(user), digest)) for digest, user, _ in live)
        )
        lost = Unordered(
            listed_call(site, digest, user, record.kept_until(head.expires, head.times), now)
            for (digest, user, head), score in zip(live, known, strict=True)
            if score is None
        )
        client.run(lost)
        added += len(lost)
    return ended, added


def _read_heads(
    client: Client, site: Site, digests: Sequence[str]
) -> Iterator[tuple[str, StoredHash]]:
    """Read the fields for the end and the user of sessions, and no other attribute."""
    calls = Unordered(Call(("HMGET", site.keys.session(d), *record.HEAD)) for d in digests)
    now = time.time()
    for digest, values in zip(digests, client.run(calls), strict=True):
        fields = {n: v for n, v in zip(record.HEAD, values, strict=True) if v is not None}
        stored = record.parse(record.as_listed(fields, now), site.end_of)
        if stored is not None:
            yield digest, stored
