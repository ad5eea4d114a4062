"""A part of the broker service that is stopped alone."""

from __future__ import annotations

import uuid

import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.part import BrokerPart
from junebug_turn.amqp.topology import Queue
from tests.support.daemon import reactor, until
from tools.servers.rabbitmq import RabbitNode


@pytest_twisted.ensureDeferred
async def test_a_part(rabbitmq: RabbitNode, pika_channel: BlockingChannel) -> None:
    """A part's queues are declared and consumed while the service runs; when it is stopped its consumers are gone, its
    queue stays, and that of another part goes on."""
    broker = Broker(
        reactor,
        AmqpOptions(
            hostname=rabbitmq.host, port=rabbitmq.port, username=rabbitmq.username, password=rabbitmq.password
        ),
    )
    broker.startService()
    got: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        got.append(delivery.body)

    names = [f"part-{uuid.uuid4().hex}" for _ in range(2)]
    try:
        await until(lambda: broker.status()["publishing"], "the broker")
        parts = [BrokerPart(broker) for _ in names]
        for part, name in zip(parts, names, strict=True):
            part.declare(Queue(name))
            part.consume(Queue(name), handle)
            await part.prepare()
            assert await broker.count_consumers(name) is not None
            await broker.publish(name, name.encode()).confirmed
        await until(lambda: len(got) == 2, "both")
        await parts[0].stop(1)
        await parts[0].stop(1)
        assert broker.status()["consumers"] == {names[1]: True}
        for name in names:
            await broker.publish(name, b"later").confirmed
        await until(lambda: len(got) == 3, "the other one's")
        assert await broker.count_consumers(names[0]) == 0
        assert pika_channel.queue_declare(names[0], passive=True).method.message_count == 1
        assert set(await broker.count_queues()) == {names[1]}
    finally:
        await broker.stop_consuming(1)
        await broker.stopService()
        for name in names:
            pika_channel.queue_delete(name)
