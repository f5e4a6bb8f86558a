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
from typing import Any, NamedTuple, TypeVar, cast

from django.contrib.auth import SESSION_KEY

from dirigible_session.conf import conf
from dirigible_session.lifecycle import EXPIRY_KEY, Times

from . import redis_mapping as mapping
from .mapping import NO_CHANGE, Delta, Texts, merged_times
from .operations import Change, StoredData
from .redis_mapping import NOTHING, EndOf, Pairs, StoredHash
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


@dataclass
class Save:
    """What a call of the script SAVE writes."""

    digest: str
    times: Times
    mode: str = "update"
    delta: Delta = NO_CHANGE
    pairs: Pairs = field(default_factory=list)
    removed: Pairs = field(default_factory=list)
    #: What is known to be stored.
    stored: StoredHash = NOTHING


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
    stored = NOTHING if change.loaded is None else cast("StoredHash", change.loaded)
    save = Save(digest, change.times, delta=change.delta, stored=stored)
    interval = change.times.interval
    if interval != stored.times.interval:
        if interval is None:
            save.removed.append("interval")
        else:
            save.pairs += ("interval", str(interval))
    return (yield from _save(context, save))


def replace_if(
    context: Context, digest: str, found: StoredData, texts: Texts, times: Times
) -> Steps[bool]:
    """Put other attributes and times in the place of what was found; False if it is no more."""
    save = _replacement(digest, texts, times)
    save.stored = cast("StoredHash", found)
    save.mode = f"if {save.stored.serial}"
    return (yield from _save(context, save)) is not None


def renew(context: Context, digest: str, loaded: StoredData, accessed: float) -> Steps[bool]:
    """Record a later access, and no more; False if the session is not there."""
    times = replace(loaded.times, accessed=accessed)
    save = Save(digest, times, stored=cast("StoredHash", loaded))
    return (yield from _save(context, save)) is not None


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
    if list(texts.items()) != list(change.texts.items()) or times != written.times:
        written = yield from _save(context, _replacement(new, texts, times))
        if written is not None:
            written.has_news = True
    yield clean_up
    return written


def _creation(digest: str, texts: Texts, times: Times) -> Save:
    pairs: Pairs = ["created", repr(times.created)]
    if times.interval is not None:
        pairs += ("interval", str(times.interval))
    return Save(digest, times, "create", Delta(texts), pairs)


def _replacement(digest: str, texts: Texts, times: Times) -> Save:
    save = _creation(digest, texts, times)
    save.mode, save.delta = "update", Delta(texts, clears=True)
    if times.interval is None:
        save.removed.append("interval")
    return save


def _save(context: Context, save: Save) -> Steps[StoredHash | None]:
    now = time.time()
    stored, delta = save.stored, save.delta
    user_text = stored.text_after(delta, SESSION_KEY)
    old_user_text = stored.text_after(NO_CHANGE, SESSION_KEY)
    end = mapping.end(stored.text_after(delta, EXPIRY_KEY), save.times, context.end_of)
    kept_until = mapping.kept_until(end, save.times)
    listed = stored.listed if user_text == old_user_text else 0.0
    calls = []
    pairs = [*mapping.pairs_of(delta.changed), *save.pairs]
    user = None if listed >= kept_until else mapping.user_of(user_text)
    if user is not None:
        listed = mapping.listed_until(kept_until, now)
        calls.append(listed_call(context, save.digest, user, listed, now))
        pairs += ("listed", repr(listed))
    place = len(calls)
    calls.append(_saved(context, save, pairs, now))
    old_user = None if old_user_text == user_text else mapping.user_of(old_user_text)
    if old_user is not None:
        calls.append(unlisted_call(context, save.digest, old_user))
    answers = yield calls
    return stored.after(delta, save.times, end, listed) if answers[place] else None


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
