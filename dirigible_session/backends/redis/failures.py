"""What Redis could not do, told so that whoever runs the site knows what to look at."""

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
    """Return whether another connection may work: this one is broken, or leads to a replica."""
    return isinstance(error, (ConnectionError, ReadOnlyError)) or _is_of_a_replica(error)


def _is_of_a_replica(error: Exception) -> bool:
    # Before Redis 7, a script that was refused is an error of its own that quotes the reason.
    return isinstance(error, ReadOnlyError) or "READONLY" in str(error)


@contextmanager
def explained(where: Target) -> Iterator[None]:
    """Raise StoreUnavailable for what redis-py raises."""
    try:
        yield
    except Failure as error:
        raise unavailable(where, error) from error


def unavailable(where: Target, error: Exception) -> StoreUnavailable:
    """Return the exception that says what is wrong and what to do."""
    text = str(error).rstrip(".")
    if isinstance(error, TimeoutError):
        problem = (
            f"did not answer in time (socket_timeout {where.socket_timeout:g} s): {text}. "
            "Look whether it is overloaded, or the network to it broken"
        )
    elif isinstance(error, OutOfMemoryError):
        problem = (
            f"has no memory left and takes no writes: {text}. Raise its maxmemory, or give the "
            "sessions a server of their own"
        )
    elif isinstance(error, MovedError) or text.startswith("MOVED "):
        problem = (
            f"is a node of a cluster, and what is asked for is on another: {text}. Let {SETTING} "
            "begin with redis+cluster:// or rediss+cluster://"
        )
    elif _is_of_a_replica(error):
        problem = f"is a replica and takes no writes: {text}. {SETTING} has to name the primary"
    elif isinstance(error, BusyLoadingError):
        problem = f"is still loading its data: {text}. It answers when that is done"
    elif isinstance(error, AuthenticationError | NoPermissionError):
        problem = f"refuses the user or the password: {text}. Look at {SETTING}"
    elif isinstance(error, ConnectionError | RedisClusterException):
        problem = f"can't be reached: {text}. Look whether it runs, and at {SETTING}"
    else:
        problem = f"answered with an error: {text}"
    return StoreUnavailable(f"dirigible_session: Redis {where.shown} {problem}.")
