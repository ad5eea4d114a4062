"""Use cases of Kannel's HTTP interface: send a message; forward an inbound message; forward a delivery report."""

from __future__ import annotations

from typing import Any

from junebug_turn.applications.api import HttpApplication, resume_trace
from junebug_turn.applications.base import Services
from junebug_turn.applications.kannel.api import KannelApi
from junebug_turn.applications.kannel.escapes import (
    EVENT_WORDS,
    dlr_status,
    event_escapes,
    fill,
    message_escapes,
)
from junebug_turn.applications.kannel.messages import OutboundRequest, error_to_text, inbound_to_form
from junebug_turn.applications.kannel.options import KannelOptions
from junebug_turn.delivery.destination import FORM, Destination
from junebug_turn.errors import DeliveryRefused, InvalidBody
from junebug_turn.http.errors import Answer
from junebug_turn.http.text import line_of_text
from junebug_turn.messages.vumi import CLOSE, Event, Message
from junebug_turn.net.addresses import ALL_HOSTS
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.telemetry.tracing import current_text


class KannelApplication(HttpApplication[KannelOptions, OutboundRequest]):
    """One channel for a client of Kannel, between its connector and the client."""

    def __init__(self, options: KannelOptions, services: Services) -> None:
        super().__init__(options, services, options.default_from_addr)
        self.resource = KannelApi(self).resource
        self._dlr_rules = options.event_url_allowed_hosts or ALL_HOSTS
        self._by_get = options.receive_method == "get"
        self._receive_destination = Destination.of(
            options.receive_url, None, content_type=None if self._by_get else FORM
        )

    def answer(self, error: Answer) -> tuple[int, Any]:
        """Return the status and the line of an error."""
        status, line = error_to_text(error)
        return status, line_of_text(line)

    def _check(self, request: OutboundRequest) -> None:
        super()._check(request)
        # As of an event_url: the rest of its host is checked when a report is delivered.
        try:
            if request.dlr_url is not None:
                Destination.parse(request.dlr_url, rules=self._dlr_rules, content_type=None)
        except DeliveryRefused as error:
            raise InvalidBody(f"dlr-url is refused: {error}") from None

    async def _store_outbound(self, request: OutboundRequest, message: Message) -> None:
        note = [request.dlr_mask, message.from_addr]
        await self._store.store_outbound(
            OutboundRecord(
                message.message_id, message.to_addr, request.dlr_url, note=note, traceparent=current_text()
            )
        )

    async def handle_inbound(self, message: Message) -> None:
        """Send an inbound message to ``receive_url``; the close of a session, which Kannel doesn't have, is left out.

        :raises DeliveryFailed: it could not be delivered
        """
        if message.in_reply_to is not None:
            await self._resume_answered(message)
        if message.session_event == CLOSE:
            self.log.debug(
                "The close of a session, {message_id}, is not forwarded", message_id=message.message_id
            )
            return
        destination, body = self._receive_destination, inbound_to_form(message)
        if self._by_get:
            url = fill(self.options.receive_url, message_escapes(message))
            destination = Destination.parse(url, content_type=None, configured_url=destination.configured_url)
            body = b""
        await self._forwarder.inbound(destination, message, body)

    async def handle_event(self, event: Event) -> None:
        """GET the dlr-url of an event's message, if it wants to know; an unknown message is logged and counted.

        :raises DeliveryFailed: it could not be delivered
        :raises CacheError: whether its message is known can't be read now
        """
        outbound = await self._store.fetch_outbound(event.user_message_id)
        resume_trace(outbound)
        if outbound is None:
            self._warn_unknown(event)
            return
        mask, from_addr = _note(outbound.note)
        if outbound.event_url is None or not mask & dlr_status(event):
            return
        if not self._forwards(event, EVENT_WORDS[dlr_status(event)]):
            return
        url = fill(outbound.event_url, event_escapes(event, from_addr, outbound.to_addr or ""))
        destination = Destination.parse(url, rules=self._dlr_rules, content_type=None)
        await self._forwarder.client_event(destination, event, b"", None)


def _note(note: Any) -> tuple[int, str]:
    """Return the mask and the from address of a note; another value has no mask."""
    if isinstance(note, list) and len(note) == 2 and isinstance(note[0], int):
        return note[0], note[1] if isinstance(note[1], str) else ""
    return 0, ""
