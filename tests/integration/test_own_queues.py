"""Our own queues, where others delete the queues of delayed messages, or limit all queues by a policy."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.amqp import consumer
from junebug_turn.connectors import retry_queues
from junebug_turn.connectors.retry_queues import RetryWindows
from junebug_turn.errors import DeliveryFailed
from junebug_turn.messages.vumi import Message
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


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
@pytest_twisted.ensureDeferred
async def test_a_policy_for_others(
    rabbitmq: RabbitNode,
    vhost: str,
    witness: BlockingChannel,
    connector_name: str,
    queue_type: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a queue_type, a policy that leaves room for two messages in each queue drops no parked one: what finds no
    room stays in its own queue."""
    monkeypatch.setattr(consumer, "REQUEUE_PAUSE", 0.1)
    parked = f"{connector_name}.inbound.parked"
    rabbitmq.ctl("set_policy", "-p", vhost, "small", f"^{parked}$", '{"max-length":2}')
    windows = RetryWindows(retry=0, queue_type=queue_type)
    side = Side(rabbitmq, connector_name, windows, amqp={"vhost": vhost})
    refused: set[str] = set()

    async def refuse(message: Message) -> None:
        refused.add(message.message_id)
        now = time.time()
        raise DeliveryFailed(
            "no", reason="http_status", last_status=400, attempts=1, first_failure=now, last_failure=now
        )

    side.handle = refuse
    await side.start()
    for number in range(10):
        sent = message(from_addr=f"+{number}")
        witness.basic_publish("", f"{connector_name}.inbound", sent.to_json())
    await until(lambda: len(refused) == 10 and count(witness, parked) >= 2)
    rabbitmq.ctl("clear_policy", "-p", vhost, "small")
    await until(lambda: count(witness, parked) == 10)
    await side.broker.stop_consuming(5)
    await side.broker.stopService()
