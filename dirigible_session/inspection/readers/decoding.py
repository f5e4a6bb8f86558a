"""Reading what Django's engines wrote: the signature checked, the payload decoded, fast.

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
from django.core.signing import BadSignature, JSONSerializer, TimestampSigner
from django.utils.encoding import force_bytes

Data = dict[str, Any]

BAD_SIGNATURE = "signature does not match: signed with another key, or altered"
NO_DICT = "payload is no dict"

_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Undecodable(Exception):
    """A stored session can't be decoded; the message is the reason."""


class Decoder:
    """Decodes what a store's ``encode`` wrote, as its ``decode`` would."""

    def __init__(self, store: SessionBase) -> None:
        """Derive the keys of ``store``: SECRET_KEY's and those of SECRET_KEY_FALLBACKS."""
        self._store = store
        self._loads = _loads(store.serializer())
        self._signer = TimestampSigner(salt=store.key_salt)
        secrets = (self._signer.key, *self._signer.fallback_keys)
        self._signatures = [_signature_maker(self._signer, secret) for secret in secrets]
        self._is_stock = type(store).decode is SessionBase.decode
        # Django may change how it signs. Then it has to be asked, for each session.
        self._is_known = self._signatures[0](b"probe") == self._signer.signature("probe").encode()

    def decode(self, text: str) -> Data:
        """Return the data of a session; Undecodable if it can't be read."""
        try:
            if self._is_stock:
                data = self._loads(_unpacked(self._verified(text)))
            else:
                data = self._store.decode(text)
        except Undecodable:
            raise
        except Exception as error:
            # What a serializer raises is its own choice, and its message may quote the payload.
            raise Undecodable(f"payload can't be decoded ({type(error).__name__})") from None
        if not isinstance(data, dict):
            raise Undecodable(NO_DICT)
        return data

    def _verified(self, text: str) -> bytes:
        if not self._is_known:
            return self._unsigned(text)
        signed, _, claimed = text.encode().rpartition(b":")
        for signature in self._signatures:
            if hmac.compare_digest(signature(signed), claimed):
                return signed.rpartition(b":")[0]
        raise Undecodable(BAD_SIGNATURE)

    def _unsigned(self, text: str) -> bytes:
        try:
            return self._signer.unsign(text).encode()
        except BadSignature:
            raise Undecodable(BAD_SIGNATURE) from None


def _signature_maker(signer: TimestampSigner, secret: str | bytes) -> Callable[[bytes], bytes]:
    # The key is derived as django.utils.crypto.salted_hmac does.
    salted = force_bytes(signer.salt) + b"signer" + force_bytes(secret)
    key = new_hash(signer.algorithm, salted).digest()
    begun = hmac.new(key, digestmod=signer.algorithm)

    def signature(value: bytes) -> bytes:
        code = begun.copy()
        code.update(value)
        return b2a_base64(code.digest(), newline=False).translate(_TO_URL_SAFE).rstrip(b"=")

    return signature


def _unpacked(payload: bytes) -> bytes:
    encoded = payload.removeprefix(b".").translate(_FROM_URL_SAFE)
    raw = a2b_base64(encoded + b"=" * (-len(encoded) % 4))
    return zlib.decompress(raw) if payload[:1] == b"." else raw


def _loads(serializer: Any) -> Callable[[bytes], Any]:
    if type(serializer) is not JSONSerializer:
        loads: Callable[[bytes], Any] = serializer.loads
        return loads
    scan = JSONDecoder().scan_once  # type: ignore[attr-defined]

    def loads_json(payload: bytes) -> Any:
        # json.loads, without the search for whitespace that Django does not write.
        text = payload.decode("latin-1")
        try:
            value, end = scan(text, 0)
        except StopIteration:
            return serializer.loads(payload)
        return value if end == len(text) else serializer.loads(payload)

    return loads_json
