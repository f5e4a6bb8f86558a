"""Operations on many sessions, which share their round trips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from dirigible_session.backends.batch import Copies, Replacements
from dirigible_session.backends.operations import StoredData

from . import operations as single
from .client import drive
from .operations import Site
from .scripts import Args, Call, Operation, Script, T
from .url import Keys

#: Rename a staged copy to the key of its session, unless the session exists.
#:
#: KEYS: the copy, the session. Returns 1 if the session exists afterwards, so a repeated call
#: returns 1 too.
PUBLISH = Script("""\
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAMENX', KEYS[1], KEYS[2])
  redis.call('DEL', KEYS[1])
end
return redis.call('HEXISTS', KEYS[2], 'accessed')
""")


class StagedKeys(Keys):
    """The names of the keys of staged copies, each in the cluster slot of its session."""

    __slots__ = ()

    def session(self, digest: str) -> bytes:
        """Return the key of a staged copy; no request reads it."""
        return self.prefix.encode() + b"{" + super().session(digest) + b"}"


class RedisBatch(ABC):
    """The operations for ``sessions_migrate``."""

    @abstractmethod
    def _site(self) -> Site:
        """Return the context of the operations of this store."""

    def _read_many(self, digests: Iterable[str]) -> dict[str, StoredData]:
        site = self._site()
        found = _each({digest: single.read(site, digest) for digest in digests})
        return {digest: stored for digest, stored in found.items() if stored is not None}

    def _stage(self, copies: Copies) -> set[str]:
        site = self._site()
        staged = site._replace(keys=StagedKeys(site.keys.prefix))
        there = _each({digest: single.has(site, digest) for digest in copies})
        new = {digest: copy for digest, copy in copies.items() if not there[digest]}
        _each({digest: _one_call(("DEL", staged.keys.session(digest))) for digest in new})
        _each({digest: single.insert(staged, digest, *copy) for digest, copy in new.items()})
        return set(new)

    def _publish(self, digests: Iterable[str]) -> set[str]:
        keys = self._site().keys
        staged = StagedKeys(keys.prefix)
        return _each_done(
            {
                digest: _one_call((2, staged.session(digest), keys.session(digest)), PUBLISH)
                for digest in digests
            }
        )

    def _replace_many(self, replacements: Replacements) -> set[str]:
        site = self._site()
        return _each_done(
            {
                digest: single.replace_if(site, digest, *replacement)
                for digest, replacement in replacements.items()
            }
        )

    def _remove_many(self, found: Mapping[str, StoredData]) -> set[str]:
        site = self._site()
        return _each_done(
            {digest: single.remove_if(site, digest, stored) for digest, stored in found.items()}
        )


def _one_call(args: Args, script: Script | None = None) -> Operation[Any]:
    """Do one call and return its answer."""
    (answer,) = yield [Call(args, script)]
    return answer


def _each(operations: Mapping[str, Operation[T]]) -> dict[str, T]:
    """Do operations side by side and return their results by digest."""
    return dict(zip(operations, drive(together(list(operations.values()))), strict=True))


def _each_done(operations: Mapping[str, Operation[Any]]) -> set[str]:
    """Do operations side by side; return the digests of those that returned a true value."""
    return {digest for digest, is_done in _each(operations).items() if is_done}


def together(operations: Sequence[Operation[T]]) -> Operation[list[T]]:
    """Do operations side by side: their next calls share a round trip."""
    results: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(operations)))
    while answers:
        asked: dict[int, Sequence[Call]] = {}
        for place, given in answers.items():
            operation = operations[place]
            try:
                asked[place] = operation.send(given)
            except StopIteration as done:
                results[place] = done.value
        if asked:
            all_answers = iter((yield [call for calls in asked.values() for call in calls]))
        answers = {n: list(islice(all_answers, len(calls))) for n, calls in asked.items()}
    return [results[place] for place in range(len(operations))]
