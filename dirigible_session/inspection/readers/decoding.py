"""Decodes sessions that Django's engines stored: checks the signature, then reads the payload.

``SessionBase.decode`` builds a signer and derives its keys for each session, and tells a damaged
session from an empty one only by a line in a log. A :class:`Decoder` derives the keys once and
says why it can't read a session.
"""

from __future__ import annotations

import hmac
import zlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from hashlib import new as new_hash
from json import JSONDecoder
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.core import signing
from django.utils.encoding import force_bytes

Data = dict[str, Any]

BAD_SIGNATURE = "signature does not match: signed with another key, or altered"
NOT_A_DICT = "payload is not a dict"

_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Undecodable(Exception):
    """A stored session can't be decoded; the message is the reason."""


class Decoder:
    """Decodes sessions as the ``decode`` of their store would."""

    def __init__(self, store: SessionBase) -> None:
        """Derive the keys of ``store`` from SECRET_KEY and SECRET_KEY_FALLBACKS."""
        self._store = store
        self._loads = _loads(store.serializer())
        self._is_stock = type(store).decode is SessionBase.decode
        signer = signing.TimestampSigner(salt=store.key_salt)
        # Keys are derived as in django.utils.crypto.salted_hmac().
        salt, name = force_bytes(signer.salt) + b"signer", signer.algorithm
        secrets = map(force_bytes, (signer.key, *signer.fallback_keys))
        keys = [new_hash(name, salt + secret).digest() for secret in secrets]
        self._hmacs = [hmac.new(key, digestmod=name) for key in keys]
        # A later Django may sign in another way. It then has to verify each session itself.
        self._is_known = _signature(self._hmacs[0], b"probe") == signer.signature("probe").encode()

    def decode(self, text: str) -> Data:
        """Return the data of a session; Undecodable if it can't be read."""
        try:
            if not self._is_stock:
                data = self._store.decode(text)
            elif self._is_known:
                data = self._loads(self._payload(text.encode()))
            else:
                data = signing.loads(
                    text, salt=self._store.key_salt, serializer=self._store.serializer
                )
        except signing.BadSignature:
            raise Undecodable(BAD_SIGNATURE) from None
        except Exception as error:
            # A serializer may raise anything, with a message that quotes the payload.
            raise Undecodable(f"payload can't be decoded ({type(error).__name__})") from None
        if not isinstance(data, dict):
            raise Undecodable(NOT_A_DICT)
        return data

    def _payload(self, text: bytes) -> bytes:
        signed, _, signature = text.rpartition(b":")
        for keyed in self._hmacs:
            if hmac.compare_digest(_signature(keyed, signed), signature):
                break
        else:
            raise signing.BadSignature
        payload, _, _ = signed.rpartition(b":")
        # Base64 is read up to its padding, so more "=" than needed do no harm.
        if payload[:1] == b".":
            return zlib.decompress(a2b_base64(payload[1:].translate(_FROM_URL_SAFE) + b"=="))
        return a2b_base64(payload.translate(_FROM_URL_SAFE) + b"==")


def _signature(keyed: hmac.HMAC, value: bytes) -> bytes:
    code = keyed.copy()
    code.update(value)
    return b2a_base64(code.digest(), newline=False).translate(_TO_URL_SAFE).rstrip(b"=")


def _loads(serializer: Any) -> Callable[[bytes], Any]:
    if type(serializer) is not signing.JSONSerializer:
        loads: Callable[[bytes], Any] = serializer.loads
        return loads
    scan = JSONDecoder().scan_once  # type: ignore[attr-defined]

    def loads_json(payload: bytes) -> Any:
        # json.loads(), without the search for whitespace, which Django does not write.
        text = payload.decode("latin-1")
        try:
            value, end = scan(text, 0)
        except StopIteration:
            return serializer.loads(payload)
        return value if end == len(text) else serializer.loads(payload)

    return loads_json
