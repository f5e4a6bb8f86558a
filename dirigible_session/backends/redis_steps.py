"""What each operation of the Redis engine asks of the server, and what it makes of the answers.

An operation is a generator: it yields the calls of one round trip and is sent their answers, so
that the sync and the async path share every decision (:func:`redis_clients.drive`).

In a cluster, a session and the index of its user's sessions are on different nodes, so no call
can write both. The index is written first: it may name a session that is not there, which a
reader finds out, but no session is there that it does not name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from django.contrib.auth import SESSION_KEY

from dirigible_session.conf import conf
from dirigible_session.lifecycle import Times

from . import redis_mapping as mapping
from .mapping import Delta, Texts, merged_times
from .operations import Change, StoredData
from .redis_mapping import EndOf, Pairs, StoredHash
from .redis_scripts import DELETE, LIST, MOVE, SAVE, Call
from .redis_url import Keys

T = TypeVar("T")
Steps = Generator[Sequence[Call], list[Any], T]

#: How long what was moved away is kept for a second try, in milliseconds. It is deleted by the
#: next call.
MOVED = 60_000


class Context(NamedTuple):
    """What the operations of one store have in common."""

    keys: Keys
    end_of: EndOf
    #: Returns the interval of a session that has none of its own, in seconds.
    cookie_age: Callable[[], float]


@dataclass(slots=True)
class Save:
    """What a call of the script SAVE writes."""

    digest: str
    texts: Texts
    times: Times
    mode: str = "update"
    delta: Delta = field(default_factory=Delta)
    pairs: tuple[bytes | str, ...] = ()
    removed: tuple[bytes | str, ...] = ()
    #: What is known to be stored; None: nothing, or nothing is known.
    stored: StoredHash | None = None


def read(context: Context, digest: str) -> Steps[StoredHash | None]:
    """Read a session."""
    (answer,) = yield [Call(("HGETALL", context.keys.session(digest)))]
    return mapping.parse(mapping.fields_of(answer), context.end_of)


def has(context: Context, digest: str) -> Steps[bool]:
    """Look whether a session is stored."""
    (found,) = yield [Call(("HEXISTS", context.keys.session(digest), "accessed"))]
    return bool(found)


def insert(context: Context, digest: str, texts: Texts, times: Times) -> Steps[StoredHash | None]:
    """Store a new session; None if it is there."""
    return (yield from _save(context, _creation(digest, texts, times)))


def update(context: Context, digest: str, change: Change) -> Steps[StoredHash | None]:
    """Lay a change over what is stored; None if it is not there."""
    loaded = _loaded(change.loaded)
    before = None if loaded is None else loaded.times.interval
    pairs: Pairs = []
    removed: Pairs = []
    if change.times.interval != before:
        if change.times.interval is None:
            removed.append("interval")
        else:
            pairs += ("interval", str(change.times.interval))
    save = Save(
        digest,
        change.texts,
        change.times,
        delta=change.delta,
        pairs=tuple(pairs),
        removed=tuple(removed),
        stored=loaded,
    )
    return (yield from _save(context, save))


def replace_if(
    context: Context, digest: str, found: StoredData, texts: Texts, times: Times
) -> Steps[bool]:
    """Put other attributes and times in the place of what was found; False if it is no more."""
    before = _loaded(found)
    serial = "0" if before is None else before.serial
    save = _replacement(digest, texts, times)
    save.mode, save.stored = f"if {serial}", before
    return (yield from _save(context, save)) is not None


def renew(context: Context, digest: str, loaded: StoredData, accessed: float) -> Steps[bool]:
    """Record a later access, and no more; False if the session is not there."""
    times = replace(loaded.times, accessed=accessed)
    save = Save(digest, loaded.texts, times, stored=_loaded(loaded))
    stored = yield from _save(context, save)
    return stored is not None


def remove(context: Context, digest: str) -> Steps[None]:
    """Delete a session and its entry in the index, if they are there."""
    (user_text,) = yield [Call((1, context.keys.session(digest), "", ""), DELETE)]
    user = mapping.user_of(user_text)
    if user is not None:
        yield [unlisted_call(context, digest, user)]


def change_key(context: Context, digest: str, change: Change) -> Steps[StoredHash | None]:
    """Lay a change over what is stored and give it another digest; None if it is not there.

    The session is stored under its new digest, then taken away from the old one, whose answer
    tells what rivals wrote until then. Whatever breaks off in between leaves the old session as it
    was, or the new one as a request left it.
    """
    new = change.new_digest or ""
    written = yield from _save(context, _creation(new, change.texts, change.times))
    (answer,) = yield [Call((1, context.keys.session(digest), new, MOVED), MOVE)]
    fields = mapping.fields_of(answer)
    if written is None or not fields:
        yield from remove(context, new)
        return None
    moved = mapping.parse({**fields, b"accessed": fields[b"left"]}, context.end_of)
    if moved is None:
        raise AssertionError("what has a last access is a session")
    clean_up = [Call(("DEL", context.keys.session(digest)))]
    if moved.user is not None:
        clean_up.append(unlisted_call(context, digest, moved.user))
    before = moved.times if change.loaded is None else change.loaded.times
    texts = change.delta.laid_over(moved.texts)
    times = merged_times(before, change.times, moved.times)
    if list(texts.items()) != list(written.texts.items()) or times != written.times:
        yield from _save(context, _replacement(new, texts, times))
        written = replace(written, texts=texts, times=times)
    yield clean_up
    return written


def _loaded(loaded: StoredData | None) -> StoredHash | None:
    return loaded if isinstance(loaded, StoredHash) else None


def _creation(digest: str, texts: Texts, times: Times) -> Save:
    pairs: Pairs = ["created", repr(times.created)]
    if times.interval is not None:
        pairs += ("interval", str(times.interval))
    return Save(digest, texts, times, "create", Delta(texts), tuple(pairs))


def _replacement(digest: str, texts: Texts, times: Times) -> Save:
    save = _creation(digest, texts, times)
    removed = () if times.interval is not None else ("interval",)
    return replace(save, mode="update", delta=Delta(texts, clears=True), removed=removed)


def _save(context: Context, save: Save) -> Steps[StoredHash | None]:
    now = time.time()
    user = mapping.user_of(save.texts.get(SESSION_KEY))
    end = mapping.end(save.texts, save.times, context.end_of)
    old_user = None if save.stored is None else save.stored.user
    listed = 0.0 if save.stored is None or user != old_user else save.stored.listed
    calls = []
    pairs = [*mapping.pairs_of(save.delta.changed), *save.pairs]
    kept_until = mapping.kept_until(end, save.times)
    if user is not None and listed < kept_until:
        listed = mapping.listed_until(kept_until, now)
        calls.append(listed_call(context, save.digest, user, listed, now))
        pairs += ("listed", repr(listed))
    place = len(calls)
    calls.append(_saved(context, save, pairs, now))
    if old_user is not None and old_user != user:
        calls.append(unlisted_call(context, save.digest, old_user))
    answers = yield calls
    if not answers[place]:
        return None
    return StoredHash(save.times, end, save.texts, listed=listed)


def _saved(context: Context, save: Save, pairs: Pairs, now: float) -> Call:
    removed = [*map(mapping.field_of, save.delta.removed), *save.removed]
    timeout = conf.absolute_timeout
    rest = (
        repr(now),
        repr(save.times.accessed),
        repr(float(context.cookie_age())),
        "" if timeout is None else repr(float(timeout)),
        "1" if save.delta.clears else "",
        len(removed),
        *removed,
        *pairs,
    )
    key = context.keys.session(save.digest)
    if save.mode == "create":
        return Call((1, key, "create", *rest), SAVE, (1, key, "again", *rest))
    return Call((1, key, save.mode, *rest), SAVE)


def listed_call(context: Context, digest: str, user: str, until: float, now: float) -> Call:
    """Return the call that notes in the index until when a session may live."""
    return Call((1, context.keys.user(user), repr(now), digest, repr(until)), LIST)


def unlisted_call(context: Context, digest: str, user: str) -> Call:
    """Return the call that removes a session from the index."""
    return Call(("ZREM", context.keys.user(user), digest))
