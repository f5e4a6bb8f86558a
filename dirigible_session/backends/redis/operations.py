"""What each operation of the Redis engine asks of the server, and what it makes of the answers.

An operation is a generator: it yields the calls of one round trip and is sent their answers, so
that the sync and the async path share every decision (:func:`redis_clients.drive`).

In a cluster, a session and the index of its user's sessions are on different nodes, so no call
can write both. The index is written first: it may name a session that is not there, which a
reader finds out, but no session is there that it does not name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

from django.contrib.auth import SESSION_KEY

from dirigible_session.backends.mapping import NO_CHANGE, Delta, Texts, merged_times
from dirigible_session.backends.operations import Change, StoredData
from dirigible_session.conf import conf
from dirigible_session.exceptions import SessionConflict
from dirigible_session.lifecycle import EXPIRY_KEY, Times

from . import record
from .record import NOTHING, UNLISTED, EndOf, Pairs, StoredHash
from .scripts import DELETE, FORGET, LIST, MOVE, PUT_BACK, SAVE, Call, Operation, Unordered
from .url import Keys

#: How long the halves of a change of key are kept if it does not get to its end, in milliseconds.
HALF_DONE = 60_000
#: How often a change of key is tried again when rivals put the session back.
TRIES = 50
#: The fields of the times that a session need not have.
OPTIONAL_TIMES = ("interval", "authenticated")
#: For what is kept until it expires, some three thousand years.
FOR_GOOD = 10**14


class Site(NamedTuple):
    """What the operations of one store have in common."""

    keys: Keys
    end_of: EndOf
    #: Returns the interval of a session that has none of its own, in seconds.
    cookie_age: Callable[[], float]
    #: See ``EngineBase.grace``.
    grace: int


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
    #: Milliseconds that it is kept at most.
    most: int = FOR_GOOD


def read(site: Site, digest: str) -> Operation[StoredHash | None]:
    """Read a session."""
    key = site.keys.session(digest)
    (answer,) = yield [Call(("HGETALL", key))]
    fields = record.fields_of(answer)
    if b"left" in fields:
        # A change of key is under way, or broke off: the client still has this key.
        (answer,) = yield [Call((1, key), PUT_BACK)]
        fields = record.fields_of(answer)
    return record.parse(fields, site.end_of)


def has(site: Site, digest: str) -> Operation[bool]:
    """Look whether a session is stored."""
    (found,) = yield [Call(("HMGET", site.keys.session(digest), "accessed", "left"))]
    return any(found)


def insert(site: Site, digest: str, texts: Texts, times: Times) -> Operation[StoredHash | None]:
    """Store a new session; None if it is there."""
    return (yield from _save(site, _creation(digest, texts, times)))


def update(site: Site, digest: str, change: Change) -> Operation[StoredHash | None]:
    """Lay a change over what is stored; None if it is not there."""
    stored = NOTHING if change.loaded is None else cast("StoredHash", change.loaded)
    if stored.error:
        return (yield from _save(site, _replacement(digest, change.texts, change.times)))
    save = Save(digest, change.times, delta=change.delta, stored=stored)
    for name in OPTIONAL_TIMES:
        value = getattr(change.times, name)
        if value == getattr(stored.times, name):
            continue
        if value is None:
            save.removed.append(name)
        else:
            save.pairs += (name, repr(value))
    return (yield from _save(site, save))


def replace_if(
    site: Site, digest: str, found: StoredData, texts: Texts, times: Times
) -> Operation[bool]:
    """Put other attributes and times in the place of what was found; False if it is no more."""
    save = _replacement(digest, texts, times)
    save.stored = cast("StoredHash", found)
    save.mode = f"if {save.stored.serial}"
    return (yield from _save(site, save)) is not None


def renew(site: Site, digest: str, loaded: StoredData, accessed: float) -> Operation[bool]:
    """Record a later access, and no more; False if the session is not there."""
    times = replace(loaded.times, accessed=accessed)
    save = Save(digest, times, stored=cast("StoredHash", loaded))
    return (yield from _save(site, save)) is not None


def remove(site: Site, digest: str) -> Operation[None]:
    """Delete a session and its entry in the index, if they are there."""
    (user_text,) = yield [Call((1, site.keys.session(digest), "", ""), DELETE)]
    yield from _unlist(site, digest, user_text)


def remove_if(site: Site, digest: str, found: StoredData) -> Operation[bool]:
    """Delete a session and its entry in the index; False if it is no longer what was found."""
    (user_text,) = yield [delete_call(site, digest, cast("StoredHash", found))]
    yield from _unlist(site, digest, user_text)
    return user_text is not None


def remove_all(site: Site, digests: Sequence[str]) -> Operation[set[str]]:
    """Delete sessions and their entries in the index; return the digests of those that were there.

    Where the connection breaks before the answer, nobody may be given a digest.
    """
    answers = yield Unordered(
        Call((1, site.keys.session(digest), "", ""), DELETE) for digest in digests
    )
    ended = {d: text for d, text in zip(digests, answers, strict=True) if text is not None}
    users = [(digest, record.user_of(text)) for digest, text in ended.items()]
    yield Unordered(unlisted_call(site, digest, user) for digest, user in users if user is not None)
    return set(ended)


def _unlist(site: Site, digest: str, user_text: str | bytes | None) -> Operation[None]:
    user = record.user_of(user_text)
    if user is not None:
        yield [unlisted_call(site, digest, user)]


def change_key(site: Site, digest: str, change: Change) -> Operation[StoredHash | None]:
    """Lay a change over what is stored and give it another digest; None if it is not there.

    The session is stored under its new digest, for a minute, then taken away from the old one,
    whose answer tells what rivals wrote until then; only then the new one is kept for good and
    the old one forgotten. If this breaks off in between, who comes with the old key puts the
    session back as it was, and the new one goes by itself.
    """
    new = change.new_digest or ""
    creation = _creation(new, change.texts, change.times)
    creation.most = HALF_DONE
    written = yield from _save(site, creation)
    old_key = site.keys.session(digest)
    for _ in range(TRIES):
        (answer,) = yield [Call((1, old_key, new, HALF_DONE), MOVE)]
        fields = record.fields_of(answer)
        if written is None or not fields:
            yield from remove(site, new)
            return None
        # What has a last access is a session.
        as_it_was = {**fields, b"accessed": fields[b"left"]}
        moved = cast("StoredHash", record.parse(as_it_was, site.end_of))
        written = yield from _settle(site, new, change, written, moved)
        (is_forgotten,) = yield [Call((1, old_key), FORGET)]
        if is_forgotten:
            if moved.user is not None:
                yield [unlisted_call(site, digest, moved.user)]
            return written
    raise SessionConflict(TRIES)


def _settle(
    site: Site, new: str, change: Change, written: StoredHash, moved: StoredHash
) -> Operation[StoredHash | None]:
    """Keep for good what has a new digest, with what rivals wrote under the old one."""
    before = moved.times if change.loaded is None else change.loaded.times
    texts = change.delta.laid_over(moved.texts)
    times = merged_times(before, change.times, moved.times)
    save = Save(new, times, stored=written)
    if not _is_same(texts, written.texts) or times != written.times:
        save = _replacement(new, texts, times)
    return (yield from _save(site, save))


def _is_same(texts: Texts, others: Texts) -> bool:
    return list(texts.items()) == list(others.items())


def _creation(digest: str, texts: Texts, times: Times) -> Save:
    pairs: Pairs = ["created", repr(times.created)]
    for name in OPTIONAL_TIMES:
        value = getattr(times, name)
        if value is not None:
            pairs += (name, repr(value))
    return Save(digest, times, "create", Delta(texts), pairs)


def _replacement(digest: str, texts: Texts, times: Times) -> Save:
    save = _creation(digest, texts, times)
    save.mode, save.delta = "update", Delta(texts, clears=True)
    # Set again by the save where they are needed.
    save.removed += (*OPTIONAL_TIMES, "listed")
    return save


def _save(site: Site, save: Save) -> Operation[StoredHash | None]:
    now = time.time()
    stored, delta = save.stored, save.delta
    user_text = stored.text_after(delta, SESSION_KEY)
    old_user_text = stored.text_after(NO_CHANGE, SESSION_KEY)
    end = record.end(stored.text_after(delta, EXPIRY_KEY), save.times, site.end_of)
    kept_until = record.kept_until(end, save.times)
    # Where a user's id was set, a rival may have removed it meanwhile, and the entry in the index.
    listed = UNLISTED if SESSION_KEY in delta.changed else stored.listed
    calls = []
    pairs = [*record.pairs_of(delta.changed), *save.pairs]
    user, is_too_long = _to_list(listed, user_text, kept_until, now)
    if user is not None:
        listed = (record.listed_until(kept_until, now), user_text)
        calls.append(listed_call(site, save.digest, user, listed[0], now, again=is_too_long))
        pairs += ("listed", f"{listed[0]!r} {user_text}")
    elif user_text is None and listed != UNLISTED:
        # Or who logs in later would be taken to be in the index still.
        listed = UNLISTED
        save.removed.append("listed")
    calls.append(_saved(site, save, pairs, now))
    answers = yield calls
    if not answers[-1]:
        return None
    if old_user_text != user_text:
        yield from _unlist(site, save.digest, old_user_text)
    return stored.after(delta, save.times, end, listed)


def _to_list(
    listed: tuple[float, str | None], user_text: str | None, kept_until: float, now: float
) -> tuple[str | None, bool]:
    """Return whose index has to note a session, if any, and whether it knows it for too long."""
    if user_text is None:
        return None, False
    until, known_user_text = listed
    is_known = user_text == known_user_text
    is_too_long = is_known and record.is_listed_too_long(until, kept_until, now)
    if is_known and until >= kept_until and not is_too_long:
        return None, False
    return record.user_of(user_text), is_too_long


def _saved(site: Site, save: Save, pairs: Pairs, now: float) -> Call:
    removed = [*map(record.field_of, save.delta.removed), *save.removed]
    timeout = conf.absolute_timeout
    rest = (
        repr(now),
        repr(save.times.accessed),
        repr(float(site.cookie_age())),
        "" if timeout is None else repr(float(timeout)),
        save.most,
        site.grace * 1000,
        "1" if save.delta.clears else "",
        len(removed),
        *removed,
        *pairs,
    )
    key = site.keys.session(save.digest)
    if save.mode == "create":
        return Call((1, key, "create", *rest), SAVE, (1, key, "again", *rest))
    return Call((1, key, save.mode, *rest), SAVE)


def listed_call(
    site: Site, digest: str, user: str, until: float, now: float, *, again: bool = False
) -> Call:
    """Return the call that notes in the index until when a session may live.

    ``again``: although a later time was noted before.
    """
    key = site.keys.user(user)
    return Call((1, key, repr(now), digest, repr(until), "1" if again else ""), LIST)


def unlisted_call(site: Site, digest: str, user: str) -> Call:
    """Return the call that removes a session from the index."""
    return Call(("ZREM", site.keys.user(user), digest))


def delete_call(site: Site, digest: str, found: StoredHash) -> Call:
    """Return the call that deletes a session if it is still what was found."""
    key = site.keys.session(digest)
    return Call((1, key, found.serial, repr(found.times.accessed)), DELETE)
