"""Quorum queues, which drop a message after 20 deliveries by default in RabbitMQ 4: nothing is lost."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import attrs
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from junebug_turn.amqp import consumer
from junebug_turn.amqp.default_type import QUORUM
from junebug_turn.amqp.queue_browser import BATCH, QueueBrowser
from junebug_turn.amqp.topology import RETURN, UNROUTABLE, Queue
from junebug_turn.connectors import failures
from junebug_turn.connectors.parked import Place, Selection
from junebug_turn.connectors.parked_messages import ParkedMessages
from junebug_turn.connectors.retry_queues import RetryWindows, delay_queue
from junebug_turn.errors import CacheError, DeliveryExhausted
from junebug_turn.messages.vumi import Event, Message
from tests.conftest import pika_connection
from tests.support.connector_harness import Side, count, message, options, until
from tools.servers.rabbitmq import RabbitNode

LIMIT = 20
ROUNDS = 2 * LIMIT
OUTAGE = 600.0
"""Seconds that a store is away."""


@pytest.fixture(scope="module")
def quorum_vhost(rabbitmq: RabbitNode) -> Iterator[str]:
    """A virtual host whose queues are quorum queues, with the delivery limit of RabbitMQ 4."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    rabbitmq.ctl("add_vhost", name, "--default-queue-type", "quorum")
    rabbitmq.ctl("set_permissions", "-p", name, rabbitmq.username, ".*", ".*", ".*")
    if rabbitmq.version < (4,):
        limit = f'{{"delivery-limit":{LIMIT}}}'
        rabbitmq.ctl("set_policy", "-p", name, "limit", ".*", limit, "--apply-to", "queues")
    yield name
    rabbitmq.ctl("delete_vhost", name)


@pytest.fixture
def witness(rabbitmq: RabbitNode, quorum_vhost: str) -> Iterator[BlockingChannel]:
    connection = pika_connection(rabbitmq, quorum_vhost)
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    connection.close()


def publish(witness: BlockingChannel, queue: str, number: int, start: int = 0) -> set[str]:
    """Publish messages of as many senders; their texts."""
    texts = {str(each) for each in range(start, start + number)}
    for text in texts:
        witness.basic_publish("", queue, message(text, from_addr=f"+{text}").to_json())
    return texts


def test_the_limit_is_there(witness: BlockingChannel, connector_name: str) -> None:
    """The broker drops a message that is put back more often, so that these tests show something."""
    witness.queue_declare(connector_name, durable=True)
    publish(witness, connector_name, 1)
    puts = 0
    for method, _, _ in witness.consume(connector_name, inactivity_timeout=0.5):
        if method is not None:
            witness.basic_nack(method.delivery_tag)
            puts += 1
        elif puts > LIMIT:
            break
    assert puts == LIMIT + 1


@pytest_twisted.ensureDeferred
async def test_looks_at_parked_messages(
    rabbitmq: RabbitNode, quorum_vhost: str, witness: BlockingChannel, connector_name: str
) -> None:
    """However often parked messages are listed, they stay, each once, with their history and what is left of their
    parked_ttl."""
    side = await Side(rabbitmq, connector_name, RetryWindows(), amqp={"vhost": quorum_vhost}).start()
    for number in range(3):
        witness.basic_publish("", f"{connector_name}.inbound", b"unreadable %d" % number)
    await until(lambda: count(witness, f"{connector_name}.inbound.parked") == 3)
    await side.broker.stopService()
    selection = Selection((Place(connector_name, "inbound"),))
    for _ in range(ROUNDS):
        # A quorum queue takes a moment to have back what was looked at.
        await until(lambda: count(witness, f"{connector_name}.inbound.parked") == 3)
        browser = await QueueBrowser.open(reactor, options(rabbitmq, vhost=quorum_vhost))
        seen: list[Any] = []
        await ParkedMessages(browser).each(selection, 100, seen.append)
        await browser.close()
        assert sorted(parked.body for parked in seen) == [b"unreadable %d" % number for number in range(3)]
        assert {parked.history.reason for parked in seen} == {"unreadable"}
    await until(lambda: count(witness, f"{connector_name}.inbound.parked") == 3)
    _, properties, _ = witness.basic_get(f"{connector_name}.inbound.parked")
    assert 1_200_000_000 < int(properties.expiration) <= 1_209_600_000


