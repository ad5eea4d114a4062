"""content_encoding of AMQP messages: gzip and deflate are read."""

from __future__ import annotations

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.errors import BodyTooLarge, DamagedBody, UnreadableMessage, UnsupportedEncoding
from junebug_turn.messages.compression import decompress

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of a decompressed body."""

# AMQP libraries write the charset of a text here, and "binary" or "8bit" for bytes that are not compressed.
_AS_IT_IS = frozenset(("utf-8", "utf8", "us-ascii", "ascii", "binary", "7bit", "8bit"))


def decode(delivery: Delivery) -> bytes:
    """Return the body of a delivery without its content_encoding.

    :raises UnreadableMessage: the encoding is an unknown one, or the body doesn't have it, or holds more than
        ``MAX_SIZE``
    """
    encoding = delivery.content_encoding
    if not encoding or encoding.strip().lower() in _AS_IT_IS:
        return delivery.body
    try:
        return decompress(delivery.body, encoding, "content_encoding", MAX_SIZE)
    except (UnsupportedEncoding, BodyTooLarge, DamagedBody) as fault:
        raise UnreadableMessage(str(fault)) from None
