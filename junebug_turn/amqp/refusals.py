"""Refusals: the broker closes a channel for a message that is too large, or that the user may not publish.

Source: RabbitMQ's reply texts, ``PRECONDITION_FAILED - message size 20000 is larger than configured max size 10000``,
``ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'u'``.  It asks once a channel for
the permission, so that the first message on a channel is refused.  An exchange that was deleted is not
among these: the text does not say which message was the first after that.
"""

from __future__ import annotations

import re
from typing import Any, Self

from attrs import define, frozen

from junebug_turn.amqp.codec import encode_shortstr
from junebug_turn.errors import AmqpConnectionError, JunebugTurnError, MessageTooLarge

SMALL = 4096
"""Bytes; a body up to this size is taken to be below any broker's limit, until the broker says otherwise."""

ACCESS_REFUSED = 403
_SIZES = re.compile(r"message size (\d+)\D+(\d+)")
_EXCHANGE = re.compile(r"exchange '([^']*)'")
_DEFAULT_EXCHANGE = "amq.default"  # its name in the permissions


@define
class MessageSizes:
    """The sizes of bodies, in bytes, that a broker takes.

    :ivar proven: the largest that it has confirmed, ``SMALL`` at least
    :ivar limit: its ``max_message_size``, once it has refused a larger body; None: not known
    """

    proven: int = SMALL
    limit: int | None = None
    _connection: object = None

    def check(self, size: int) -> None:
        """Refuse a body over the limit.

        :raises MessageTooLarge: it would close the channel
        """
        if self.limit is not None and size > self.limit:
            raise _too_large(size, self.limit)

    def refused(self, limit: int) -> None:
        """Remember the limit that the broker has named."""
        self.limit = limit
        self.proven = min(self.proven, limit)

    def taken(self, size: int) -> None:
        """Remember a size that the broker has confirmed."""
        self.proven = max(self.proven, size)

    def use(self, connection: object) -> None:
        """Begin anew on another connection: the broker may have another limit after a restart."""
        if connection is not self._connection:
            self._connection = connection
            self.limit, self.proven = None, SMALL


def _too_large(size: int, limit: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"the message has {size} bytes, and the broker takes {limit} at most (its max_message_size)"
    )


@frozen
class Refusal:
    """The broker's refusal of one message, for which it has closed the channel.

    :ivar error: for the sender of that message
    :ivar size: the size of its body, where that was the cause, else 0
    :ivar limit: the broker's limit then
    :ivar route: the beginning of its packed arguments, where its exchange was the cause
    """

    error: JunebugTurnError
    size: int = 0
    limit: int = 0
    route: bytes = b""

    @classmethod
    def read(cls, reason: Any) -> Self | None:
        """Read the reason with which a channel was closed; None: not for a message, or it doesn't say for which."""
        text = str(getattr(reason, "reply_text", ""))
        sizes, exchange = _SIZES.search(text), _EXCHANGE.search(text)
        if sizes is not None:
            size, limit = int(sizes[1]), int(sizes[2])
            return cls(_too_large(size, limit), size=size, limit=limit)
        if exchange is None or reason.reply_code != ACCESS_REFUSED:
            return None
        name = exchange[1]
        error = AmqpConnectionError(
            f"the broker's user may not write to the exchange {name}: give it the permission"
        )
        return cls(error, route=encode_shortstr("" if name == _DEFAULT_EXCHANGE else name))

    def concerns(self, arguments: bytes, size: int) -> bool:
        """Tell whether a message with these packed arguments and this size is refused for the same reason."""
        if self.route:
            return arguments.startswith(self.route)
        return size == self.size
