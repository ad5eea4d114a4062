"""Standard Webhooks headers: the message id for deduplication, and the HMAC signature.

The headers and the signature are those of the Standard Webhooks specification, version 1.0.0
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md): symmetric, ``v1``.
"""

from __future__ import annotations

import hmac
import string
from base64 import b64decode, b64encode
from typing import TypeAlias
from urllib.parse import quote

from attrs import field, frozen

from junebug_turn.config.types import ValueType, filled

SECRET_PREFIX = "whsec_"  # noqa: S105  (it marks a secret, and is none)

# Characters that a header can hold, without the percent sign, so that two ids never become the same.
_HEADER_SAFE = "".join(set(string.punctuation) - {"%"})


def signing_key(secret: str) -> bytes:
    """Return the key that ``secret`` stands for: ``whsec_`` and base64, or any other text for its UTF-8 bytes.

    :raises ValueError: the base64 can't be read, or there is nothing in it; the message begins with "must"
    """
    if not secret.startswith(SECRET_PREFIX):
        key = secret.encode("utf-8")
    else:
        try:
            key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            raise ValueError(f"must have base64 after {SECRET_PREFIX}") from None
    if not key:
        raise ValueError("must not be empty")
    return key


def _webhook_secret(value: object) -> str:
    secret = filled(value)
    signing_key(secret)
    return secret


WEBHOOK_SECRET = ValueType("text", _webhook_secret)


def signature(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``.

    :param webhook_id: not chosen by a possible forger, since it may hold the dots that divide the three
    :param timestamp: Unix seconds
    """
    signed = b"%s.%d.%s" % (webhook_id.encode("ascii"), timestamp, body)
    return "v1," + b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")


def _for_header(text: str) -> str:
    return quote(text, safe=_HEADER_SAFE, errors="surrogatepass")


Keys: TypeAlias = bytes | tuple[bytes, ...] | None


def _as_keys(keys: Keys) -> tuple[bytes, ...]:
    if keys is None:
        return ()
    return (keys,) if isinstance(keys, bytes) else keys


@frozen
class Webhook:
    """Identity of one message or event, however often it is POSTed.

    :ivar id: the message_id or event_id; characters that a header can't hold are percent-encoded
    :ivar keys: each signs the requests; without any they have no signature
    """

    id: str = field(converter=_for_header)
    keys: tuple[bytes, ...] = field(default=(), converter=_as_keys, repr=False)

    def headers(self, now: float, body: bytes) -> dict[str, str]:
        """Make the headers of an attempt at ``now``, in Unix seconds."""
        timestamp = int(now)
        headers = {"webhook-id": self.id, "webhook-timestamp": str(timestamp)}
        if self.keys:
            signatures = (signature(key, self.id, timestamp, body) for key in self.keys)
            headers["webhook-signature"] = " ".join(signatures)
        return headers
