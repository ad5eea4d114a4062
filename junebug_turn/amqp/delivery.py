"""A delivery: one message from a queue, until it is acked or requeued."""

from __future__ import annotations

from typing import Any, Protocol

from attrs import define, field

from junebug_turn.amqp import frames


class AcknowledgingChannel(Protocol):
    """The channel, as a delivery needs it.

    :ivar closed: whether the channel is gone
    """

    closed: bool

    def acknowledge(self, method: int, delivery_tag: int, flags: int) -> None:
        """Send basic.ack or basic.nack."""


DELIVERY_LIMIT = 10
"""Deliveries of a message after which a copy takes its place: RabbitMQ 4 drops one of a quorum queue after 20."""

_COUNT_HEADER = "x-delivery-count"


class DeliveryLost(Exception):
    """The end of work for a message whose channel is gone: the broker delivers it again."""


@define(eq=False)
class Delivery:
    """A message from a queue, to be acked, requeued or rejected: the first call counts, none when the channel is gone.

    The broker delivers again whatever was not acked when a channel ends.

    :ivar header: the payload of its content header, with its properties
    :ivar method: the payload of its basic.deliver, with its routing key
    :ivar redelivered: whether the broker has delivered it before
    :ivar settled: whether it was acked, requeued or rejected
    """

    channel: AcknowledgingChannel
    tag: int
    body: bytes = field(repr=False)
    header: bytes = field(repr=False)
    redelivered: bool = False
    method: bytes = field(default=b"", repr=False)
    settled: bool = False

    @property
    def routing_key(self) -> str | bytes:
        """The key by which it was routed to its queue; bytes where it is no UTF-8."""
        return frames.deliver_routing(self.method)[1]

    @property
    def properties(self) -> dict[str, Any]:
        """The basic properties, by their names in the specification.

        :raises ValueError: malformed
        """
        return frames.decode_properties(self.header)

    @property
    def headers(self) -> dict[Any, Any]:
        """Its headers; none where they are malformed."""
        try:
            return dict(self.properties.get("headers") or {})
        except ValueError:
            return {}

    @property
    def worn_out(self) -> bool:
        """Whether its quorum queue has delivered it so often that it should be replaced by a copy, which counts anew.

        Each requeue counts, and each channel that ends before the ack.
        """
        if not self.redelivered:
            return False
        count = self.headers.get(_COUNT_HEADER)
        return isinstance(count, int) and count >= DELIVERY_LIMIT

    @property
    def content_encoding(self) -> str:
        """How its body is encoded, as its publisher wrote it; empty where it wrote nothing."""
        return frames.content_encoding(self.header)

    @property
    def lost(self) -> bool:
        """Whether its channel is gone, so that the broker delivers it again in any case."""
        return self.channel.closed

    def check(self) -> None:
        """Go on only while the channel is there.

        :raises DeliveryLost: it is gone
        """
        if self.lost:
            raise DeliveryLost

    def renew(self, again: Delivery) -> None:
        """Stand for ``again``, the same message, delivered again since the channel of this one ended."""
        self.channel, self.tag = again.channel, again.tag

    def ack(self) -> None:
        """Have the broker drop it: it is taken care of."""
        self._settle(frames.BASIC_ACK, 0)

    def requeue(self) -> None:
        """Have the broker put it back into its queue."""
        self._settle(frames.BASIC_NACK, 2)

    def reject(self) -> None:
        """Have the broker dead-letter it: move it to where its queue sends what expires there."""
        self._settle(frames.BASIC_NACK, 0)

    def _settle(self, method: int, flags: int) -> None:
        if not self.settled:
            self.settled = True
            self.channel.acknowledge(method, self.tag, flags)