class Delayed:
    """Delay queues of a test's own, whose messages return to ``connector.inbound``, and looks at them."""

    def __init__(self, witness: BlockingChannel, connector: str, node: RabbitNode, vhost: str) -> None:
        self.witness, self.connector = witness, connector
        self.target = f"{connector}.inbound"
        self._options = options(node, vhost=vhost)
        witness.queue_declare(self.target, durable=True)
        witness.exchange_declare(RETURN, durable=True, arguments={"alternate-exchange": UNROUTABLE})
        witness.queue_bind(self.target, RETURN)

    def declare(self, delay: float, queue_type: str, name: str = "") -> Queue:
        """A queue as the daemon declares its own."""
        queue = delay_queue(delay, queue_type)
        queue = attrs.evolve(queue, name=f"{self.connector}.{name or queue_type}")
        self.witness.queue_declare(queue.name, durable=True, arguments=queue.all_arguments(QUORUM))
        self.witness.exchange_declare(queue.name, "fanout", durable=True)
        self.witness.queue_bind(queue.name, queue.name)
        return queue

    def put(self, queue: Queue, start: int, number: int) -> list[bytes]:
        bodies = [b"%d" % each for each in range(start, start + number)]
        for body in bodies:
            self.witness.basic_publish(queue.name, self.target, body)
        return bodies

    async def look(self, queue: Queue, limit: int = 1000) -> list[bytes]:
        browser = await QueueBrowser.open(reactor, self._options)
        seen: list[Any] = []
        selection = Selection.of([self.connector], delay_queues=[queue])
        await ParkedMessages(browser, most=1000).each(selection, limit, seen.append)
        await browser.close()
        return [parked.body for parked in seen]

    async def returned(self, number: int) -> list[bytes]:
        """So many messages, as soon as they are back."""
        await until(lambda: count(self.witness, self.target) == number, 30)
        return [self.witness.basic_get(self.target, auto_ack=True)[2] for _ in range(number)]


@pytest.fixture
def delayed(
    rabbitmq: RabbitNode, quorum_vhost: str, witness: BlockingChannel, connector_name: str
) -> Delayed:
    return Delayed(witness, connector_name, rabbitmq, quorum_vhost)


@pytest_twisted.ensureDeferred
async def test_looks_at_delayed_messages(delayed: Delayed) -> None:
    """A look at delayed messages neither begins their delay anew nor keeps them longer: looked at again and again, they
    return in their order, and before one that nobody looked at and that was delayed for 2 s more."""
    delay, number = 6.0, 3 * BATCH + 5
    queues = [delayed.declare(delay, each) for each in ("classic", "quorum")]
    # Before a delay that began anew at a second look would be over.
    other = delayed.declare(delay + 2, "classic", "other")
    began = time.monotonic()
    sent = [delayed.put(queue, start, number) for queue, start in zip(queues, (0, number), strict=True)]
    (later,) = delayed.put(other, 2 * number, 1)
    for _ in range(2):
        assert [await delayed.look(queue) for queue in queues] == sent
    await until(lambda: time.monotonic() - began > delay / 2)
    for limit in (5, number):
        # On a machine that stands still for so long, one more would hold them beyond their time.
        if time.monotonic() - began < delay - 2:
            assert [await delayed.look(queue, limit) for queue in queues] == [each[:limit] for each in sent]
    returned = await delayed.returned(2 * number + 1)
    assert returned[-1] == later
    for bodies in sent:
        assert [body for body in returned if body in bodies] == bodies


@pytest_twisted.ensureDeferred
async def test_too_many_looks_at_a_delayed_message(delayed: Delayed) -> None:
    """However often it is looked at, a delayed message is not lost: at the delivery limit it returns early."""
    queue = delayed.declare(3600, "quorum")
    (body,) = delayed.put(queue, 0, 1)
    looks = 0
    while await delayed.look(queue):
        looks += 1
        assert looks <= ROUNDS
        await until(lambda: count(delayed.witness, queue.name) + count(delayed.witness, delayed.target) == 1)
    assert looks > LIMIT
    assert await delayed.returned(1) == [body]


