"""The publisher: messages wait for a broker that takes them, and then for its confirm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from txamqp.client import Closed

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import Channel
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.persistent_channel import PersistentChannel
from junebug_turn.amqp.topology import EXCHANGE, Queue, declare
from junebug_turn.errors import AmqpConnectionError, Unroutable

MAX_WAITING = 1000  # messages, while the broker is away or takes none
MAX_ABANDONED = 1000  # unconfirmed messages whose senders have left
DECLARE_INTERVAL = 1.0  # seconds at least between declarations after a return
MAX_ROUTES = 1000  # packed names that are kept


@define(eq=False)
class Publication:
    """A message on its way to the broker.

    :ivar confirmed: fires with the broker's confirm.  Cancelling it withdraws the message while it waits; once the
        message was handed to the broker, cancelling only ends the wait.
    :ivar number: its delivery tag; 0 while it was not handed to the broker
    :ivar late: called with the outcome when ``confirmed`` was cancelled before it: None for the broker's confirm, or
        the fault.  A message that was withdrawn has no outcome.
    """

    confirmed: Deferred[None]
    arguments: bytes = b""
    properties: bytes = b""
    body: bytes = b""
    number: int = 0
    returned: str = ""
    context: Context = field(factory=copy_context)  # of its sender, for the log
    late: Callable[[Exception | None], None] | None = None
    abandon: Callable[[Publication], None] | None = None
    abandoned: bool = False

    @property
    def handed_over(self) -> bool:
        """Whether the broker may have the message."""
        return self.number > 0

    def withdraw(self) -> bool:
        """Take the message back, if it still waits; ``confirmed`` fails with CancelledError then.

        Of a message that was handed over it is only noted that nobody waits for it; ``confirmed`` goes on.

        :returns: whether it was surely not handed to the broker, and never will be
        """
        if not self.number:
            self.confirmed.cancel()
            return True
        if self.abandon is not None and not self.confirmed.called:
            self.abandon(self)
        return False

    def settle(self, fault: Exception | None) -> None:
        """Have ``confirmed`` fire with the outcome, or call ``late`` with it."""
        if self.confirmed.called:
            if self.late is not None:
                self.late(fault)
        elif fault is None:
            self.confirmed.callback(None)
        else:
            self.confirmed.errback(fault)


class Publisher(PersistentChannel):
    """One channel in confirm mode, and the messages that wait for it.

    :ivar queues: declared before the channel is used; they belong to the broker service
    """

    log = Logger()
    name = "publishing"

    def __init__(self, reactor: Any, rng: Callable[[], float], queues: Iterable[Queue]) -> None:
        super().__init__(reactor, rng)
        self._queues = queues
        self._waiting: OrderedDict[Publication, None] = OrderedDict()
        self._unconfirmed: OrderedDict[int, Publication] = OrderedDict()
        self._routes: dict[tuple[str, str], bytes] = {}
        self._protocol: AmqpProtocol | None = None
        self._ready = False
        self._flowing = True
        self._published = 0
        self._abandoned = 0
        self._stopped = False
        self._declared = -DECLARE_INTERVAL

    # the channel

    async def open(self, protocol: AmqpProtocol) -> Channel:
        await declare(protocol, list(self._queues))
        channel = await protocol.open_channel()
        channel.listener = self
        await protocol.call(channel.confirm_select())
        self._protocol = protocol
        self._flowing = True
        self._published = 0
        protocol.sendable_changed = self._flush
        return channel

    def opened(self) -> None:
        self._flush()

    def flow(self, active: bool) -> None:
        self._flowing = active
        self._flush()

    def closed(self, why: str) -> None:
        self._ready = False
        unconfirmed, self._unconfirmed = self._unconfirmed, OrderedDict()
        super().closed(why)
        for publication in unconfirmed.values():
            publication.settle(AmqpConnectionError(f"the message was not confirmed: {why}"))
        # Last, as a callback of one may have cancelled another.
        self._abandoned = 0

    # publishing

    def publish(
        self,
        routing_key: str,
        body: bytes,
        *,
        exchange: str = EXCHANGE,
        headers: Mapping[str, Any] | None = None,
        expiration: int | None = None,
    ) -> Publication:
        """Publish ``body`` (JSON).  While the broker is away, or takes no messages, it waits; it is never sent twice.

        :param headers: of values that ``codec.encode_table`` takes
        :param expiration: milliseconds until the broker drops it from its queue
        :raises Unroutable: (in ``confirmed``) no queue took it
        :raises AmqpConnectionError: (in ``confirmed``) refused, or lost before its confirm, or 1,000 wait
        :raises ValueError: (in ``confirmed``) a name or the headers have no form in AMQP
        """
        arguments = self._routes.get((exchange, routing_key))
        try:
            if arguments is None:
                arguments = frames.publish_arguments(exchange, routing_key)
                if len(self._routes) < MAX_ROUTES:
                    self._routes[exchange, routing_key] = arguments
            properties = frames.publish_properties(headers, expiration)
        except ValueError:
            return Publication(fail())
        if self._stopped:
            return Publication(fail(AmqpConnectionError("shutting down")))
        if not self._ready and len(self._waiting) >= MAX_WAITING:
            fault = AmqpConnectionError("the broker is away and too many messages wait for it already")
            return Publication(fail(fault))
        publication = Publication(Deferred(lambda _: self._give_up(publication)), arguments, properties, body)
        publication.abandon = self._abandon
        if self._ready:
            self._send(publication)
        else:
            self._waiting[publication] = None
        return publication

    def stop(self) -> None:
        """Take nothing more; what waits fails."""
        self._stopped = True
        waiting, self._waiting = self._waiting, OrderedDict()
        for publication in waiting:
            publication.settle(AmqpConnectionError("shutting down"))

    def _flush(self) -> None:
        """Send what waits, the first first, as long as the broker takes it."""
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
        try:
            channel.publish(publication.arguments, publication.properties, publication.body)
        except ValueError as fault:
            self._published -= 1
            del self._unconfirmed[publication.number]
            publication.number = 0
            publication.settle(fault)

    def _give_up(self, publication: Publication) -> None:
        """Withdraw a message that waits; of one that was handed over, only note that its sender has left."""
        if not publication.number:
            self._waiting.pop(publication, None)
            return
        # Before the connection may be aborted, which would fail it with another reason.
        publication.confirmed.errback(CancelledError())
        self._abandon(publication)

    def _abandon(self, publication: Publication) -> None:
        """Note that nobody waits any more for the outcome of a message that was handed over."""
        if publication.abandoned:
            return
        publication.abandoned = True
        self._abandoned += 1
        protocol = self._protocol
        if self._abandoned > MAX_ABANDONED and protocol is not None and not protocol.blocked:
            protocol.abort(f"no confirm for {self._abandoned} messages whose senders have left")

    # the broker's answers

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        unconfirmed = self._unconfirmed
        if not multiple:
            publication = unconfirmed.pop(tag, None)
            if publication is not None:
                self._confirm(publication, taken)
            return
        while unconfirmed and next(iter(unconfirmed)) <= tag:
            self._confirm(unconfirmed.popitem(last=False)[1], taken)

    def _confirm(self, publication: Publication, taken: bool) -> None:
        if publication.abandoned:
            self._abandoned -= 1
        if publication.returned:
            publication.settle(Unroutable("no queue for the message"))
        elif not taken:
            publication.settle(AmqpConnectionError("the broker refused the message"))
        else:
            publication.settle(None)

    def returned(self, exchange: str | bytes, routing_key: str | bytes, body: bytes, why: str) -> None:
        # A return carries no number.  Those with the same route and body have the same fate, so any of
        # them may take it; and it comes before the confirm, in the order of publishing.
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
        if any(queue.name == routing_key for queue in self._queues):
            self._declare_again()

    def _declare_again(self) -> None:
        """A queue of ours, or its binding, was deleted under us."""
        protocol, now = self._protocol, self._reactor.seconds()
        if protocol is None or protocol.blocked or now - self._declared < DECLARE_INTERVAL:
            return
        self._declared = now
        declaring = Deferred.fromCoroutine(declare(protocol, list(self._queues)))
        declaring.addErrback(lambda failure: failure.trap(Closed) and None)
