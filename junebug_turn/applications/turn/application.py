"""Use cases of the Turn Channels API: send a message; forward an inbound message; forward an event."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from junebug_turn.applications.api import HttpApplication, resume_trace
from junebug_turn.applications.base import Services
from junebug_turn.applications.turn.api import TurnApi
from junebug_turn.applications.turn.menus import Choice, Menu
from junebug_turn.applications.turn.messages import (
    OutboundRequest,
    error_titles,
    errors_to_json,
    flat_status,
    inbound_to_json,
    nested_status,
)
from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.config.types import each
from junebug_turn.delivery.destination import Destination, no_url
from junebug_turn.http.deduplication import OnPublish
from junebug_turn.http.errors import Answer
from junebug_turn.messages.vumi import NACK, Event, Message
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.telemetry.context import about
from junebug_turn.telemetry.tracing import current_text

_MESSAGES, _STATUSES = "/messages", "/statuses"


class TurnApplication(HttpApplication[TurnOptions, OutboundRequest]):
    """One channel of Turn, between its connector and Turn's API."""

    def __init__(self, options: TurnOptions, services: Services) -> None:
        super().__init__(options, services, options.default_from_addr, error_titles)
        self._api = TurnApi(self)
        self.resource = self._api.resource
        self._destinations: dict[str, Destination] = {}
        self._authorize(options)
        if not options.turn_api_url:
            self.log.warn(
                "turn_api_url of {connector} is empty: inbound messages and events are parked, since they have "
                "nowhere to go",
                connector=options.connector_name,
            )

    def renew(self, options: TurnOptions) -> None:
        """Use the secrets of ``options``, which were read again, from now on; all else stays as it was."""
        super().renew(options)
        self._api.renew(options)
        self._authorize(options)

    def _authorize(self, options: TurnOptions) -> None:
        """Make Turn's endpoints, with the first token of these options."""
        token, url = next(iter(each(options.auth_token)), None), self.options.turn_api_url
        if url:
            self._destinations = {
                path: Destination.of(url + path, token, "Bearer") for path in (_MESSAGES, _STATUSES)
            }

    def _destination(self, path: str) -> Destination:
        """Return Turn's endpoint for inbound messages or events.

        :raises DeliveryRefused: ``turn_api_url`` is empty
        """
        if path not in self._destinations:
            raise no_url("turn_api_url")
        return self._destinations[path]

    def answer(self, error: Answer) -> tuple[int, Any]:
        """Return the status and the JSON of an error."""
        # Turn takes any 4xx for the message's end, and comes again after a 5xx.
        return 503 if error.status == 429 else error.status, errors_to_json(error)

    def send(
        self, request: OutboundRequest, answer: Callable[[Message], bytes], on_publish: OnPublish
    ) -> Coroutine[Any, Any, bytes]:
        """Publish an outbound message: see ``HttpApplication.send``; report one that no phone can show as failed."""
        return (self._fail if request.unshown else super().send)(request, answer, on_publish)

    async def _fail(
        self, request: OutboundRequest, answer: Callable[[Message], bytes], on_publish: OnPublish
    ) -> bytes:
        """Answer a message that no phone can show, and put its nack into the connector's event queue.

        A 4xx would count against the webhook, which Turn switches off after many.
        """
        message = self._build(request, None)
        with about(connector=self.options.connector_name, message_id=message.message_id):
            await self._store.store_outbound(self._record(message))
            reason = f"a message of the type {request.unshown} can't be shown as text"
            nack = Event(user_message_id=message.message_id, event_type=NACK, nack_reason=reason)
            publishing = self.services.connector.publish_event(nack)
            on_publish(publishing)
            await publishing.confirmed
            self._warn(
                message,
                "Outbound message {message_id} on {connector} is reported as failed: its type {name} has neither text "
                "nor link",
                name=repr(request.unshown),
            )
        return answer(message)

    async def _replied_to(self, request: OutboundRequest) -> Message | None:
        """Return the message that ``reply_to`` names, or else the last one from there.

        That one may have ended its session: only the transport knows whether an answer can still be shown, and its
        nack tells Turn that it can't.
        """
        if request.reply_to is not None:
            return await self._store.fetch_inbound(request.reply_to)
        return await self._store.fetch_last_inbound(request.to)

    async def _store_outbound(self, request: OutboundRequest, message: Message) -> None:
        await self._store.store_outbound(self._record(message))
        if message.to_addr is not None:
            # A text takes the place of an earlier menu: a number that comes back answers the text.
            note = Menu(request.choices).to_note() if request.choices else None
            await self._store.store_note(message.to_addr, note)

    def _record(self, message: Message) -> OutboundRecord:
        return OutboundRecord(message.message_id, message.to_addr, traceparent=current_text())

    async def handle_inbound(self, message: Message) -> None:
        """Store an inbound message for replies, and POST it to Turn.

        One that can't be stored is delivered all the same: a reply to it will be a new message, but it has come.

        :raises DeliveryFailed: it could not be delivered
        """
        if message.in_reply_to is not None:
            await self._resume_answered(message)
        choice = None
        with self._storing(
            message, "Inbound message {message_id} on {connector} is not stored for replies: {error!s}"
        ):
            await self._store_inbound(message)
            choice = await self._choice(message)
        body = inbound_to_json(
            message,
            choice,
            contact_name=self.options.contact_name,
            media_url_key=self.options.media_url_key,
        )
        await self._forwarder.inbound(self._destination(_MESSAGES), message, body)

    async def _choice(self, message: Message) -> Choice | None:
        """Return the message's choice from the last menu that its sender was sent."""
        if message.from_addr is None:
            return None
        note = await self._store.fetch_note(message.from_addr)
        if note is None:
            return None
        try:
            menu = Menu.from_note(note)
        except ValueError as error:
            self.log.warn("A menu in the store counts as unknown: {error!s}", error=error)
            return None
        if menu.answered_by not in (None, message.message_id):
            return None
        if menu.answered_by is None:
            answered = attrs.evolve(menu, answered_by=message.message_id)
            await self._store.store_note(message.from_addr, answered.to_note())
        return menu.chosen(message.content)

    async def handle_event(self, event: Event) -> None:
        """POST an event to Turn, if it is in ``forward_events``; one whose message isn't known any more is logged and
        counted, unless ``forward_unknown_events`` sends it in the flat form, which needs nothing remembered.

        :raises DeliveryFailed: it could not be delivered
        :raises CacheError: whether its message is known can't be read now
        """
        outbound = await self._store.fetch_outbound(event.user_message_id)
        resume_trace(outbound)
        if outbound is None and not self.options.forward_unknown_events:
            self._warn_unknown(event)
            return
        if outbound is None or self.options.status_format == "flat":
            status = flat_status(event)
            word = status["status"]
        else:
            status = nested_status(event, outbound.to_addr)
            word = status["status"]["status"]
        if not self._forwards(event, word):
            return
        await self._forwarder.event(self._destination(_STATUSES), event, status)
