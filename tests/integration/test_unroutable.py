"""Delayed messages whose own queue is deleted while they wait."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.connectors import retry_queues
from junebug_turn.connectors.retry_queues import RetryWindows
from tests.conftest import pika_connection
from tests.support.connector_harness import Side, count, message, until
from tools.servers.rabbitmq import RabbitNode

GONE = 40
"""Messages without a queue: with 32 of them RabbitMQ returns no other one, where it drops none of them."""

WAIT = 2.0
"""Seconds that one waits for its queue to be there again."""


@pytest.fixture(params=["classic", "quorum"])
def vhost(
    request: pytest.FixtureRequest, rabbitmq: RabbitNode, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A virtual host with this default type of queues, where messages wait for their queue for a short time."""
    monkeypatch.setattr(retry_queues, "DEFERRED_LIMIT", WAIT)
    name = f"test-{uuid.uuid4().hex[:12]}"
    rabbitmq.ctl("add_vhost", name, "--default-queue-type", request.param)
    rabbitmq.ctl("set_permissions", "-p", name, rabbitmq.username, ".*", ".*", ".*")
    yield name
    rabbitmq.ctl("delete_vhost", name)


@pytest.fixture
def witness(rabbitmq: RabbitNode, vhost: str) -> Iterator[BlockingChannel]:
    connection = pika_connection(rabbitmq, vhost)
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    connection.close()


@pytest_twisted.ensureDeferred
async def test_deleted_queues(
    rabbitmq: RabbitNode, vhost: str, witness: BlockingChannel, connector_name: str
) -> None:
    """Delayed messages whose own queue was deleted keep those of no other connector waiting, and come back where their
    queue is there again after 5 minutes; else nothing of them stays."""
    windows = RetryWindows(delays=(0.5,))
    side = await Side(rabbitmq, connector_name, windows, amqp={"vhost": vhost}).start()

    def put(queue: str, number: int) -> set[str | None]:
        sent = [message() for _ in range(number)]
        for each in sent:
            witness.basic_publish("junebug-turn.delay.500ms", queue, each.to_json())
        return {each.message_id for each in sent}

    async def have_waited() -> None:
        await until(lambda: count(witness, "junebug-turn.unroutable") == GONE)

    put("deleted.inbound", GONE)
    sent = put(f"{connector_name}.inbound", 1)
    await until(lambda: {each.message_id for each in side.inbound} == sent, 5)
    await have_waited()
    # Not bound to anything, as others declare it.
    witness.queue_declare("deleted.inbound", durable=True)
    await until(lambda: count(witness, "deleted.inbound") == GONE)
    witness.queue_delete("deleted.inbound")
    put("deleted.inbound", GONE)
    await have_waited()
    await until(lambda: count(witness, "junebug-turn.unroutable") == 0)
    sent |= put(f"{connector_name}.inbound", 1)
    await until(lambda: {each.message_id for each in side.inbound} == sent, 5)
    assert count(witness, "junebug-turn.delay.500ms") == count(witness, "junebug-turn.unroutable") == 0
    await side.broker.stop_consuming(5)
    await side.broker.stopService()
