"""The position of a walk in pages, as text that may be shown.

On Django's engines the position is a session key, which opens a session. So it is encrypted, with
a key that is derived from ``SECRET_KEY``, and signed: it may stand in the address of a page.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import shake_256

from django.core.signing import BadSignature, Signer
from django.utils.crypto import salted_hmac

from .errors import UnknownPosition

SALT = "dirigible_session.inspection.positions"
NONCE_LENGTH = 16


def sealed(position: str, engine: str) -> str:
    """Return a position in an engine as URL-safe text that tells nothing of it."""
    nonce = os.urandom(NONCE_LENGTH)
    hidden = _masked(position.encode("utf-8", "surrogatepass"), nonce)
    return _signer(engine).sign(urlsafe_b64encode(nonce + hidden).decode())


def opened(text: str, engine: str) -> str:
    """Return the position that was sealed; UnknownPosition if it was not, or for another engine."""
    try:
        raw = urlsafe_b64decode(_signer(engine).unsign(text))
    except BadSignature:
        raise UnknownPosition(
            "The position is not one that a page of these sessions gave. Begin without one."
        ) from None
    return _masked(raw[NONCE_LENGTH:], raw[:NONCE_LENGTH]).decode("utf-8", "surrogatepass")


def _masked(text: bytes, nonce: bytes) -> bytes:
    # A stream cipher: the key stream is the output of SHAKE-256 for a secret key and a nonce.
    secret = salted_hmac(SALT, "mask", algorithm="sha256").digest()
    stream = shake_256(secret + nonce).digest(len(text))
    return bytes(a ^ b for a, b in zip(text, stream, strict=True))


def _signer(engine: str) -> Signer:
    return Signer(salt=f"{SALT}:{engine}", sep=".")
