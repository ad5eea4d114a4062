"""Deferred messages go back to their queues, in order and at once, as classic and as quorum queues."""

from __future__ import annotations

import attrs
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.retry_queues import deferred_queue
from tests.support.connector_harness import count, options, until
from tools.servers.rabbitmq import RabbitNode

MESSAGES = 600  # more than are under way at once


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
@pytest_twisted.ensureDeferred
async def test_they_return_in_order(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel, queue_type: str
) -> None:
    """All that is deferred goes back to the queues that it left when a destination answers, long before its time is
    over: nothing is lost, nothing comes twice, the order stays, and the delivery count is far from any limit."""
    # With a name of its own, since other tests have the shared one.
    deferred = attrs.evolve(deferred_queue(queue_type), name=f"{connector_name}.deferred")
    queues = [
        Queue(f"{connector_name}.{kind}", returns=True, arguments={"x-queue-type": queue_type})
        for kind in ("a", "b")
    ]
    broker = Broker(reactor, options(rabbitmq))
    broker.declare(deferred, *queues)
    broker.startService()
    try:
        await until(lambda: broker.takes_messages)
        pika_channel.confirm_delivery()
        for number in range(MESSAGES):
            pika_channel.basic_publish(deferred.name, queues[number % 2].name, b"%d" % number)
        await until(lambda: count(pika_channel, deferred.name) == MESSAGES)
        assert await broker.dead_letter(deferred.name) == MESSAGES
        for start, queue in enumerate(queues):
            await until(lambda name=queue.name: count(pika_channel, name) == MESSAGES // 2)  # type: ignore[misc]
            found = [pika_channel.basic_get(queue.name) for _ in range(MESSAGES // 2)]
            assert [int(body) for _, _, body in found] == list(range(start, MESSAGES, 2))
            assert max((each.headers or {}).get("x-delivery-count", 0) for _, each, _ in found) <= 1
        assert count(pika_channel, deferred.name) == 0
        assert await broker.dead_letter(deferred.name) == 0
    finally:
        await broker.stopService()
        for queue in (deferred, *queues):
            pika_channel.queue_delete(queue.name)
        pika_channel.exchange_delete(deferred.name)
