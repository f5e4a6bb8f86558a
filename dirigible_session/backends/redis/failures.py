"""Failures of Redis, translated into messages for the operator of the site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TimeoutError,  # noqa: A004
)

from dirigible_session.exceptions import StoreUnavailable

from .url import SETTING, Target

Failure = (RedisError, RedisClusterException)


def is_worth_a_retry(error: Exception) -> bool:
    """Return whether another connection may work: this connection broke, or led to a replica."""
    return isinstance(error, ConnectionError) or _is_of_a_replica(error)


def _is_of_a_replica(error: Exception) -> bool:
    # Before Redis 7, a refused script raises an error of its own, which quotes the reason.
    return isinstance(error, ReadOnlyError) or "READONLY" in str(error)


@contextmanager
def explained(where: Target) -> Iterator[None]:
    """Raise StoreUnavailable for the exceptions of redis-py."""
    try:
        yield
    except Failure as error:
        raise unavailable(where, error) from error


def unavailable(where: Target, error: Exception) -> StoreUnavailable:
    """Return the exception for a failure; its message says how to solve it."""
    text = str(error).rstrip(".")
    if isinstance(error, TimeoutError):
        problem = (
            f"did not answer in time (socket_timeout {where.socket_timeout:g} s): {text}. "
            "Check whether it is overloaded, and the network to it"
        )
    elif isinstance(error, OutOfMemoryError):
        problem = (
            f"has no memory left and takes no writes: {text}. Raise its maxmemory, or use a "
            "separate server for sessions"
        )
    elif isinstance(error, MovedError) or text.startswith("MOVED "):
        problem = (
            f"is a node of a cluster, and the session is on another node: {text}. Begin {SETTING} "
            "with redis+cluster:// or rediss+cluster://"
        )
    elif _is_of_a_replica(error):
        problem = f"is a replica and takes no writes: {text}. {SETTING} has to name the primary"
    elif isinstance(error, BusyLoadingError):
        problem = f"is still loading its data: {text}. It will answer once it has loaded them"
    elif isinstance(error, AuthenticationError | NoPermissionError):
        problem = f"refuses the user or the password: {text}. Check {SETTING}"
    elif isinstance(error, ConnectionError | RedisClusterException):
        problem = f"can't be reached: {text}. Check whether it runs, and check {SETTING}"
    else:
        problem = f"answered with an error: {text}"
    return StoreUnavailable(f"dirigible_session: Redis {where.shown} {problem}.")
