"""Forwarding of inbound messages, events and statuses to HTTP destinations, with the options of an application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from junebug_turn.applications.base import ApplicationOptions
from junebug_turn.config.types import each
from junebug_turn.delivery.bulkhead import CLIENT_PATIENCE
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.pacing import TURN_LIMIT
from junebug_turn.delivery.refusal_text import RefusalReader
from junebug_turn.delivery.retry import CHAIN_LIMIT, RetryPolicy, inbound_patience
from junebug_turn.delivery.shared_quota import QuotaStore
from junebug_turn.delivery.signature import Keys, Webhook, signing_key
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import Event, Message, new_id
from junebug_turn.state.journal import DELIVERED, MAX_ID, Journal


class Forwarder:
    """Forwarder of the inbound messages, the events and the statuses of one application.

    :param journal: gets the steps of each message
    :param read_refusal: reads the destination's words from the body of its refusal
    :param quotas: counts the calls of all processes that share ``delivery_rate_limit``
    """

    def __init__(
        self,
        options: ApplicationOptions,
        deliverer: Deliverer,
        journal: Journal | None = None,
        read_refusal: RefusalReader | None = None,
        quotas: QuotaStore | None = None,
    ) -> None:
        self._options = options
        self._journal = journal
        policy = RetryPolicy(options.max_retries, options.retry_delay_base, options.retry_delay_exponent)
        # The paths below one configured URL share its quota.
        base = getattr(options, options.url_options[0]) if len(options.url_options) == 1 else ""
        self._deliver = partial(
            deliverer.deliver,
            connector=options.connector_name,
            policy=policy,
            url_base=base,
            rate=options.delivery_rate_limit,
            read_refusal=read_refusal,
            quotas=quotas,
        )
        # What waits for its turn must not keep those from their places that go elsewhere.
        self._event_turn = CLIENT_PATIENCE if options.client_events else TURN_LIMIT
        self.renew(options)

    def renew(self, options: ApplicationOptions) -> None:
        """Sign with the secrets of these options from now on."""
        self._keys = tuple(signing_key(secret) for secret in each(options.webhook_secret))

    def inbound(self, destination: Destination, message: Message, body: Any) -> Awaitable[None]:
        """POST an inbound message, which is ``body`` as JSON or in bytes, to a configured destination.

        :raises DeliveryFailed: it could not be delivered
        """
        patience = inbound_patience(message.transport_type, self._options.session_retry_window)
        return self._deliver(
            destination,
            _bytes(body),
            message_id=message.message_id,
            kind="inbound",
            timeout=self._options.mo_message_url_timeout,
            webhook=Webhook(message.message_id, self._keys),
            patience=patience,
            turn_patience=min(patience, TURN_LIMIT),
            configured=True,
            delivered=self._delivered(destination, message.message_id),
        )

    def event(self, destination: Destination, event: Event, body: Any) -> Awaitable[None]:
        """POST an event, which is ``body`` as JSON or in bytes, to a configured destination.

        :raises DeliveryFailed: it could not be delivered
        """
        return self._event(destination, event, body, self._keys, configured=True)

    def client_event(
        self, destination: Destination, event: Event, body: Any, key: bytes | None
    ) -> Awaitable[None]:
        """Do the same for a destination that a client gave.

        :param key: signs the event.  The key of configured destinations doesn't: whoever has it can forge what those
            take for ours
        """
        return self._event(destination, event, body, key, configured=False)

    def _event(
        self,
        destination: Destination,
        event: Event,
        body: Any,
        keys: Keys,
        *,
        configured: bool,
    ) -> Awaitable[None]:
        return self._deliver(
            destination,
            _bytes(body),
            message_id=event.event_id,
            kind="event",
            timeout=self._options.event_url_timeout,
            webhook=Webhook(event.event_id, keys),
            patience=CHAIN_LIMIT if configured else 0,
            turn_patience=self._event_turn,
            configured=configured,
            delivered=self._delivered(destination, event.user_message_id, event.event_id),
        )

    def _delivered(
        self, destination: Destination, message_id: str, event_id: str = ""
    ) -> Callable[[], None] | None:
        """Return a function that notes the end of a delivery; None where nothing is noted."""
        if self._journal is None:
            return None
        details = {"origin": destination.origin, **({"event_id": event_id[:MAX_ID]} if event_id else {})}
        return partial(self._journal.note, message_id, DELIVERED, details)

    def status(self, destination: Destination, body: Any) -> Awaitable[None]:
        """POST a status of the transport, which is ``body`` as JSON, to a configured destination.

        :raises DeliveryFailed: it could not be delivered
        """
        status_id = new_id()
        return self._deliver(
            destination,
            strictjson.dumps(body),
            message_id=status_id,
            kind="status",
            timeout=self._options.event_url_timeout,
            webhook=Webhook(status_id, self._keys),
            patience=CHAIN_LIMIT,
            configured=True,
        )


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else strictjson.dumps(body)
