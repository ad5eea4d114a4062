"""Use cases of an External channel of RapidPro: send a message; forward an inbound message; forward an event."""

from __future__ import annotations

from typing import Any

import attrs

from junebug_turn.applications.api import HttpApplication, resume_trace
from junebug_turn.applications.base import Services
from junebug_turn.applications.rapidpro.api import RapidProApi
from junebug_turn.applications.rapidpro.conversations import (
    WAITING,
    Conversation,
    SessionEnd,
    has_sessions,
)
from junebug_turn.applications.rapidpro.messages import (
    RECEIVE,
    STATUS_PATHS,
    OutboundRequest,
    error_to_json,
    form,
    inbound_to_form,
    status_path,
)
from junebug_turn.applications.rapidpro.options import RapidProOptions
from junebug_turn.delivery.destination import FORM, Destination
from junebug_turn.errors import ApiUsageError
from junebug_turn.http.errors import Answer
from junebug_turn.messages.vumi import CLOSE, RESUME, Event, Message
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.telemetry.tracing import current_text

FINAL = {408: 503, 429: 503}
"""Statuses of faults that pass which RapidPro takes for the message's end."""


class RapidProApplication(HttpApplication[RapidProOptions, OutboundRequest]):
    """One External channel, between its connector and RapidPro."""

    def __init__(self, options: RapidProOptions, services: Services) -> None:
        super().__init__(options, services, options.default_from_addr)
        self.resource = RapidProApi(self).resource
        self._destinations = {
            path: Destination.of(options.rapidpro_url + path, None, content_type=FORM)
            for path in (RECEIVE, *STATUS_PATHS)
        }

    def answer(self, error: Answer) -> tuple[int, Any]:
        """Return the status and the JSON of an error."""
        return FINAL.get(error.status, error.status), error_to_json(error)

    async def _replied_to(self, request: OutboundRequest) -> Message | None:
        """Return the last message from there, unless its session has ended.

        :raises ApiUsageError: it has ended, and ``late_replies`` is ``refuse``
        """
        inbound = await self._last_inbound(request.to)
        if inbound is None or not has_sessions(inbound):
            return inbound
        conversation = await self._conversation(request.to)
        if conversation.goes_on(inbound, request.id, request.status):
            return inbound
        if self.options.late_replies == "refuse":
            raise ApiUsageError("the session has ended, and late_replies is refuse")
        return None

    async def _last_inbound(self, address: str) -> Message | None:
        """Return the last message from an address, which the transport may write with or without its plus."""
        found = await self._store.fetch_last_inbound(address)
        if found is None and address.removeprefix("+").isdigit():
            other = address[1:] if address.startswith("+") else f"+{address}"
            found = await self._store.fetch_last_inbound(other)
        return found

    def _build(self, request: OutboundRequest, inbound: Message | None) -> Message:
        by_session = self.options.transport_type == "ussd" if inbound is None else has_sessions(inbound)
        event = RESUME if request.status == WAITING else CLOSE
        if inbound is None and self.options.strip_plus:
            request = attrs.evolve(request, to=request.to.removeprefix("+"))
        return super()._build(attrs.evolve(request, session_event=event if by_session else None), inbound)

    async def _store_outbound(self, request: OutboundRequest, message: Message) -> None:
        record = OutboundRecord(
            message.message_id, message.to_addr, note=request.id or None, traceparent=current_text()
        )
        await self._store.store_outbound(record)
        if message.in_reply_to is None:
            # It is no part of the session that may have ended before.
            end = (await self._conversation(request.to)).end
        elif message.session_event == CLOSE:
            end = SessionEnd(message.in_reply_to, request.id, request.status)
        else:
            end = None
        # A text takes the place of an earlier menu: a number that comes back answers the text.
        conversation = Conversation(request.choices, end=end)
        await self._store.store_note(_key(request.to), conversation.to_note())

    async def handle_inbound(self, message: Message) -> None:
        """Store an inbound message for replies, and POST it to RapidPro; the close of a session is only stored.

        One that can't be stored is delivered all the same: a reply to it will be a new message, but it has come.

        :raises DeliveryFailed: it could not be delivered
        """
        if message.in_reply_to is not None:
            await self._resume_answered(message)
        text = message.content
        with self._storing(
            message, "Inbound message {message_id} on {connector} is not stored for replies: {error!s}"
        ):
            await self._store_inbound(message)
            text = await self._chosen(message) or text
        if message.session_event == CLOSE:
            # RapidPro has no place for it: an empty message would answer a flow's question, or start a flow.
            self.log.debug(
                "The close of a session, {message_id}, is not forwarded", message_id=message.message_id
            )
            return
        body = inbound_to_form(message, text, self.options.session_start_text)
        await self._forwarder.inbound(self._destinations[RECEIVE], message, body)

    async def _chosen(self, message: Message) -> str | None:
        """Return the quick reply that an inbound message chose from the last menu of its sender."""
        if message.from_addr is None:
            return None
        before = await self._conversation(message.from_addr)
        conversation = before.answered(message.message_id)
        if conversation != before:
            await self._store.store_note(_key(message.from_addr), conversation.to_note())
        return conversation.chosen(message)

    async def _conversation(self, address: str) -> Conversation:
        note = await self._store.fetch_note(_key(address))
        if note is None:
            return Conversation()
        try:
            return Conversation.from_note(note)
        except ValueError as error:
            self.log.warn("A note in the store counts as unknown: {error!s}", error=error)
            return Conversation()

    async def handle_event(self, event: Event) -> None:
        """POST an event to RapidPro, if it is in ``forward_events``.

        One whose message has no id of RapidPro's is logged and counted.

        :raises DeliveryFailed: it could not be delivered
        :raises CacheError: the id of its message can't be read now
        """
        path = status_path(event)
        if path is None or not self._forwards(event, path.strip("/")):
            return
        outbound = await self._store.fetch_outbound(event.user_message_id)
        resume_trace(outbound)
        if outbound is None or not isinstance(outbound.note, str):
            self._warn_unknown(event, "or RapidPro gave it no id")
            return
        await self._forwarder.event(self._destinations[path], event, form({"id": outbound.note}))


def _key(address: str) -> str:
    """Return the key of an address's notes, the same with and without a plus."""
    return address.removeprefix("+")
