"""The basic properties of AMQP messages: how a body is encoded, and what copies of a message keep."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.connectors.parked import Parked, Place, Selection
from junebug_turn.connectors.parked_messages import ParkedMessages
from junebug_turn.connectors.retry_queues import RetryWindows
from junebug_turn.errors import DeliveryExhausted, DeliveryRefused
from junebug_turn.messages.vumi import Event, Message
from tests.support.connector_harness import Side, count, message, options, parked, reactor, send, until
from tools.servers.rabbitmq import RabbitNode

HISTORY = {"reason", "last_status", "attempts", "delays", "first_failure", "last_failure"}

# All that AMQP has, but for user_id and expiration.
PROPERTIES: dict[str, Any] = {
    "content_type": "text/x-vumi",
    "content_encoding": "gzip",
    "headers": {"x": "ü"},
    "priority": 3,
    "correlation_id": "correlation",
    "reply_to": "answers",
    "message_id": "ü" * 127,
    "timestamp": 2**40,
    "type": "a type",
    "app_id": "an application",
    "cluster_id": "a cluster",
}


def given(properties: BasicProperties) -> dict[str, Any]:
    """The properties that a message has, without the history in its headers, and without its trace."""
    found = {name: value for name, value in vars(properties).items() if value is not None}
    ours = {*HISTORY, "traceparent"}
    found["headers"] = {name: value for name, value in found["headers"].items() if name not in ours}
    return found


def failing(error: type[DeliveryExhausted] | type[DeliveryRefused]) -> Callable[[Message], Any]:
    """A handler that raises ``error``."""

    async def fail(message: Message) -> None:
        now = time.time()
        raise error(
            "503", reason="http_status", last_status=503, attempts=1, first_failure=now, last_failure=now
        )

    return fail


@pytest_twisted.async_yield_fixture
async def side(rabbitmq: RabbitNode, connector_name: str) -> AsyncIterator[Side]:
    side = await Side(rabbitmq, connector_name).start()
    yield side
    await side.broker.stop_consuming(1)
    await side.broker.stopService()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("", bytes),
        # What AMQP libraries write for a text that is not compressed.
        ("utf-8", bytes),
        ("UTF8", bytes),
        ("us-ascii", bytes),
        ("binary", bytes),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_content_encoding_that_is_read(
    side: Side, pika_channel: BlockingChannel, encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    """content_encoding of an inbound message or event: gzip and deflate are read, and names of UTF-8 text."""
    sent, event = message("ünï"), Event(user_message_id="m", event_type="ack", sent_message_id="s")
    send(pika_channel, f"{side.name}.inbound", encode(sent.to_json()), content_encoding=encoding)
    send(pika_channel, f"{side.name}.event", encode(event.to_json()), content_encoding=encoding)
    await until(lambda: side.inbound and side.events)
    assert (side.inbound, side.events) == ([sent], [event])


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"compressed"),
        ("utf-16", "text".encode("utf-16")),
        ("gzip, gzip", b"compressed"),
        ("gzip", b"not gzip"),
        ("deflate", b""),
        ("gzip", gzip.compress(b" " * (16 * 2**20 + 1))),
        ("ü", b"?"),
    ],
    ids=["br", "utf-16", "twice", "damaged gzip", "empty deflate", "too large", "not ASCII"],
)
@pytest_twisted.ensureDeferred
async def test_a_content_encoding_that_can_t_be_read(
    side: Side, pika_channel: BlockingChannel, encoding: str, body: bytes
) -> None:
    """Another encoding, a damaged body or one of more than 16 MiB is parked, whole, and the consumer goes on."""
    wanted = PROPERTIES | {"content_encoding": encoding}
    for kind in ("inbound", "event"):
        send(pika_channel, f"{side.name}.{kind}", body, **wanted)
        properties, copy = await parked(pika_channel, f"{side.name}.{kind}.parked")
        assert copy == body
        assert properties.headers["reason"] == "unreadable"
        wanted_now = wanted | {"delivery_mode": 2, "expiration": properties.expiration}
        assert given(properties) == wanted_now
    send(pika_channel, f"{side.name}.inbound", message("after").to_json())
    await until(lambda: side.inbound)


@pytest_twisted.ensureDeferred
async def test_a_delayed_copy_has_all_properties(
    rabbitmq: RabbitNode, side: Side, pika_channel: BlockingChannel
) -> None:
    """A copy in a delay queue has the body as it came and each property of the original, but for user_id, which the
    broker compares with our login, and expiration; it is persistent."""
    side.handle = failing(DeliveryExhausted)
    body = gzip.compress(message().to_json())
    more = {"user_id": rabbitmq.username, "expiration": "60000", "delivery_mode": 1}
    send(pika_channel, f"{side.name}.inbound", body, **PROPERTIES, **more)
    properties, copy = await parked(pika_channel, f"{side.name}.inbound.delayed.5s")
    assert copy == body
    assert given(properties) == PROPERTIES | {"delivery_mode": 2}


@pytest_twisted.ensureDeferred
async def test_a_parked_copy_has_all_properties(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """They are still there after delays, when the message is delivered again, and when it is parked."""
    windows = RetryWindows(delays=(0.2,))
    side = Side(rabbitmq, connector_name, windows)
    sent, seen = message(), list[Message]()

    async def handle(message: Message) -> None:
        seen.append(message)
        await failing(DeliveryExhausted if len(seen) < 3 else DeliveryRefused)(message)

    side.handle = handle
    await side.start()
    body = gzip.compress(sent.to_json())
    send(pika_channel, f"{side.name}.inbound", body, **PROPERTIES)
    properties, copy = await parked(pika_channel, f"{side.name}.inbound.parked")
    assert seen == [sent, sent, sent]
    assert copy == body
    assert given(properties) == PROPERTIES | {"delivery_mode": 2, "expiration": str(windows.expiration)}
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_replayed_message_has_all_properties(
    rabbitmq: RabbitNode, side: Side, pika_channel: BlockingChannel
) -> None:
    """A message that was parked and is replayed is the original again, with its body as it came, and is delivered."""
    side.handle = failing(DeliveryRefused)
    sent = message()
    body = gzip.compress(sent.to_json())
    send(pika_channel, f"{side.name}.inbound", body, **PROPERTIES)
    await until(lambda: count(pika_channel, f"{side.name}.inbound.parked") == 1)
    await side.broker.stop_consuming(5)
    browser = await QueueBrowser.open(reactor, options(rabbitmq))
    messages, found = ParkedMessages(browser), list[Parked]()
    assert await messages.replay(Selection((Place(side.name, "inbound"),)), 10, found.append) == 1
    await browser.close()
    assert [each.content for each in found] == [sent]
    assert found[0].id == sent.message_id
    properties, copy = await parked(pika_channel, f"{side.name}.inbound")
    assert copy == body
    assert given(properties) == PROPERTIES | {"delivery_mode": 2}
