"""Publishing: what is published waits for a broker that takes it, and then for its confirm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import Channel
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.persistent_channel import PersistentChannel
from junebug_turn.amqp.topology import Queue, declare
from junebug_turn.errors import AmqpConnectionError, Unroutable

MAX_WAITING = 1000  # messages, while the broker is away or takes none
MAX_ABANDONED = 1000  # messages that nobody waits for any more and that the broker has not confirmed
DECLARE_INTERVAL = 1.0  # seconds at least between declarations after a return
MAX_ROUTES = 1000  # packed names that are kept


@define(eq=False)
class _Publish:
    """A message on its way; ``done`` is None once nobody waits for it."""

    arguments: bytes
    properties: bytes
    body: bytes
    done: Deferred[None] | None = None
    number: int = 0  # its delivery tag; 0 while it waits
    returned: str = field(default="")
    context: Context = field(factory=copy_context)  # what it is about, for the log


class Publisher(PersistentChannel):
    """One channel in confirm mode, and the messages that wait for it.

    :ivar queues: declared before the channel is used; they belong to the broker service
    """

    log = Logger()
    name = "publishing"

    def __init__(self, reactor: Any, rng: Callable[[], float], queues: Iterable[Queue]) -> None:
        super().__init__(reactor, rng)
        self._queues = queues
        self._waiting: OrderedDict[_Publish, None] = OrderedDict()
        self._unconfirmed: OrderedDict[int, _Publish] = OrderedDict()
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
        for publish in unconfirmed.values():
            _settle(publish, AmqpConnectionError(f"the message was not confirmed: {why}"))
        # Last, as a callback of one may have cancelled another.
        self._abandoned = 0

    # publishing

    def publish(
        self,
        routing_key: str,
        body: bytes,
        *,
        exchange: str,
        headers: Mapping[str, Any] | None,
        expiration: int | None,
    ) -> Deferred[None]:
        """See ``Broker.publish``."""
        arguments = self._routes.get((exchange, routing_key))
        try:
            if arguments is None:
                arguments = frames.publish_arguments(exchange, routing_key)
                if len(self._routes) < MAX_ROUTES:
                    self._routes[exchange, routing_key] = arguments
            publish = _Publish(arguments, frames.publish_properties(headers, expiration), body)
        except ValueError:
            return fail()
        if self._stopped:
            return fail(AmqpConnectionError("shutting down"))
        if not self._ready and len(self._waiting) >= MAX_WAITING:
            return fail(AmqpConnectionError("the broker is away and too many messages wait for it already"))
        done: Deferred[None] = Deferred(lambda _: self._give_up(publish))
        publish.done = done
        if self._ready:
            self._send(publish)
        else:
            self._waiting[publish] = None
        return done

    def stop(self) -> None:
        """Take nothing more; what waits fails."""
        self._stopped = True
        waiting, self._waiting = self._waiting, OrderedDict()
        for publish in waiting:
            _settle(publish, AmqpConnectionError("shutting down"))

    def _flush(self) -> None:
        """Send what waits, the first first, as long as the broker takes it."""
        while self._may_send() and self._waiting:
            publish, _ = self._waiting.popitem(last=False)
            self._send(publish)
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

    def _send(self, publish: _Publish) -> None:
        channel = self.channel
        assert channel is not None  # noqa: S101  (for mypy; _ready says so)  # nosec B101
        # Noted before it is written: a full write buffer calls back at once.
        self._published += 1
        publish.number = self._published
        self._unconfirmed[publish.number] = publish
        try:
            channel.publish(publish.arguments, publish.properties, publish.body)
        except ValueError as fault:
            self._published -= 1
            del self._unconfirmed[publish.number]
            _settle(publish, fault)

    def _give_up(self, publish: _Publish) -> None:
        """Its Deferred was cancelled: withdrawn if it still waits, else only no longer waited for."""
        publish.done = None
        if not publish.number:
            del self._waiting[publish]
            return
        self._abandoned += 1
        protocol = self._protocol
        if self._abandoned > MAX_ABANDONED and protocol is not None and not protocol.blocked:
            protocol.abort(f"no confirm for {self._abandoned} messages that are no longer waited for")

    # the broker's answers

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        unconfirmed = self._unconfirmed
        if not multiple:
            publish = unconfirmed.pop(tag, None)
            if publish is not None:
                self._confirm(publish, taken)
            return
        while unconfirmed and next(iter(unconfirmed)) <= tag:
            self._confirm(unconfirmed.popitem(last=False)[1], taken)

    def _confirm(self, publish: _Publish, taken: bool) -> None:
        if publish.done is None:
            self._abandoned -= 1
        elif publish.returned:
            _settle(publish, Unroutable("no queue for the message"))
        elif not taken:
            _settle(publish, AmqpConnectionError("the broker refused the message"))
        else:
            done, publish.done = publish.done, None
            done.callback(None)

    def returned(self, exchange: str | bytes, routing_key: str | bytes, body: bytes, why: str) -> None:
        # A return carries no number.  Those with the same route and body have the same fate, so any of
        # them may take it; and it comes before the confirm, in the order of publishing.
        arguments = frames.publish_arguments(exchange, routing_key)
        warn = self.log.warn
        for publish in self._unconfirmed.values():
            if not publish.returned and publish.arguments == arguments and publish.body == body:
                publish.returned = why
                warn = partial(publish.context.copy().run, warn)
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
        declaring.addErrback(_connection_is_lost)


def _settle(publish: _Publish, fault: Exception) -> None:
    done, publish.done = publish.done, None
    if done is not None:
        done.errback(fault)


def _connection_is_lost(failure: Failure) -> None:
    failure.trap(Closed)
