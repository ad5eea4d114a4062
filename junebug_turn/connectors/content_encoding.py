"""content_encoding of AMQP messages: gzip and deflate are read."""

from __future__ import annotations

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.options import MAX_MESSAGE_SIZE
from junebug_turn.errors import BodyTooLarge, DamagedBody, UnreadableMessage, UnsupportedEncoding
from junebug_turn.messages.compression import decompress

# AMQP libraries write the charset of a text here, and "binary" or "8bit" for bytes that are not compressed.
_AS_IT_IS = frozenset(("utf-8", "utf8", "us-ascii", "ascii", "binary", "7bit", "8bit"))


def decode(delivery: Delivery, max_size: int = MAX_MESSAGE_SIZE) -> bytes:
    """Return the body of a delivery without its content_encoding.

    :param max_size: bytes of the largest body, decompressed or not: reading the JSON of a larger one would stop the
        reactor for long
    :raises UnreadableMessage: the encoding is an unknown one, or the body doesn't have it, or it is over ``max_size``
    """
    if len(delivery.body) > max_size:
        raise UnreadableMessage(
            f"the message has {len(delivery.body)} bytes, and {max_size} are read at most (amqp.max_message_size)"
        )
    encoding = delivery.content_encoding
    if not encoding or encoding.strip().lower() in _AS_IT_IS:
        return delivery.body
    try:
        return decompress(delivery.body, encoding, "content_encoding", max_size)
    except (UnsupportedEncoding, BodyTooLarge, DamagedBody) as fault:
        raise UnreadableMessage(str(fault)) from None
