"""The Turn Channels API's use cases: send a message; forward an inbound message; forward an event."""

from __future__ import annotations

import attrs
from twisted.logger import Logger

from junebug_turn.applications.forwarding import Forwarder
from junebug_turn.applications.turn.menus import Choice, Menu
from junebug_turn.applications.turn.messages import (
    OutboundRequest,
    flat_status,
    inbound_to_json,
    nested_status,
)
from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.connectors.connector import Connector
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import CacheError, MessageNotFound
from junebug_turn.messages.vumi import CLOSE, Event, Message, check_length
from junebug_turn.state.message_store import MessageStore, OutboundRecord
from junebug_turn.telemetry.context import about

_MESSAGES, _STATUSES = "/messages", "/statuses"


class TurnApplication:
    """One channel of Turn, between its connector and Turn's API.

    :ivar unknown_events: how many events came for messages that weren't known (any more)
    """

    log = Logger()

    def __init__(
        self,
        options: TurnOptions,
        connector: Connector,
        cache: MessageStore,
        deliverer: Deliverer,
        policy: RetryPolicy,
    ) -> None:
        self.options = options
        self.unknown_events = 0
        self._connector = connector
        self._cache = cache
        self._forwarder = Forwarder(options, deliverer, policy)
        self._destinations: dict[str, Destination] = {}
        if options.turn_api_url:
            for path in (_MESSAGES, _STATUSES):
                self._destinations[path] = self._destination(path)
        else:
            self.log.warn(
                "turn_api_url of {connector} is empty: inbound messages and events are parked, since they have "
                "nowhere to go",
                connector=options.connector_name,
            )

    def _destination(self, path: str) -> Destination:
        """Where Turn takes inbound messages or events.

        :raises DeliveryRefused: ``turn_api_url`` is empty
        """
        known = self._destinations.get(path)
        return known or Destination.of(self.options.turn_api_url + path, self.options.auth_token, "Bearer")

    async def send(self, request: OutboundRequest) -> Message:
        """Publish an outbound message; returns it once the broker has confirmed it.

        What its events and answers need is stored first, since they can come at once.

        :raises MessageTooLong: its content is over ``character_limit``
        :raises MessageNotFound: it replies to a message that isn't known
        :raises Passing: the broker or the cache can't take it now; nothing was published
        """
        check_length(request.content, self.options.character_limit)
        message = await self._build(request)
        with about(connector=self.options.connector_name, message_id=message.message_id):
            await self._cache.store_outbound(OutboundRecord(message.message_id, message.to_addr))
            if message.to_addr is not None:
                # A text takes the place of an earlier menu: a number that comes back answers the text.
                note = Menu(request.choices).to_note() if request.choices else None
                await self._cache.store_note(message.to_addr, note)
            await self._connector.publish(message).confirmed
        return message

    async def _build(self, request: OutboundRequest) -> Message:
        options = self.options
        inbound = await self._replied_to(request)
        if inbound is not None:
            return request.as_reply(
                inbound, transport_name=options.connector_name, transport_type=options.transport_type
            )
        return request.as_new(
            default_from_addr=options.default_from_addr,
            transport_name=options.connector_name,
            transport_type=options.transport_type,
        )

    async def _replied_to(self, request: OutboundRequest) -> Message | None:
        """The message that ``reply_to`` names, or else the last one from there, unless it ended its session."""
        if request.reply_to is not None:
            inbound = await self._cache.fetch_inbound(request.reply_to)
            if inbound is None:
                raise MessageNotFound(f"Inbound message with id {request.reply_to[:100]} not found")
            return inbound
        inbound = await self._cache.fetch_last_inbound(request.to)
        return None if inbound is None or inbound.session_event == CLOSE else inbound

    async def on_inbound(self, message: Message) -> None:
        """Keep an inbound message for replies, and POST it to Turn.

        One that can't be kept is delivered all the same: a reply to it will be a new message, but it has come.

        :raises DeliveryFailed: it could not be delivered
        """
        choice = None
        try:
            await self._cache.store_inbound(message)
            choice = await self._choice(message)
        except CacheError as error:
            self.log.warn(
                "inbound message {message_id} on {connector} is delivered, but not remembered for replies: "
                "{error!s}",
                message_id=message.message_id,
                connector=self.options.connector_name,
                error=error,
            )
        await self._forwarder.inbound(self._destination(_MESSAGES), message, inbound_to_json(message, choice))

    async def _choice(self, message: Message) -> Choice | None:
        """Return the message's choice from the last menu that its sender was sent."""
        if message.from_addr is None:
            return None
        note = await self._cache.fetch_note(message.from_addr)
        if note is None:
            return None
        try:
            menu = Menu.from_note(note)
        except ValueError as error:
            self.log.warn("a menu in the cache counts as unknown: {error!s}", error=error)
            return None
        if menu.answered_by not in (None, message.message_id):
            return None
        if menu.answered_by is None:
            answered = attrs.evolve(menu, answered_by=message.message_id)
            await self._cache.store_note(message.from_addr, answered.to_note())
        return menu.chosen(message.content)

    async def on_event(self, event: Event) -> None:
        """POST an event to Turn; one whose message isn't known any more is logged and counted.

        :raises DeliveryFailed: it could not be delivered
        :raises CacheError: whether its message is known can't be read now
        """
        outbound = await self._cache.fetch_outbound(event.user_message_id)
        if outbound is None:
            self.unknown_events += 1
            self.log.warn(
                "{event_type} {event_id} on {connector} is not forwarded: its message {message_id} is not known, "
                "or no longer ({count} of these since the start)",
                event_type=event.event_type,
                event_id=event.event_id,
                message_id=event.user_message_id,
                connector=self.options.connector_name,
                count=self.unknown_events,
            )
            return
        nested = self.options.status_format == "nested"
        status = nested_status(event, outbound.to_addr) if nested else flat_status(event)
        await self._forwarder.event(self._destination(_STATUSES), event, status)
