"""The Junebug Message API's use cases: send a message; forward an inbound message; forward an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from junebug_turn.applications.forwarding import Forwarder
from junebug_turn.applications.junebug.messages import (
    OutboundRequest,
    event_to_json,
    message_to_json,
    status_to_json,
)
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.connectors.connector import Connector, Publishing
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import CacheError, DeliveryRefused, InvalidBody, MessageNotFound
from junebug_turn.messages.vumi import Event, Message, check_length
from junebug_turn.net.addresses import ALL_HOSTS
from junebug_turn.state.message_store import MessageStore, OutboundRecord
from junebug_turn.telemetry.context import about


class JunebugApplication:
    """One channel of the Junebug Message API, between its connector and the HTTP destinations of its options."""

    log = Logger()

    def __init__(
        self,
        options: JunebugOptions,
        connector: Connector,
        cache: MessageStore,
        deliverer: Deliverer,
        policy: RetryPolicy,
    ) -> None:
        self.options = options
        self._connector = connector
        self._cache = cache
        self._forwarder = Forwarder(options, deliverer, policy)
        self._event_rules = options.event_url_allowed_hosts or ALL_HOSTS
        self._inbound_destination = Destination.of(options.mo_message_url, options.mo_message_url_auth_token)
        self._default_event_destination = (
            Destination.of(options.default_event_url, options.default_event_auth_token)
            if options.default_event_url
            else None
        )

    async def send(
        self, request: OutboundRequest, on_publish: Callable[[Publishing], None] = lambda _: None
    ) -> Message:
        """Publish an outbound message; returns it once the broker has confirmed it.

        Where events go is stored first, since an event can come at once.

        :param on_publish: called with the message's handle when it goes to the connector
        :raises ApiUsageError: the request has no address to send from
        :raises InvalidBody: its event_url leads where none may lead
        :raises MessageTooLong: its content is over ``character_limit``
        :raises MessageNotFound: it replies to a message that isn't known
        :raises Passing: the broker or the cache can't take it now; nothing was published
        """
        check_length(request.content, self.options.character_limit)
        self._check_event_url(request.event_url)
        message = await self._build(request)
        details = None
        if self._cache.keeps_details:
            details = {**request.body, **message_to_json(message, self.options.connector_name)}
        record = OutboundRecord(
            message.message_id, message.to_addr, request.event_url, request.event_auth_token, details
        )
        with about(connector=self.options.connector_name, message_id=message.message_id):
            await self._cache.store_outbound(record)
            publishing = self._connector.publish(message)
            on_publish(publishing)
            await publishing.confirmed
        return message

    def _check_event_url(self, url: str | None) -> None:
        """What can be seen before its host is looked up; the rest is checked when an event is delivered."""
        if url is None:
            return
        try:
            Destination.of(url, None, rules=self._event_rules)
        except DeliveryRefused as error:
            raise InvalidBody(f"u'event_url' is refused: {error}") from None

    async def _build(self, request: OutboundRequest) -> Message:
        options = self.options
        if request.reply_to is not None:
            inbound = await self._cache.fetch_inbound(request.reply_to)
            if inbound is not None:
                return request.as_reply(
                    inbound, transport_name=options.connector_name, transport_type=options.transport_type
                )
            if not (options.allow_expired_replies and request.to is not None):
                raise MessageNotFound(f"Inbound message with id {request.reply_to[:100]} not found")
        return request.as_new(
            default_from_addr=options.default_from_addr,
            transport_name=options.connector_name,
            transport_type=options.transport_type,
        )

    async def on_inbound(self, message: Message) -> None:
        """Keep an inbound message for replies, and POST it to ``mo_message_url``.

        One that can't be kept is delivered all the same: a reply to it will fail, but it has come.

        :raises DeliveryFailed: it could not be delivered
        """
        try:
            await self._cache.store_inbound(message)
        except CacheError as error:
            self.log.warn(
                "inbound message {message_id} on {connector} is delivered, but replies to it can't be: {error!s}",
                message_id=message.message_id,
                connector=self.options.connector_name,
                error=error,
            )
        body = message_to_json(message, message.transport_name)
        await self._forwarder.inbound(self._inbound_destination, message, body)

    async def on_event(self, event: Event) -> None:
        """POST an event to where its message asked for, or to the default; without either it is logged.

        :raises DeliveryFailed: it could not be delivered
        :raises CacheError: where it goes can't be read now
        """
        outbound = await self._cache.fetch_outbound(event.user_message_id)
        try:
            await self._cache.store_event(event)
        except CacheError as error:
            self.log.warn(
                "{event_type} {event_id} of message {message_id} on {connector} will not be in the message's "
                "status: {error!s}",
                event_type=event.event_type,
                event_id=event.event_id,
                message_id=event.user_message_id,
                connector=self.options.connector_name,
                error=error,
            )
        if outbound is not None and outbound.event_url is not None:
            destination, configured = (
                Destination.of(outbound.event_url, outbound.event_auth_token, rules=self._event_rules),
                False,
            )
        elif self._default_event_destination is not None:
            destination, configured = self._default_event_destination, True
        else:
            self.log.warn(
                "{event_type} {event_id} of message {message_id} on {connector} can't be delivered: "
                "no event_url is known for the message, and no default_event_url is configured",
                event_type=event.event_type,
                event_id=event.event_id,
                message_id=event.user_message_id,
                connector=self.options.connector_name,
            )
            return
        body = event_to_json(event, self.options.connector_name)
        await self._forwarder.event(destination, event, body, configured=configured)

    async def status(self, message_id: str) -> dict[str, Any]:
        """What became of an outbound message, as Junebug's API has it; an unknown one has no events.

        :raises CacheError: it can't be read now
        """
        events = await self._cache.fetch_events(message_id)
        return status_to_json(message_id, events, self.options.connector_name)