@pytest_twisted.ensureDeferred
async def test_a_crash_in_a_loop(
    rabbitmq: RabbitNode, quorum_vhost: str, witness: BlockingChannel, connector_name: str
) -> None:
    """A daemon that is killed again and again, while all places have messages under way and others come, drops none of
    them."""
    witness.queue_declare(f"{connector_name}.inbound", durable=True)
    sent = publish(witness, f"{connector_name}.inbound", 30)
    for number in range(ROUNDS):
        sent |= publish(witness, f"{connector_name}.inbound", 1, start=100 + number)
        side = Side(rabbitmq, connector_name, RetryWindows(), amqp={"vhost": quorum_vhost})
        begun: list[Message] = []

        async def never_end(message: Message, begun: list[Message] = begun) -> None:
            begun.append(message)
            await Deferred()

        side.handle = never_end
        await side.start()
        await until(lambda begun=begun: len(begun) == 20)  # type: ignore[misc]
        # private: the broker can't be made to close these two connections alone.
        for connection in (side.broker._consuming, side.broker._publishing):
            assert connection.protocol is not None
            connection.protocol.abort("killed")
        await side.broker.stopService()
    last = await Side(rabbitmq, connector_name, RetryWindows(), amqp={"vhost": quorum_vhost}).start()
    await until(lambda: {message.content for message in last.inbound} == sent)
    await last.broker.stop_consuming(5)
    await last.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_away(
    rabbitmq: RabbitNode,
    quorum_vhost: str,
    witness: BlockingChannel,
    connector_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event that is put back every 5 s, while the store is away for 10 minutes, is not lost."""
    times = OUTAGE / consumer.REQUEUE_PAUSE
    monkeypatch.setattr(consumer, "REQUEUE_PAUSE", 0.01)
    side = await Side(rabbitmq, connector_name, RetryWindows(), amqp={"vhost": quorum_vhost}).start()
    calls = 0

    async def away(event: Event) -> None:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise CacheError("away")
        side.events.append(event)

    side.handle_event = away
    event = Event(user_message_id="m", event_type="ack", sent_message_id="s")
    witness.basic_publish("", f"{connector_name}.event", event.to_json(), None)
    await until(lambda: side.events)
    assert side.events == [event]
    await side.broker.stop_consuming(5)
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_destination_that_hangs(
    rabbitmq: RabbitNode,
    quorum_vhost: str,
    witness: BlockingChannel,
    connector_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Messages of one sender that go back to their queue every 10 minutes, while the deliveries before them hang for
    hours, are not lost."""
    monkeypatch.setattr(failures, "HOLD_LIMIT", 0.02)
    windows = RetryWindows(delays=(0.7,))
    side = Side(rabbitmq, connector_name, windows, amqp={"vhost": quorum_vhost}, prefetch=3 * LIMIT)
    hung: list[str | None] = []

    async def hang(message: Message) -> None:
        if len(hung) >= 3 * LIMIT:
            side.inbound.append(message)
            return
        await deferLater(reactor, 0.03)
        hung.append(message.content)
        now = time.time()
        raise DeliveryExhausted(
            "no answer", reason="timeout", last_status=None, attempts=4, first_failure=now, last_failure=now
        )

    side.handle = hang
    await side.start()
    texts = {str(number) for number in range(3 * LIMIT)}
    for text in texts:
        witness.basic_publish("", f"{connector_name}.inbound", message(text, from_addr="+1").to_json())
    await until(lambda: {message.content for message in side.inbound} == texts)
    await side.broker.stop_consuming(5)
    await side.broker.stopService()


@pytest.fixture
def quick_dead_letters(rabbitmq: RabbitNode) -> Iterator[None]:
    """A broker that tries again after a second, not after 3 minutes, to put a delayed message back."""
    setting = "rabbit, dead_letter_worker_publisher_confirm_timeout"
    before = rabbitmq.ctl("eval", f"{{ok, T}} = application:get_env({setting}), T.").strip()
    rabbitmq.ctl("eval", f"application:set_env({setting}, 1000).")
    yield
    # Without the setting the broker's workers end, and no quorum queue of this node dead-letters any more.
    rabbitmq.ctl("eval", f"application:set_env({setting}, {before}).")


@pytest.mark.usefixtures("quick_dead_letters")
@pytest.mark.parametrize(
    ("fault", "queue_type"), [("full", "quorum"), ("full", "default"), ("restarted", "default")]
)
@pytest_twisted.ensureDeferred
async def test_delayed_messages_whose_queue_takes_none(
    rabbitmq: RabbitNode, quorum_vhost: str, connector_name: str, fault: str, queue_type: str
) -> None:
    """Messages whose delay is over while their queue is full, or while the broker is stopped, come back later: none is
    lost, also where only the virtual host makes the daemon's queues quorum queues."""
    # A delay queue that no other test has: its worker has the setting from the start.
    delay = {("full", "quorum"): 0.5, ("full", "default"): 0.55, ("restarted", "default"): 0.6}[
        fault, queue_type
    ]
    queue, waiting = f"{connector_name}.inbound", f"junebug-turn.delay.{delay * 1000:.0f}ms"
    connection = pika_connection(rabbitmq, quorum_vhost)
    witness = connection.channel()
    witness.confirm_delivery()
    if fault == "full":
        # As its transport declared it: a quorum queue would take dead letters over its limit.
        witness.queue_declare(queue, durable=True, arguments={"x-queue-type": "classic"})
    windows = RetryWindows(delays=(delay,), queue_type=queue_type)
    side = await Side(rabbitmq, connector_name, windows, amqp={"vhost": quorum_vhost}).start()
    await side.broker.stopService()
    sent = set()
    if fault == "full":
        policy = '{"max-length":1,"overflow":"reject-publish"}'
        pattern = f"^{connector_name}.inbound$"
        rabbitmq.ctl("set_policy", "-p", quorum_vhost, "full", pattern, policy, "--priority", "1")
        with suppress(NackError):
            for number in range(100):
                sent |= publish(witness, queue, 1, start=number)
        assert len(sent) < 100
    for number in range(200, 205):
        body = message(str(number), from_addr=f"+{number}").to_json()
        witness.basic_publish(waiting, queue, body)
        sent.add(str(number))
    if fault == "full":
        await until(lambda: count(witness, waiting) == 0)
        assert count(witness, queue) < len(sent)
        connection.close()
    else:
        connection.close()
        await deferToThread(rabbitmq.stop_app)
        await deferToThread(rabbitmq.start_app)
    again = await Side(rabbitmq, connector_name, windows, amqp={"vhost": quorum_vhost}).start()
    await until(lambda: {message.content for message in again.inbound} == sent)
    await again.broker.stop_consuming(5)
    await again.broker.stopService()
