"""The publisher: messages wait for a broker that takes them, and then for its confirm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger

from junebug_turn.amqp import frames
from junebug_turn.amqp.backlog import MAX_BYTES, Backlog
from junebug_turn.amqp.channel import Channel
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.persistent_channel import PersistentChannel
from junebug_turn.amqp.publication import Publication
from junebug_turn.amqp.refusals import MessageSizes, Refusal
from junebug_turn.amqp.topology import EXCHANGE, Topology
from junebug_turn.errors import AmqpConnectionError, JunebugTurnError, Unroutable

MAX_WAITING = 1000  # messages, while the broker is away or takes none
MAX_ABANDONED = 1000  # unconfirmed messages whose senders have left
MAX_ABANDONED_BYTES = MAX_BYTES // 4  # their bodies
MAX_ROUTES = 1000  # packed names that are kept


class Publisher(PersistentChannel):
    """One channel in confirm mode, and the messages that wait for it.

    The broker closes a channel for a message that is too large, or that the user may not publish.  What was written
    after that message it has ignored, so that it is published again; what was written before it and is not confirmed
    may or may not be in its queue, and fails.

    :param topology: declared before the channel is used
    :param sizes: what is known of the broker's limit, for all publishers on the connection
    :param alone: whether a message is written only when the one before it is confirmed
    :ivar refused: the permission that the user lacked for the last message, in words
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Callable[[], float],
        topology: Topology,
        *,
        name: str = "publishing",
        sizes: MessageSizes | None = None,
        alone: bool = False,
    ) -> None:
        super().__init__(reactor, rng)
        self.name = name
        self._topology = topology
        self._sizes = sizes or MessageSizes()
        self._alone = alone
        self.refused = ""
        self._waiting: OrderedDict[Publication, None] = OrderedDict()
        self._unconfirmed: OrderedDict[int, Publication] = OrderedDict()
        self._routes: dict[tuple[str, str], bytes] = {}
        self._protocol: AmqpProtocol | None = None
        self._ready = False
        self._flowing = True
        self._published = 0
        self._abandoned = self._abandoned_bytes = 0
        self._backlog = Backlog()
        self._stopped = False

    # the channel

    async def open(self, protocol: AmqpProtocol) -> Channel:
        await self._topology.ensure(protocol)
        if protocol is not self._protocol:
            self._protocol = protocol
            self._sizes.use(protocol)
            protocol.sendable_changed.append(self._flush)
        channel = await protocol.open_channel()
        channel.listener = self
        await protocol.call(channel.confirm_select())
        self._flowing = True
        self._published = 0
        return channel

    def opened(self) -> None:
        self._flush()

    def flow(self, active: bool) -> None:
        self._flowing = active
        self._flush()

    def closed(self, why: str) -> None:
        self._ready = False
        unconfirmed, self._unconfirmed = self._unconfirmed, OrderedDict()
        refusal = self._refusal()
        super().closed(why)
        ignored: list[Publication] = []
        found = False
        for publication in unconfirmed.values():
            if refusal is not None and refusal.concerns(publication.arguments, len(publication.body)):
                found = True
                publication.settle(refusal.error)
            elif found:
                ignored.append(publication)
            else:
                publication.settle(AmqpConnectionError(f"the message was not confirmed: {why}"))
        for publication in reversed(ignored):
            if publication.confirmed.called:  # its sender has left, and it stays unsent
                publication.settle(AmqpConnectionError(f"the message was not confirmed: {why}"))
            else:
                publication.number, publication.abandoned = 0, False
                self._waiting[publication] = None
                self._waiting.move_to_end(publication, last=False)
        self._abandoned = self._abandoned_bytes = 0  # last, as a callback of one may have cancelled another

    def _refusal(self) -> Refusal | None:
        """Read for which message the channel was closed."""
        if self.channel is None or self._protocol is None or self._protocol.closed:
            return None
        refusal = Refusal.read(self.channel.reason)
        if refusal is None:
            self._topology.forget()  # perhaps the exchange was deleted
        elif refusal.size:
            self._sizes.refused(refusal.limit)
        else:
            self.refused = str(refusal.error)
        return refusal

    # publishing

    def publish(
        self,
        routing_key: str,
        body: bytes,
        *,
        exchange: str = EXCHANGE,
        headers: Mapping[str, Any] | None = None,
        expiration: int | None = None,
        original: bytes = b"",
        backlog: Backlog | None = None,
    ) -> Publication:
        """Publish ``body`` (JSON).  While the broker is away, or takes no messages, it waits; it is never taken twice.

        :param headers: of values that ``codec.encode_table`` takes
        :param expiration: milliseconds until the broker drops it from its queue
        :param original: the header of the delivery that this is a copy of, whose other properties are kept
        :param backlog: the bound of the messages whose outcome is not known, where publishers share one
        :raises Unroutable: (in ``confirmed``) no queue took it
        :raises MessageTooLarge: (in ``confirmed``) it is over the broker's limit
        :raises AmqpConnectionError: (in ``confirmed``) refused, or lost before its confirm; or 1,000 wait, or
            the backlog is full
        :raises ValueError: (in ``confirmed``) a name or the headers have no form
        """
        arguments = self._routes.get((exchange, routing_key))
        try:
            if arguments is None:
                arguments = frames.publish_arguments(exchange, routing_key)
                if len(self._routes) < MAX_ROUTES:
                    self._routes[exchange, routing_key] = arguments
            properties = frames.publish_properties(headers, expiration, original)
        except ValueError:
            return Publication(fail())
        if self._stopped:
            return Publication(fail(AmqpConnectionError("shutting down")))
        if not self._ready and len(self._waiting) >= MAX_WAITING:
            fault = AmqpConnectionError("the broker is away and too many messages wait for it already")
            return Publication(fail(fault))
        backlog = backlog or self._backlog
        if not backlog.takes(body):
            fault = AmqpConnectionError("too many messages, or too large ones, wait for the broker already")
            return Publication(fail(fault))
        publication = Publication(Deferred(lambda _: self._give_up(publication)), arguments, properties, body)
        publication.abandon = self._abandon
        publication.backlog = backlog
        backlog.add(body)
        if self._ready:
            self._send(publication)
        else:
            self._waiting[publication] = None
        return publication

    def stop(self) -> None:
        """Take no more messages; those that wait fail."""
        self._stopped = True
        waiting, self._waiting = self._waiting, OrderedDict()
        for publication in waiting:
            publication.settle(AmqpConnectionError("shutting down"))

    def _flush(self) -> None:
        """Send the waiting messages in their order, as long as the broker takes them."""
        while self._may_send() and self._waiting:
            publication, _ = self._waiting.popitem(last=False)
            self._send(publication)
        # Nothing overtakes what waits.
        self._ready = self._may_send() and not self._waiting

    def _may_send(self) -> bool:
        protocol = self._protocol
        return (
            self.channel is not None
            and protocol is not None
            and self._flowing
            and not (self._alone and self._unconfirmed)
            and protocol.writable
            and not protocol.blocked
        )

    def _send(self, publication: Publication) -> None:
        channel = self.channel
        assert channel is not None  # noqa: S101  (for mypy; _ready says so)  # nosec B101
        # Noted before it is written: a full write buffer calls back at once.
        self._published += 1
        publication.number = self._published
        self._unconfirmed[publication.number] = publication
        self._ready = self._ready and not self._alone
        try:
            self._sizes.check(len(publication.body))
            channel.publish(publication.arguments, publication.properties, publication.body)
        except (ValueError, JunebugTurnError) as fault:
            self._published -= 1
            del self._unconfirmed[publication.number]
            publication.number = 0
            self._ready = self._may_send() and not self._waiting
            publication.settle(fault)

    def _give_up(self, publication: Publication) -> None:
        """Withdraw a waiting message; for a message that was handed over, only note that its sender has left."""
        if not publication.number:
            self._waiting.pop(publication, None)
            publication.release()
            return
        # Before the connection may be aborted, which would fail it with another reason.
        publication.confirmed.errback(CancelledError())
        self._abandon(publication)

    def _abandon(self, publication: Publication) -> None:
        """Note that the sender of a message that was handed over has left."""
        if publication.abandoned:
            return
        publication.abandoned = True
        self._abandoned += 1
        self._abandoned_bytes += len(publication.body)
        many = self._abandoned > MAX_ABANDONED or self._abandoned_bytes > MAX_ABANDONED_BYTES
        protocol = self._protocol
        if many and protocol is not None and not protocol.blocked:
            protocol.abort(f"no confirm for {self._abandoned} messages whose senders have left")

    # the broker's answers

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        unconfirmed = self._unconfirmed
        if not multiple:
            publication = unconfirmed.pop(tag, None)
            if publication is not None:
                self._confirm(publication, taken)
        else:
            while unconfirmed and next(iter(unconfirmed)) <= tag:
                self._confirm(unconfirmed.popitem(last=False)[1], taken)
        if self._alone:
            self._flush()

    def _confirm(self, publication: Publication, taken: bool) -> None:
        if self._alone and taken and not publication.returned:
            self._sizes.taken(len(publication.body))
        if publication.abandoned:
            self._abandoned -= 1
            self._abandoned_bytes -= len(publication.body)
        if publication.returned:
            publication.settle(Unroutable("no queue for the message"))
        elif not taken:
            publication.settle(AmqpConnectionError("the broker refused the message"))
        else:
            self.refused = ""
            publication.settle(None)

    def returned(self, exchange: str | bytes, routing_key: str | bytes, body: bytes, why: str) -> None:
        # It carries no number.  Those with the same route and body have the same fate; it comes before the confirm.
        arguments = frames.publish_arguments(exchange, routing_key)
        warn = self.log.warn
        for publication in self._unconfirmed.values():
            if not publication.returned and publication.arguments == arguments and publication.body == body:
                publication.returned = why
                warn = partial(publication.context.copy().run, warn)
                break
        warn(
            "A message for {exchange}/{queue} came back: {reason}; the queue is not there or not bound, and is "
            "declared again if it is one of ours",
            exchange=exchange,
            queue=routing_key,
            reason=why,
        )
        if self._protocol is not None:
            self._topology.returned(self._protocol, routing_key)
