"""The operations of the Redis engine on a session.

An operation is a generator. It yields the calls of one round trip and receives their answers, so
sync and async code share all decisions, see :func:`.client.drive`.

In a cluster, a session and the index of its user's sessions are on different nodes, so no call
can write both. The index is written first. It may name a session that does not exist, so readers
check that, but it names every session that exists.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha1
from typing import Any, NamedTuple, cast

from django.contrib.auth import SESSION_KEY

from dirigible_session.backends.mapping import (
    NO_CHANGE,
    Confidential,
    Delta,
    Texts,
)
from dirigible_session.backends.operations import Change, StoredData
from dirigible_session.conf import conf
from dirigible_session.exceptions import SessionConflict
from dirigible_session.lifecycle import EXPIRY_KEY, Times

from . import record
from .record import HALF_DONE, NOTHING, UNLISTED, EndOf, Listed, Pairs, StoredHash
from .scripts import DELETE, FORGET, LIST, MOVE, PUT_BACK, SAVE, Call, Operation, Unordered
from .url import Keys

#: Milliseconds for which the old key names the new digest. No request takes longer.
MOVED = 3_600_000
#: The number of attempts before SessionConflict is raised.
TRIES = 50
#: The optional times of a session.
OPTIONAL_TIMES = ("interval", "authenticated")
#: The number of milliseconds that means no limit: about three thousand years.
FOR_GOOD = 10**14


class Site(NamedTuple):
    """The context of the operations of one store."""

    keys: Keys
    end_of: EndOf
    #: Returns the default interval of a session in seconds.
    cookie_age: Callable[[], float]
    #: See ``EngineBase.grace``.
    grace: int


@dataclass(repr=False)
class Save:
    """The content of one call of the script SAVE."""

    digest: str
    times: Times
    mode: str = "update"
    delta: Delta = NO_CHANGE
    #: Fields that are not attributes, each with its value.
    pairs: Pairs = field(default_factory=list)
    #: Fields to remove, of either kind.
    removed: Pairs = field(default_factory=list)
    #: The session as this process knows it.
    stored: StoredHash = NOTHING
    #: The longest time in milliseconds that Redis keeps the session.
    most: int = FOR_GOOD
    #: The attributes that a rival has stored, if this save has to be merged with them.
    theirs: Texts = field(default_factory=dict)

    def call(self, site: Site, now: float) -> Call:
        """Return the call that saves the session, if no rival has changed one of its dicts."""
        changed = self.delta.changed
        guards: Pairs = []
        if self.theirs:
            changed = Confidential(
                (name, self.delta.text_over(self.theirs.get(name), name)) for name in changed
            )
        for name, text in self.delta.before.items():
            known = self.theirs.get(name, text).encode()
            guards += (record.field_of(name), sha1(known, usedforsecurity=False).hexdigest())
        timeout = conf.absolute_timeout
        removed = [*map(record.field_of, self.delta.removed), *self.removed]
        rest = (
            repr(now),
            repr(self.times.accessed),
            repr(float(site.cookie_age())),
            "" if timeout is None else repr(float(timeout)),
            self.most,
            site.grace * 1000,
            "1" if self.delta.clears else "",
            len(removed),
            len(guards) // 2,
            *removed,
            *guards,
            *record.pairs_of(changed),
            *self.pairs,
        )
        key = site.keys.session(self.digest)
        if self.mode == "create":
            return Call((1, key, "create", *rest), SAVE, (1, key, "again", *rest))
        return Call((1, key, self.mode, *rest), SAVE)


def read(site: Site, digest: str) -> Operation[StoredHash | None]:
    """Return a session; None if it does not exist."""
    key = site.keys.session(digest)
    (answer,) = yield [Call(("HGETALL", key))]
    fields = record.fields_of(answer)
    if b"left" in fields:
        # A change of key is under way or broke off, so the client still has this key.
        (answer,) = yield [Call((1, key), PUT_BACK)]
        fields = record.fields_of(answer)
    return record.parse(fields, site.end_of)


def read_moved(site: Site, digest: str, loaded: StoredData | None) -> Operation[StoredHash | None]:
    """Return a session after any number of changes of its key; None if it is gone."""
    for _ in range(TRIES):
        (answer,) = yield [Call(("HGETALL", site.keys.session(digest)))]
        fields = record.fields_of(answer)
        stored = record.parse(record.as_it_was(fields), site.end_of)
        if stored is not None or b"moved_to" not in fields:
            return stored
        digest = fields[b"moved_to"].decode(errors="replace")
    return None


def has(site: Site, digest: str) -> Operation[bool]:
    """Return whether a session is stored."""
    (found,) = yield [Call(("HMGET", site.keys.session(digest), "accessed", "left"))]
    return any(found)


def insert(site: Site, digest: str, texts: Texts, times: Times) -> Operation[StoredHash | None]:
    """Store a new session; None if it exists."""
    return (yield from _save(site, _creation(digest, texts, times)))


def update(site: Site, digest: str, change: Change) -> Operation[StoredHash | None]:
    """Apply a change to a stored session; None if it does not exist."""
    if change.new_digest is not None:
        return (yield from _change_key(site, digest, change, change.new_digest))
    stored = NOTHING if change.loaded is None else cast("StoredHash", change.loaded)
    if stored.error:
        save = _replacement(digest, change.texts, change.times)
        save.mode = "mend"
        return (yield from _save(site, save))
    save = Save(digest, change.times, delta=change.delta, stored=stored)
    _set_optional_times(save)
    return (yield from _save(site, save))


def replace_if(
    site: Site, digest: str, found: StoredData, texts: Texts, times: Times
) -> Operation[bool]:
    """Replace the attributes and times of a session; False if it has changed."""
    save = _replacement(digest, texts, times)
    save.stored = cast("StoredHash", found)
    save.mode = f"if {save.stored.serial}"
    return (yield from _save(site, save)) is not None


def renew(site: Site, digest: str, loaded: StoredData, accessed: float) -> Operation[bool]:
    """Record a later access, and nothing else; False if the session does not exist."""
    times = replace(loaded.times, accessed=accessed)
    save = Save(digest, times, stored=cast("StoredHash", loaded))
    return (yield from _save(site, save)) is not None


def remove(site: Site, digest: str, loaded: StoredData | None = None) -> Operation[bool]:
    """Delete a session and its entry in the index; return whether it existed.

    With ``loaded``, also delete it if its key was changed since.
    """
    for _ in range(TRIES):
        (answer,) = yield [delete_call(site, digest)]
        if answer is None:
            return False
        is_ended, text = answer
        if is_ended:
            yield from _unlist(site, digest, text)
            return True
        if loaded is None:
            return False
        digest = text.decode(errors="replace")
    return False


def remove_if(site: Site, digest: str, found: StoredData) -> Operation[bool]:
    """Delete a session and its entry in the index; False if it has changed."""
    (answer,) = yield [delete_call(site, digest, cast("StoredHash", found))]
    user_text = ended_text(answer)
    yield from _unlist(site, digest, user_text)
    return user_text is not None


def remove_all(site: Site, found: Mapping[str, StoredHash | None]) -> Operation[set[str]]:
    """Delete sessions and their entries in the index; return the digests of the deleted sessions.

    If the state of a session is given, the session is only deleted if it has not changed since. If
    a connection breaks before the answer, a deleted session may be missing from the result.
    """
    answers = yield Unordered(delete_call(site, d, stored) for d, stored in found.items())
    texts = {d: ended_text(answer) for d, answer in zip(found, answers, strict=True)}
    users = [(digest, record.user_of(text)) for digest, text in texts.items()]
    yield Unordered(unlisted_call(site, digest, user) for digest, user in users if user is not None)
    return {digest for digest, text in texts.items() if text is not None}


def ended_text(answer: Any) -> bytes | None:
    """Return the user of a session that DELETE deleted, as JSON text; None if it deleted none."""
    return answer[1] if answer is not None and answer[0] else None


def _unlist(site: Site, digest: str, user_text: str | bytes | None) -> Operation[None]:
    user = record.user_of(user_text)
    if user is not None:
        yield [unlisted_call(site, digest, user)]


def _change_key(site: Site, digest: str, change: Change, new: str) -> Operation[StoredHash | None]:
    """Apply a change to a stored session and give it a new digest; None if it does not exist.

    The steps are: store the session under its new digest for a minute; take it away from the old
    digest, which returns the changes of rivals; store both for good under the new digest; keep
    only the new digest under the old. If this breaks off, the next request with the old key puts
    the session back, and the copy expires. A rival may end the session under either digest.
    """
    creation = _creation(new, change.texts, change.times)
    creation.most = HALF_DONE * 1000
    written = yield from _save(site, creation)
    if written is None:
        return None
    old_key = site.keys.session(digest)
    for _ in range(TRIES):
        (answer,) = yield [Call((1, old_key, new, repr(time.time()), HALF_DONE), MOVE)]
        moved = record.parse(record.as_it_was(record.fields_of(answer)), site.end_of)
        if moved is None:
            break
        written = yield from _keep(site, new, change, written, moved)
        if written is None:
            # A reader saw the session under its new digest and ended it.
            yield from remove(site, digest)
            return None
        (outcome,) = yield [Call((1, old_key, new, MOVED), FORGET)]
        if outcome > 0:
            if moved.user is not None:
                yield [unlisted_call(site, digest, moved.user)]
            return written
        if outcome < 0:
            break
    else:
        raise SessionConflict(TRIES)
    yield from remove(site, new)
    return None


def _keep(
    site: Site, new: str, change: Change, written: StoredHash, moved: StoredHash
) -> Operation[StoredHash | None]:
    """Store a session under its new digest for good, with the changes of rivals."""
    texts = change.texts if moved.error else change.delta.laid_over(moved.texts)
    times = change.times_over(moved)
    save = Save(new, times, stored=written)
    if list(texts.items()) != list(written.texts.items()) or times != written.times:
        save = _replacement(new, texts, times)
    return (yield from _save(site, save))


def _creation(digest: str, texts: Texts, times: Times) -> Save:
    save = Save(digest, times, "create", Delta(texts), ["created", repr(times.created)])
    _set_optional_times(save)
    return save


def _set_optional_times(save: Save) -> None:
    """Store the interval and the login time if they differ from the known ones."""
    for name in OPTIONAL_TIMES:
        value = getattr(save.times, name)
        if value == getattr(save.stored.times, name):
            continue
        if value is None:
            save.removed.append(name)
        else:
            save.pairs += (name, repr(value))


def _replacement(digest: str, texts: Texts, times: Times) -> Save:
    save = _creation(digest, texts, times)
    save.mode, save.delta = "update", Delta(texts, clears=True)
    # The save sets them again if needed.
    save.removed += (*OPTIONAL_TIMES, "until", "listed")
    return save


def _save(site: Site, save: Save) -> Operation[StoredHash | None]:
    """Save, and try again if a rival has changed one of the dicts; None if it does not exist."""
    now = time.time()
    stored, delta = save.stored, save.delta
    old_user_text = stored.text_after(NO_CHANGE, SESSION_KEY)
    user_text = stored.text_after(delta, SESSION_KEY)
    end = record.end(stored.text_after(delta, EXPIRY_KEY), save.times, site.end_of)
    index_calls, listed = _list(site, save, user_text, record.kept_until(end, save.times), now)
    for _ in range(TRIES):
        *_, answer = yield [*index_calls, save.call(site, now)]
        if answer == 0:
            return None
        if answer == 1:
            if old_user_text != user_text:
                yield from _unlist(site, save.digest, old_user_text)
            return stored.after(delta, save.times, end, listed)
        found = record.parse(record.fields_of(answer), site.end_of)
        save.theirs = {} if found is None else found.texts
        # Error reports show the variables of a frame.
        del answer
    raise SessionConflict(TRIES)


def _list(
    site: Site, save: Save, user_text: str | None, kept_until: float, now: float
) -> tuple[list[Call], Listed]:
    """Return the calls that update the index of the user, and what the index knows after them."""
    # If this save sets the user's id, a rival may have removed it and its entry in the index.
    until, known_user_text = UNLISTED if SESSION_KEY in save.delta.changed else save.stored.listed
    if user_text is None:
        if (until, known_user_text) != UNLISTED:
            # After a later login, the field would hide that the index needs an entry.
            save.removed.append("listed")
        return [], UNLISTED
    is_known = user_text == known_user_text
    is_too_long = is_known and record.is_listed_too_long(until, kept_until, now)
    user = record.user_of(user_text) if is_too_long or not is_known or until < kept_until else None
    if user is None:
        return [], (until, known_user_text)
    until = record.listed_until(kept_until, now)
    save.pairs += ("listed", f"{until!r} {user_text}")
    return [listed_call(site, save.digest, user, until, now, again=is_too_long)], (until, user_text)


def listed_call(
    site: Site, digest: str, user: str, until: float, now: float, *, again: bool = False
) -> Call:
    """Return the call that stores in the index the time until which a session may live.

    With ``again``, it replaces a later time too.
    """
    key = site.keys.user(user)
    return Call((1, key, repr(now), digest, repr(until), "1" if again else ""), LIST)


def unlisted_call(site: Site, digest: str, user: str) -> Call:
    """Return the call that removes a session from the index."""
    return Call(("ZREM", site.keys.user(user), digest))


def delete_call(site: Site, digest: str, found: StoredHash | None = None) -> Call:
    """Return the call that deletes a session; with ``found``, only if it has not changed."""
    state = ("", "") if found is None else (found.serial, repr(found.times.accessed))
    return Call((1, site.keys.session(digest), *state), DELETE)
