"""The daemon and what differs between RabbitMQ 3.10 and 4: limits, deprecated features, headers of the broker's own.

``make compat`` runs it, as all integration tests, on RabbitMQ 4.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs

from junebug_turn.errors import MessageTooLarge
from junebug_turn.messages.vumi import Message
from tests.conftest import pika_connection
from tests.integration.conftest import RunDaemon
from tests.support.connector_harness import Side, count, message, send, until
from tools.servers.rabbitmq import RabbitNode

LARGEST = 16 * 2**20
"""Bytes, RabbitMQ 4's default for ``max_message_size``."""


@pytest_twisted.ensureDeferred
async def test_the_limits_of_rabbitmq_4(
    private_rabbitmq: Callable[..., RabbitNode], connector_name: str
) -> None:
    """With the smallest frame_max that RabbitMQ 4 takes, and its max_message_size of 16 MiB, the largest message comes
    and goes, and a larger one is refused without disturbing any other."""
    node = await deferToThread(private_rabbitmq, f"frame_max = 8192\nmax_message_size = {LARGEST}\n")
    side = await Side(node, connector_name).start()
    connection = pika_connection(node)
    channel = connection.channel()
    queue = f"{connector_name}.outbound"
    try:
        text = "x" * (LARGEST - len(message("").to_json()))
        with capturedLogs() as events:
            for _ in range(2):
                with pytest.raises(MessageTooLarge, match=f"takes {LARGEST} at most"):
                    await side.connector.publish(message(text + "x")).confirmed
                await side.connector.publish(message("small")).confirmed
        ended = [event["name"] for event in events if event["log_format"].startswith("The AMQP channel of")]
        assert ended == ["publishing large messages"]
        await side.connector.publish(message(text)).confirmed
        assert [len(channel.basic_get(queue, True)[2]) for _ in range(3)][2] == LARGEST
        send(channel, f"{connector_name}.inbound", message(text).to_json())
        await until(lambda: side.inbound, 60)
        assert side.inbound[0].content == text
    finally:
        connection.close()
        await side.broker.stop_consuming(1)
        await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_nothing_that_rabbitmq_4_deprecates(run_daemon: RunDaemon, rabbitmq: RabbitNode) -> None:
    """The daemon declares durable queues only, and its connections agree to the broker's own frame_max."""
    async with run_daemon("junebug", mo_message_url="http://127.0.0.1:1/") as side:

        def rows(*command: str) -> list[dict[str, Any]]:
            return list(json.loads(rabbitmq.ctl(*command, "--formatter=json")))

        queues = await deferToThread(rows, "list_queues", "name", "durable", "auto_delete")
        ours = [queue for queue in queues if queue.pop("name").startswith(side.connector)]
        assert len(ours) >= 5
        assert ours == [{"durable": True, "auto_delete": False}] * len(ours)
        connections = await deferToThread(rows, "list_connections", "client_properties", "frame_max")
        limits = [
            each["frame_max"] for each in connections if "junebug-turn" in str(each["client_properties"])
        ]
        assert len(limits) >= 2
        assert set(limits) == {131072}


BROKERS_OWN = {
    "x-death": [{"queue": "q", "reason": "expired", "count": 7, "exchange": "", "routing-keys": ["q"]}],
    "x-first-death-queue": "q",
    "x-last-death-queue": "q",
    "x-delivery-count": 3,
    "x-acquired-count": 3,
    "x-stream-offset": 5,
}


@pytest_twisted.ensureDeferred
async def test_headers_that_are_the_brokers_own(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """A message whose publisher has written headers that RabbitMQ 4 keeps for itself is handled, and parked, like
    any."""
    side = await Side(rabbitmq, connector_name).start()
    try:
        send(pika_channel, f"{connector_name}.inbound", message().to_json(), headers=BROKERS_OWN)
        await until(lambda: side.inbound)
        send(pika_channel, f"{connector_name}.inbound", b"unreadable", headers=BROKERS_OWN | {"theirs": 1})
        await until(lambda: count(pika_channel, f"{connector_name}.inbound.parked") == 1)
        _, properties, body = pika_channel.basic_get(f"{connector_name}.inbound.parked", auto_ack=True)
        assert (body, properties.headers["theirs"], properties.headers["reason"]) == (
            b"unreadable",
            1,
            "unreadable",
        )
        assert isinstance(side.inbound[0], Message)
    finally:
        await side.broker.stop_consuming(1)
        await side.broker.stopService()
