"""Signature of Turn's webhooks: base64 of HMAC-SHA256 over the raw body (Turn's Channels API)."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence

from junebug_turn.errors import Unauthorized

HEADER = "X-Turn-Hook-Signature"


def sign(secret: bytes, body: bytes) -> bytes:
    """Return the value of the header for ``body``."""
    return b64encode(hmac.digest(secret, body, "sha256"))


def verify(secrets: Sequence[bytes], body: bytes, headers: Sequence[bytes]) -> None:
    """Check a request's signature, in constant time.

    :param secrets: any of them can have made it
    :param headers: the values of all headers of that name: one of several could be a forger's
    :raises Unauthorized: there isn't just one, or it isn't the body's
    """
    if len(headers) != 1:
        wrong = f"more than one {HEADER} header" if headers else f"no {HEADER} header"
        raise Unauthorized(f"the request has {wrong}")
    # All of them, so that the time doesn't say which one it was.
    if not sum(hmac.compare_digest(sign(secret, body), headers[0]) for secret in secrets):
        raise Unauthorized(f"{HEADER} is not the signature of the request's body")
