"""Talking to Redis: one client a process, and on the async path one for each event loop.

A call that is cut off by a broken connection is tried once more, on another connection: all that
is sent here can be done twice with the same outcome. A call that is not answered in time is not
tried again, so that nothing waits for longer than the timeouts of the URL say.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from dirigible_session.conf import conf
from dirigible_session.exceptions import StoreUnavailable

from .redis_scripts import Script
from .redis_url import CONNECT_TIMEOUT, EXAMPLE, SETTING, SOCKET_TIMEOUT, Target, parse

try:
    import redis
    import redis.asyncio
    import redis.asyncio.cluster
    import redis.asyncio.retry
    import redis.backoff
    import redis.cluster
    import redis.retry
    from redis.exceptions import (
        ConnectionError,  # noqa: A004
        NoScriptError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
    )
except ModuleNotFoundError as error:
    raise ImproperlyConfigured(
        "dirigible_session: the Redis engine needs redis-py. Install it with "
        "`pip install 'dirigible-session[redis]'`."
    ) from error

#: Of one client: how many calls of an event loop are under way at once; the others wait.
CONCURRENCY = 100
#: Threads each hold a connection for the length of a call, and who starts threads counts them.
THREADS = 100_000

Args = tuple[Any, ...]
Failure = (RedisError, RedisClusterException)


@dataclass(frozen=True, slots=True)
class Call:
    """One command; with a script, its arguments after the script's name."""

    args: Args
    script: Script | None = None
    #: What to send instead when the call is tried again; None: the same.
    args_again: Args | None = None

    def command(self, *, again: bool = False, by_text: bool = False) -> Args:
        """Return what is sent: of a script its digest, or its text for a server that lost it."""
        args = self.args_again if again and self.args_again is not None else self.args
        if self.script is None:
            return args
        return ("EVAL", self.script.text, *args) if by_text else ("EVALSHA", self.script.sha, *args)


def target() -> Target:
    """Return what the setting names; ImproperlyConfigured if it names nothing."""
    try:
        return parse(conf.redis_url)
    except ValueError as problem:
        raise ImproperlyConfigured(
            f"dirigible_session: {SETTING} is wrong: {problem}. An example: {EXAMPLE!r}."
        ) from None


def _unavailable(where: Target, error: Exception) -> StoreUnavailable:
    text = str(error)
    if isinstance(error, redis.TimeoutError):
        problem = (
            f"did not answer in time (socket_timeout {where.socket_timeout:g} s): {text}. "
            "Look whether it is overloaded, or the network to it broken"
        )
    elif "OOM" in text:
        problem = (
            f"has no memory left and takes no writes: {text}. Raise its maxmemory, or give the "
            "sessions a server of their own"
        )
    elif isinstance(error, ReadOnlyError) or "READONLY" in text:
        problem = f"is a replica and takes no writes: {text}. {SETTING} has to name the primary"
    elif isinstance(error, redis.BusyLoadingError):
        problem = f"is still loading its data: {text}. It answers when that is done"
    elif isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        problem = f"refuses the user or the password: {text}. Look at {SETTING}"
    elif isinstance(error, ConnectionError | RedisClusterException):
        problem = f"can't be reached: {text}. Look whether it runs, and at {SETTING}"
    else:
        problem = f"answered with an error: {text}"
    return StoreUnavailable(f"dirigible_session: Redis at {where.shown} {problem}.")


def _options(where: Target) -> dict[str, Any]:
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "protocol": 2,
    }


def _worth_a_retry(error: Exception) -> bool:
    return isinstance(error, (ConnectionError, ReadOnlyError)) or "READONLY" in str(error)


class Client:
    """What sync code asks; safe to share between threads, and to use after a fork."""

    def __init__(self, where: Target) -> None:
        self.where = where
        no_retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        options = _options(where) | {"max_connections": THREADS}
        self.redis: Any
        if where.is_cluster:
            nodes = [redis.cluster.ClusterNode(host, port) for host, port in where.other_nodes]
            self.redis = redis.cluster.RedisCluster.from_url(
                where.url, startup_nodes=nodes, retry=no_retry, **options
            )
        else:
            pool = redis.ConnectionPool.from_url(where.url, retry=no_retry, **options)
            self.redis = redis.Redis(connection_pool=pool)

    def run(self, *calls: Call) -> list[Any]:
        """Do the calls in this order and return their answers.

        One round trip; on a cluster one for each call, since they may go to several nodes.
        StoreUnavailable if that is impossible.
        """
        try:
            try:
                return self._send(calls)
            except Failure as error:
                if not _worth_a_retry(error):
                    raise
                self._drop_connections()
                return self._send(calls, again=True)
        except Failure as error:
            raise _unavailable(self.where, error) from error

    def _send(self, calls: Sequence[Call], *, again: bool = False) -> list[Any]:
        if len(calls) == 1 or self.where.is_cluster:
            return [self._send_one(call, again=again) for call in calls]
        pipeline = self.redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call.command(again=again))
        answers = pipeline.execute(raise_on_error=False)
        for place, (call, answer) in enumerate(zip(calls, answers, strict=True)):
            if isinstance(answer, NoScriptError):
                command = call.command(again=again, by_text=True)
                answers[place] = self.redis.execute_command(*command)
            elif isinstance(answer, Exception):
                raise answer
        return list(answers)

    def _send_one(self, call: Call, *, again: bool) -> Any:
        try:
            return self.redis.execute_command(*call.command(again=again))
        except NoScriptError:
            return self.redis.execute_command(*call.command(again=again, by_text=True))

    def _drop_connections(self) -> None:
        # The name may stand for another server by now, and the others are as broken as this one.
        if not self.where.is_cluster:
            self.redis.connection_pool.disconnect(inuse_connections=False)
