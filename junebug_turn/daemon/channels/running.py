"""The channels and routers that run: each has queues, consumers, and paths of its own, and can be stopped alone.

Tested by tests/integration/test_channels.py and tests/integration/test_routers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, cast

import attrs
from attrs import frozen
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from twisted.web.resource import IResource

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.part import BrokerPart
from junebug_turn.amqp.topology import Queue
from junebug_turn.applications.base import Application, ApplicationOptions, Services
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.applications.registry import type_of
from junebug_turn.daemon.channels.patterns import Pattern
from junebug_turn.errors import UnreadableEntry, UnreadableMessage
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.message_store import MessageStore
from junebug_turn.telemetry.tracing import current_headers

Work: TypeAlias = tuple[str, Callable[[], Any]]
"""The id of a channel, router or destination, and what has to be done for it after it was started or changed."""

STOP_TIMEOUT = 5.0
"""Seconds that handlers under way have when a channel is stopped; then their messages go back to the queue."""


class MakeServices(Protocol):
    """Makes the services of an application."""

    def __call__(
        self, options: ApplicationOptions, store: MessageStore, broker: Broker, queues: str
    ) -> Services:
        """Make them.

        :param queues: the name of its queues
        """


@frozen
class Parts:
    """The parts that channels are made of.

    :ivar messages: has siblings for all channels
    """

    broker: Broker
    services: MakeServices
    messages: MessageStore


class RunningChannel:
    """An application that was started at run time: a channel with its options, or a router's destination.

    :param queues: the name of its queues; those of a destination are not those of its channel
    :ivar resource: takes its messages
    """

    def __init__(self, parts: Parts, queues: str, options: JunebugOptions) -> None:
        self._parts = parts
        self._queues = queues
        self._store = parts.messages.sibling(queues)
        self.options = options
        self._lock = DeferredLock()
        self._stopped = False
        self._part: BrokerPart
        self._services: Services
        self._application: Application
        self._start()

    def _start(self) -> None:
        self._part = BrokerPart(self._parts.broker)
        broker = cast(Broker, self._part)
        self._services = self._parts.services(self.options, self._store, broker, self._queues)
        try:
            self._application = self._make()
        except Exception:
            self._part.forget_all()
            raise
        self._services.connector.consume(self._handle_inbound, self._handle_event)

    def _make(self) -> Application:
        return type_of(self.options).create(self.options, self._services)

    @property
    def resource(self) -> IResource:
        return self._application.resource

    async def _handle_inbound(self, message: Message) -> None:
        await self._application.handle_inbound(message)

    async def _handle_event(self, event: Event) -> None:
        await self._application.handle_event(event)

    async def change(self, options: JunebugOptions) -> None:
        """Have other options from now on; what is under way ends with the former ones.

        Where its queues stay the same its consumers go on, and no message waits for the change.
        """
        if options == self.options:
            return
        bridged = self.options.amqp_queue is not None or options.amqp_queue is not None
        self.options = options
        if bridged:
            await self.restart()
        else:
            self._application = self._make()

    def renew(self, webhook_secret: str | tuple[str, ...] | None) -> None:
        """Sign with another secret from now on."""
        self.options = attrs.evolve(self.options, webhook_secret=webhook_secret)
        self._application.renew(self.options)

    async def restart(self) -> None:
        """End the consumers, and make them anew."""
        await self._lock.acquire()
        try:
            await self._part.stop(STOP_TIMEOUT)
            if not self._stopped:
                self._start()
                await self._part.prepare()
        finally:
            self._lock.release()

    async def prepare(self) -> None:
        """Declare its queues now, where there is a connection to the broker."""
        await self._part.prepare()

    def faults(self) -> list[str]:
        """Return why some of its queues can't be used."""
        return self._part.faults()

    async def stop(self) -> None:
        """End the consumers; the queues stay."""
        self._stopped = True
        await self._part.stop(STOP_TIMEOUT)


class RunningRouter:
    """A router of the type ``from_address``: gives the messages and events of a channel to its destinations.

    As in Junebug it looks at the address that was dialled (``to_addr``), and for an event at the ``from`` of its
    message.  Each destination that fits gets a copy in its queues, and what is in its ``.outbound`` goes to the
    channel's, unchanged.

    :param destinations: id -> the regular expression of a destination
    """

    log = Logger()

    def __init__(
        self, parts: Parts, id: str, options: JunebugOptions, destinations: Mapping[str, Pattern]
    ) -> None:
        self._id = id
        self._channel = options.connector_name
        # None for one whose regular expression took too long: each further search would hold up all channels.
        self._patterns: dict[str, Pattern | None] = dict(destinations)
        self._store = parts.messages.sibling(self._channel)
        self._broker = parts.broker
        self._part = BrokerPart(parts.broker)
        broker = cast(Broker, self._part)
        self._services = parts.services(options, self._store, broker, self._channel)
        self._services.connector.consume(self._route_inbound, self._route_event)
        for each in destinations:
            self._part.declare(Queue(f"{each}.outbound"))
            self._part.consume(Queue(f"{each}.outbound"), self._forward)

    async def prepare(self) -> None:
        """Declare its queues now, where there is a connection to the broker."""
        await self._part.prepare()

    def faults(self) -> list[str]:
        """Return why some of its queues can't be used."""
        return self._part.faults()

    async def stop(self) -> None:
        """End the consumers; the queues stay."""
        await self._part.stop(STOP_TIMEOUT)

    async def _route_inbound(self, message: Message) -> None:
        await self._send(message.to_addr, "inbound", message, message.message_id)

    async def _route_event(self, event: Event) -> None:
        from_addr = await self._store.fetch_note(_note(event.user_message_id))
        if not isinstance(from_addr, str):
            # One that Junebug sent is stored whole.
            with suppress(UnreadableEntry):
                sent = await self._store.fetch_outbound(event.user_message_id)
                from_addr = None if sent is None else sent.from_addr
        await self._send(from_addr, "event", event, event.user_message_id)

    async def _send(self, address: str | None, kind: str, item: Message | Event, message_id: str) -> None:
        fitting = [] if address is None else [name for name in self._patterns if self._fits(name, address)]
        for name in fitting:
            headers = current_headers()
            await self._broker.publish(f"{name}.{kind}", item.to_json(), headers=headers).confirmed
        if not fitting:
            self.log.warn(
                "{kind} {message_id} on {connector} fits no destination of router {channel}, and is dropped",
                kind=kind,
                message_id=message_id,
                connector=self._channel,
                channel=self._id,
            )

    def _fits(self, name: str, address: str) -> bool:
        pattern = self._patterns[name]
        try:
            return pattern is not None and pattern.fits(address)
        except TimeoutError:
            self._patterns[name] = None
            self.log.error(
                "destination {name} gets no messages until it is changed: its regular expression takes too long",
                name=name,
                channel=self._id,
            )
            return False

    async def _forward(self, delivery: Delivery) -> None:
        """Forward an outbound message of a destination, and remember its ``from`` for its events."""
        with suppress(UnreadableMessage):  # the transport's concern
            message = Message.from_json(delivery.body)
            if message.from_addr is not None:
                await self._store.store_note(_note(message.message_id), message.from_addr)
        await self._broker.publish(f"{self._channel}.outbound", delivery.body).confirmed


def _note(message_id: str) -> str:
    return f"outbound {message_id}"
