"""Recording the last access of a stored session, and writing nothing else.

An engine of our own does it by itself. A stock engine can only save a session whole, so what is
saved is read again just before: what another request wrote meanwhile stays. A session that is gone
stays gone. Where the store takes no writes, that is logged, and no reason to fail a page that
has only read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.contrib.sessions.backends.base import UpdateError

from . import lifecycle, loading

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase


logger = logging.getLogger("dirigible_session")


def touch(session: SessionBase, times: lifecycle.Times) -> bool:
    """Store the last access of ``times``; return whether that was done."""
    with _excused():
        if lifecycle.keeps_times(session):
            return bool(session.touch(times.accessed))  # type: ignore[attr-defined]
        fresh = type(session)(session.session_key)
        if _put_times(fresh, loading.load(fresh), times):
            fresh.save()
            return True
    return False


async def atouch(session: SessionBase, times: lifecycle.Times) -> bool:
    """Async twin of :func:`touch`."""
    with _excused():
        if lifecycle.keeps_times(session):
            return bool(await session.atouch(times.accessed))  # type: ignore[attr-defined]
        fresh = type(session)(session.session_key)
        if _put_times(fresh, await loading.aload(fresh), times):
            await fresh.asave()
            return True
    return False


@contextmanager
def _excused() -> Iterator[None]:
    try:
        yield
    except UpdateError:
        # It is gone.
        return
    except Exception:
        # Whatever a store raises that can't be reached, or takes no writes.
        logger.exception("The last access of a session could not be recorded.")


def _put_times(fresh: SessionBase, data: dict[str, Any], times: lifecycle.Times) -> bool:
    if fresh.session_key is None:
        return False
    stored = lifecycle.read(fresh, data)
    if stored is None and not data:
        # Not a session that is empty, most likely, but one that this process can't decode, and
        # another one can: it has another SECRET_KEY for a while.
        return False
    if stored is not None:
        times = replace(stored, accessed=max(stored.accessed, times.accessed))
    lifecycle.write(fresh, data, times)
    vars(fresh)["_session_cache"] = data
    return True
