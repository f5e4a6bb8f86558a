"""Handles: names of sessions that can be shown.

Anyone with a session key can use the session, so keys are never shown. A *handle* is the beginning
of the key's digest. It is the same on every engine, and useless as a cookie.
"""

from __future__ import annotations

import re
from hashlib import blake2b

DIGEST_SIZE = 20
DIGEST_LENGTH = 2 * DIGEST_SIZE
HANDLE_LENGTH = 12
#: The fewest digits that tools accept in place of a handle.
SHORTEST = 4
#: A digest, or its beginning.
PREFIX = re.compile(rf"[0-9a-f]{{{SHORTEST},{DIGEST_LENGTH}}}")


def digest(session_key: str) -> str:
    """Return the BLAKE2b digest of a session key: 40 hex digits."""
    return blake2b(
        session_key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE
    ).hexdigest()


def handle(session_key: str) -> str:
    """Return the handle of a session key: the first 12 hex digits of its digest."""
    return digest(session_key)[:HANDLE_LENGTH]
