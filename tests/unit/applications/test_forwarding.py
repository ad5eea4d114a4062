"""Forwarding: the options of an application become the arguments of a delivery."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted

from junebug_turn.applications.forwarding import Forwarder
from junebug_turn.delivery.bulkhead import CLIENT_PATIENCE
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.pacing import TURN_LIMIT
from junebug_turn.delivery.rate import DeliveryRate
from junebug_turn.delivery.retry import CHAIN_LIMIT, RetryPolicy
from junebug_turn.delivery.signature import Webhook
from junebug_turn.messages.vumi import Event, Message

DESTINATION = Destination.of("http://h/", None)
CHAIN = {"max_retries": 5, "retry_delay_base": 3, "retry_delay_exponent": 1}
POLICY = RetryPolicy(5, 3, 1)
RATE = DeliveryRate(60, 60)
PACE = {"url_base": "", "rate": RATE, "read_refusal": None, "quotas": None}
DELIVERED = {"delivered": None}


class Recorder:
    """Takes deliveries and makes none."""

    def __init__(self) -> None:
        self.delivered: list[tuple[Any, Any, dict[str, Any]]] = []

    async def deliver(self, destination: Destination, body: bytes, **options: Any) -> None:
        self.delivered.append((destination, json.loads(body), options))


def forwarder(recorder: Any, **options: Any) -> Forwarder:
    base = {
        "connector_name": "c",
        "webhook_secret": None,
        "url_options": ("url", "other"),
        "client_events": False,
    }
    made: Any = SimpleNamespace(**{**base, "delivery_rate_limit": RATE, **CHAIN, **options})
    return Forwarder(made, recorder)


@pytest.mark.parametrize(("transport_type", "patience"), [("sms", CHAIN_LIMIT), ("ussd", 30)])
@pytest_twisted.ensureDeferred
async def test_inbound(transport_type: str, patience: float) -> None:
    """An inbound message goes to a configured destination, with its own time limit, and waits as its kind can."""
    recorder = Recorder()
    message = Message(to_addr="1", from_addr="2", transport_name="c", transport_type=transport_type)
    options = {"mo_message_url_timeout": 7, "session_retry_window": 30, "webhook_secret": "s3cret"}
    await forwarder(recorder, **options).inbound(DESTINATION, message, {"a": "ü"})
    assert recorder.delivered == [
        (
            DESTINATION,
            {"a": "ü"},
            {
                "message_id": message.message_id,
                "connector": "c",
                "kind": "inbound",
                "timeout": 7,
                "policy": POLICY,
                "webhook": Webhook(message.message_id, b"s3cret"),
                "patience": patience,
                "turn_patience": min(patience, TURN_LIMIT),
                **PACE,
                **DELIVERED,
                "configured": True,
            },
        )
    ]


@pytest_twisted.ensureDeferred
async def test_bytes() -> None:
    """A body that is no JSON is delivered as it is."""
    recorder = Recorder()
    made = forwarder(recorder, mo_message_url_timeout=7, event_url_timeout=8, session_retry_window=30)
    message = Message(to_addr="1", from_addr="2", transport_name="c", transport_type="sms")
    await made.inbound(DESTINATION, message, b"[1]")
    await made.event(DESTINATION, Event(user_message_id="m", event_type="ack"), b"[2]")
    assert [body for _, body, _ in recorder.delivered] == [[1], [2]]


@pytest.mark.parametrize("configured", [True, False])
@pytest_twisted.ensureDeferred
async def test_event(configured: bool) -> None:
    """An event has its own id, doesn't wait for a destination that is down, and is unsigned without a secret."""
    recorder = Recorder()
    event = Event(user_message_id="m", event_type="ack")
    forwarding = forwarder(recorder, event_url_timeout=8)
    if configured:
        await forwarding.event(DESTINATION, event, {"b": 1})
    else:
        await forwarding.client_event(DESTINATION, event, {"b": 1}, None)
    assert recorder.delivered == [
        (
            DESTINATION,
            {"b": 1},
            {
                "message_id": event.event_id,
                "connector": "c",
                "kind": "event",
                "timeout": 8,
                "policy": POLICY,
                "webhook": Webhook(event.event_id, None),
                "patience": CHAIN_LIMIT if configured else 0,
                "turn_patience": TURN_LIMIT,
                **PACE,
                **DELIVERED,
                "configured": configured,
            },
        )
    ]


@pytest.mark.parametrize("key", [None, b"theirs"])
@pytest_twisted.ensureDeferred
async def test_a_client_s_destination_gets_no_signature_of_ours(key: bytes | None) -> None:
    """webhook_secret signs what goes to configured destinations, and nothing that goes to a client's."""
    recorder = Recorder()
    event = Event(user_message_id="m", event_type="ack")
    forwarding = forwarder(recorder, event_url_timeout=8, webhook_secret="s3cret")
    await forwarding.event(DESTINATION, event, {})
    await forwarding.client_event(DESTINATION, event, {}, key)
    keys = [options["webhook"].keys for _, _, options in recorder.delivered]
    assert keys == [(b"s3cret",), (key,) if key else ()]


@pytest_twisted.ensureDeferred
async def test_status() -> None:
    """A status goes to a configured destination, under an id of its own, and waits for one that is down."""
    recorder = Recorder()
    for _ in range(2):
        await forwarder(recorder, event_url_timeout=8).status(DESTINATION, {"c": 1})
    (_, body, first), (_, _, second) = recorder.delivered
    assert body == {"c": 1}
    assert first["message_id"] != second.pop("message_id")
    assert first.pop("webhook") == Webhook(first.pop("message_id"), None)
    del second["webhook"]
    assert first == second
    assert first == {
        "connector": "c",
        "kind": "status",
        "timeout": 8,
        "policy": POLICY,
        "patience": CHAIN_LIMIT,
        "configured": True,
        **PACE,
    }


@pytest_twisted.ensureDeferred
async def test_the_url_that_shares_a_quota() -> None:
    """The paths below the one configured URL of an application share its quota; and where clients have URLs for their
    events, those to configured URLs wait for their turn no longer than 5 s in the places of the queue."""
    recorder = Recorder()
    event = Event(user_message_id="m", event_type="ack")
    options = {"url_options": ("turn_api_url",), "turn_api_url": "http://h/v1", "event_url_timeout": 8}
    await forwarder(recorder, **options, client_events=True).event(DESTINATION, event, {})
    ((_, _, made),) = recorder.delivered
    assert (made["url_base"], made["turn_patience"]) == ("http://h/v1", CLIENT_PATIENCE)
