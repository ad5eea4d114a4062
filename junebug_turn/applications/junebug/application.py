"""Use cases of the Junebug Message API: send a message; forward an inbound message; forward an event."""

from __future__ import annotations

from collections.abc import Awaitable

from junebug_turn.applications.api import HttpApplication, resume_trace
from junebug_turn.applications.base import Services
from junebug_turn.applications.junebug.api import JunebugApi
from junebug_turn.applications.junebug.messages import OutboundRequest, event_to_json, message_to_json
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.applications.junebug.status import TransportStatuses
from junebug_turn.delivery.destination import Destination, no_url
from junebug_turn.delivery.signature import signing_key
from junebug_turn.errors import DeliveryRefused, InvalidBody
from junebug_turn.http.errors import envelope
from junebug_turn.messages.vumi import CLOSE, Event, Message
from junebug_turn.net.addresses import ALL_HOSTS
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.telemetry.tracing import current_text


class JunebugApplication(HttpApplication[JunebugOptions, OutboundRequest]):
    """One channel of the Junebug Message API, between its connector and the HTTP destinations of its options."""

    answer = staticmethod(envelope)

    def __init__(self, options: JunebugOptions, services: Services) -> None:
        super().__init__(options, services, options.default_from_addr)
        self.resource = JunebugApi(self).resource
        self._require_from = options.require_from
        secret = options.event_webhook_secret
        self._event_key = signing_key(secret) if secret else None
        self._event_rules = options.event_url_allowed_hosts or ALL_HOSTS
        self._inbound_destination = (
            Destination.of(options.mo_message_url, options.mo_message_url_auth_token)
            if options.mo_message_url
            else None
        )
        self._records = services.store.channel_records(options.metric_window)
        if options.status_url or options.transport_status:
            TransportStatuses(options, services)
        self._bridged = options.amqp_queue is not None
        if options.amqp_queue is not None:
            services.connector.bridge(options.amqp_queue, self._remember)
        self._default_event_destination = (
            Destination.of(options.default_event_url, options.default_event_auth_token)
            if options.default_event_url
            else None
        )

    def _check(self, request: OutboundRequest) -> None:
        super()._check(request)
        # This is all that can be seen before its host is looked up; the rest is checked when an event is delivered.
        try:
            if request.event_url is not None:
                Destination.of(request.event_url, None, rules=self._event_rules)
        except DeliveryRefused as error:
            raise InvalidBody(f"u'event_url' is refused: {error}") from None

    def _sends_expired_reply(self, request: OutboundRequest) -> bool:
        return self.options.allow_expired_replies and request.to is not None

    def _store_outbound(self, request: OutboundRequest, message: Message) -> Awaitable[None]:
        details = None
        if self._store.keeps_details:
            details = {**request.body, **message_to_json(message, self.options.connector_name)}
        return self._store.store_outbound(
            OutboundRecord(
                message.message_id,
                message.to_addr,
                request.event_url,
                request.event_auth_token,
                details,
                traceparent=current_text(),
            )
        )

    def _sent(self) -> None:
        self._records.count("outbound")

    async def handle_inbound(self, message: Message) -> None:
        """Store an inbound message for replies, and POST it to ``mo_message_url``, where there is one.

        The end of a session is left out without ``forward_session_close``.

        :raises DeliveryFailed: it could not be delivered, or has nowhere to go
        """
        if message.in_reply_to is not None:
            await self._resume_answered(message)
        # With an amqp_queue it was stored before it was forwarded to that.
        if not (self._wanted(message) if self._bridged else await self._remember(message)):
            return
        self._records.count("inbound")
        if self._inbound_destination is not None:
            body = message_to_json(message, message.transport_name)
            await self._forwarder.inbound(self._inbound_destination, message, body)
        elif not self._bridged:
            raise no_url("mo_message_url")

    async def _remember(self, message: Message) -> bool:
        """Store an inbound message for replies, if it is to be forwarded; returns whether it is.

        One that can't be stored is forwarded all the same: a reply to it will fail, but it has come.
        """
        if not self._wanted(message):
            self.log.debug(
                "The end of a session is not forwarded: {message_id}", message_id=message.message_id
            )
            return False
        with self._storing(
            message, "Inbound message {message_id} on {connector} is not stored for replies: {error!s}"
        ):
            await self._store_inbound(message)
        return True

    def _wanted(self, message: Message) -> bool:
        return message.session_event != CLOSE or self.options.forward_session_close

    async def handle_event(self, event: Event) -> None:
        """POST an event to its message's ``event_url``, or to the default; without either, and without an
        ``amqp_queue``, which has it then, it is logged.

        Only those in ``forward_events`` are POSTed; the status of the message has all.

        :raises DeliveryFailed: it could not be delivered
        :raises CacheError: where it goes can't be read now
        """
        outbound = await self._store.fetch_outbound(event.user_message_id)
        resume_trace(outbound)
        with self._storing(
            event,
            "{event_type} {event_id} on {connector} is not in the status of message {message_id}: {error!s}",
        ):
            await self._store.store_event(event)
        body = event_to_json(event, self.options.connector_name)
        self._records.count(body["event_type"])
        if not self._forwards(event, body["event_type"]):
            return
        if outbound is not None and outbound.event_url is not None:
            destination = Destination.of(
                outbound.event_url, outbound.event_auth_token, rules=self._event_rules
            )
            await self._forwarder.client_event(destination, event, body, self._event_key)
        elif self._default_event_destination is not None:
            await self._forwarder.event(self._default_event_destination, event, body)
        elif not self._bridged:
            self._not_forwarded(event, "no event_url is known")
            self._warn(
                event,
                "{event_type} {event_id} of message {message_id} on {connector} can't be delivered: "
                "no event_url is known for the message, and no default_event_url is configured",
            )
