"""Delay queues, order and parked messages on a real RabbitMQ, with pika as the witness."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pika
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from junebug_turn.amqp import consumer, retired, topology, topology_checks
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.publication import Publication
from junebug_turn.amqp.topology import RETURN
from junebug_turn.connectors import failures
from junebug_turn.connectors.retry_queues import DELAYS, RetryWindows, deferred_queue, former_delay_queues
from junebug_turn.errors import AmqpConnectionError, DeliveryExhausted
from junebug_turn.messages.vumi import Event, Message
from tests.conftest import pika_connection
from tests.support.connector_harness import Side, count, message, parked, send, until
from tools.servers.rabbitmq import RabbitNode

QUICK = RetryWindows(delays=(0.2, 0.4))


def exhausted(status: int | None = 503, attempts: int = 4) -> DeliveryExhausted:
    now = time.time()
    return DeliveryExhausted(
        "no", reason="http_status", last_status=status, attempts=attempts, first_failure=now, last_failure=now
    )


class Failing:
    """A handler that fails so often, and then keeps what it gets."""

    def __init__(self, side: Side, times: int) -> None:
        self.side = side
        self.times = times
        self.calls: list[float] = []
        side.handle = self.handle

    async def handle(self, message: Message) -> None:
        self.calls.append(time.monotonic())
        if len(self.calls) <= self.times:
            raise exhausted()
        self.side.inbound.append(message)


@pytest_twisted.async_yield_fixture
async def side(rabbitmq: RabbitNode, connector_name: str) -> AsyncIterator[Side]:
    side = await Side(rabbitmq, connector_name, QUICK).start()
    yield side
    await side.broker.stop_consuming(1)
    await side.broker.stopService()


# delay queues


@pytest_twisted.ensureDeferred
async def test_the_delay_queues(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """The delay queues are shared by all connectors of a virtual host: durable, with their TTL; a message that comes
    by their exchange leads back by its routing key; the peers' queues stay without arguments."""
    side = await Side(rabbitmq, connector_name).start()
    for kind in ("inbound", "event"):
        pika_channel.queue_declare(f"{connector_name}.{kind}", durable=True)
    (the_type,) = (
        queue["type"]
        for queue in json.loads(rabbitmq.ctl("list_queues", "name", "type", "--formatter", "json"))
        if queue["name"] == f"{connector_name}.inbound"
    )
    further = deferred_queue().quorum_arguments if the_type.endswith("quorum") else {}
    for name, seconds in zip(("1s", "5s", "30s", "5m", "30m", "2h"), (1, 5, *DELAYS), strict=True):
        # Anything else than these is a 406.
        pika_channel.exchange_declare(f"junebug-turn.delay.{name}", "fanout", durable=True)
        pika_channel.queue_declare(
            f"junebug-turn.delay.{name}",
            durable=True,
            arguments=further | {"x-message-ttl": int(seconds * 1000), "x-dead-letter-exchange": RETURN},
        )
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_the_first_delay(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """A message whose chain is over, 30 s or more after its first failure, waits in the 30 s queue, whole, with its
    history, and is gone from its queue."""
    side = await Side(rabbitmq, connector_name).start()
    Failing(side, 1)
    body = message("ünï").to_json()
    since = datetime.fromtimestamp(int(time.time()) - 60, UTC).isoformat()
    theirs = {"x": 1, "CC": [f"{side.name}.outbound"], "first_failure": since}
    send(pika_channel, f"{side.name}.inbound", body, headers=theirs)
    properties, copy = await parked(pika_channel, f"{side.name}.inbound.delayed.30s")
    assert copy == body
    assert properties.delivery_mode == 2
    headers = properties.headers
    assert headers.pop("first_failure") == since < headers.pop("last_failure")
    del headers["traceparent"]  # of its delivery, since it came without one
    assert headers == {"x": 1, "reason": "http_status", "last_status": 503, "attempts": 4, "delays": 1}
    await side.broker.stop_consuming(5)
    assert count(pika_channel, f"{side.name}.inbound") == 0
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_delayed_message_is_tried_again(side: Side, pika_channel: BlockingChannel) -> None:
    """It comes back after each delay until it is delivered; nobody else bound to the routing key sees it twice."""
    other = pika_channel.queue_declare("", exclusive=True).method.queue
    pika_channel.queue_bind(other, "vumi", f"{side.name}.inbound")
    failing, sent = Failing(side, 3), message()
    send(pika_channel, f"{side.name}.inbound", sent.to_json())
    await until(lambda: side.inbound)
    assert side.inbound == [sent]
    gaps = [later - earlier for earlier, later in zip(failing.calls, failing.calls[1:], strict=False)]
    assert all(gap >= wait for gap, wait in zip(gaps, (0.2, 0.4, 0.4), strict=True)), gaps
    assert count(pika_channel, other) == 1
    await side.broker.stop_consuming(5)
    assert count(pika_channel, f"{side.name}.inbound") == 0
    assert count(pika_channel, f"{side.name}.inbound.parked") == 0


@pytest_twisted.ensureDeferred
async def test_an_event_is_delayed_too(side: Side, pika_channel: BlockingChannel) -> None:
    """Events have delay queues of their own, which lead back to the event queue."""
    seen: list[Event] = []

    async def handle(event: Event) -> None:
        seen.append(event)
        if len(seen) == 1:
            raise exhausted()

    side.handle_event = handle
    event = Event(user_message_id="m", event_type="ack", sent_message_id="s")
    send(pika_channel, f"{side.name}.event", event.to_json())
    await until(lambda: len(seen) == 2)
    assert seen == [event, event]
    assert side.inbound == []


@pytest_twisted.ensureDeferred
async def test_the_window_ends(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """After retry_window a message is parked, with all attempts counted; x-death does not pile up."""
    side = await Side(rabbitmq, connector_name, RetryWindows(retry=4, delays=(0.2, 0.4))).start()
    failing = Failing(side, 1000)
    start = time.monotonic()
    send(pika_channel, f"{side.name}.inbound", message().to_json(), headers={"x": 1})
    properties, _ = await parked(pika_channel, f"{side.name}.inbound.parked")
    # The first failure's second is cut off, so that the window may be shorter by one.
    assert 2.4 < time.monotonic() - start < 60
    headers = properties.headers
    assert headers["attempts"] == 4 * len(failing.calls)
    assert headers["delays"] == len(failing.calls) - 1 >= 2
    assert headers["first_failure"] < headers["last_failure"]
    assert headers["x"] == 1
    assert not [name for name in headers if name.startswith("x-")]
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_no_window(rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel) -> None:
    """With a retry_window of 0 a message is parked at once, and expires after parked_ttl, which is its own."""
    side = await Side(rabbitmq, connector_name, RetryWindows(retry=0, parked_ttl=3600)).start()
    Failing(side, 1)
    send(pika_channel, f"{side.name}.inbound", message().to_json())
    properties, _ = await parked(pika_channel, f"{side.name}.inbound.parked")
    assert (properties.headers["attempts"], "delays" in properties.headers) == (4, False)
    assert properties.expiration == "3600000"
    # The queue has no arguments.
    pika_channel.queue_declare(f"{side.name}.inbound.parked", durable=True)
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_parked_before_its_queue(
    rabbitmq: RabbitNode,
    connector_name: str,
    pika_channel: BlockingChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message that has to be parked before its parked queue is declared is parked at once, and tried only once."""
    monkeypatch.setattr(topology, "MANY", 0)
    monkeypatch.setattr(topology, "QUIET", 3600)
    side = await Side(rabbitmq, connector_name, RetryWindows(retry=0)).start()
    failing = Failing(side, 1)
    queue = f"{side.name}.inbound.parked"
    assert count(pika_channel, queue) == -1
    send(pika_channel, f"{side.name}.inbound", message().to_json())
    await until(lambda: count(pika_channel, queue) == 1)
    assert len(failing.calls) == 1
    await side.broker.stopService()


@pytest.mark.parametrize(("ttl", "stays"), [(0.0, True), (2.0, False)])
@pytest_twisted.ensureDeferred
async def test_parked_ttl(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel, ttl: float, stays: bool
) -> None:
    """A parked message is gone after parked_ttl; 0 keeps it."""
    side = await Side(rabbitmq, connector_name, RetryWindows(parked_ttl=ttl)).start()
    queue = f"{side.name}.inbound.parked"
    send(pika_channel, f"{side.name}.inbound", b"unreadable")
    await until(lambda: count(pika_channel, queue) == 1)
    if stays:
        _, properties, _ = pika_channel.basic_get(queue, auto_ack=True)
        assert properties.expiration is None
    else:
        await until(lambda: count(pika_channel, queue) == 0)
    await side.broker.stopService()


@pytest.mark.parametrize(
    "headers",
    [
        {
            "attempts": "many",
            "delays": -1,
            "first_failure": 5,
            "last_status": {},
            "last_error": 7,
            "reason": [],
        },
        {"first_failure": "9999-12-31T00:00:00", "delays": 2**40, "attempts": 2**62},
        {"x-death": "nonsense", "x-first-death-queue": 7, "delays": 1},
    ],
)
@pytest_twisted.ensureDeferred
async def test_hostile_headers(side: Side, pika_channel: BlockingChannel, headers: dict[str, Any]) -> None:
    """Headers that can't be ours stop nothing: the message is delayed and delivered."""
    Failing(side, 2)
    send(pika_channel, f"{side.name}.inbound", message().to_json(), headers=headers)
    await until(lambda: side.inbound)


# restarts and cuts


@pytest_twisted.ensureDeferred
async def test_a_restart_of_the_daemon(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """What waits when the daemon stops is delivered by the next one, with its history."""
    first = await Side(rabbitmq, connector_name, RetryWindows(delays=(1.0,))).start()
    Failing(first, 1)
    sent = message()
    send(pika_channel, f"{first.name}.inbound", sent.to_json())
    await until(lambda: count(pika_channel, f"{first.name}.inbound.delayed.1s") == 1)
    await first.broker.stop_consuming(5)
    await first.broker.stopService()
    await until(lambda: count(pika_channel, f"{first.name}.inbound") == 1)
    method, properties, _ = pika_channel.basic_get(f"{first.name}.inbound")
    assert properties.headers["attempts"] == 4
    pika_channel.basic_nack(method.delivery_tag)
    second = await Side(rabbitmq, connector_name, QUICK).start()
    await until(lambda: second.inbound)
    assert second.inbound == [sent]
    await second.broker.stop_consuming(5)
    await second.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_restart_of_the_broker(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """What waits in a delay queue is there after the broker's restart, and is delivered."""
    side = await Side(rabbitmq, connector_name, RetryWindows(delays=(5.0,))).start()
    Failing(side, 3)
    messages = [message(str(number), from_addr=None) for number in range(3)]
    for sent in messages:
        send(pika_channel, f"{side.name}.inbound", sent.to_json(), delivery_mode=2)
    await until(lambda: count(pika_channel, f"{side.name}.inbound.delayed.5s") == 3)
    await deferToThread(rabbitmq.stop_app)
    await deferToThread(rabbitmq.start_app)
    await until(lambda: len(side.inbound) == 3)
    assert {each.message_id for each in side.inbound} == {each.message_id for each in messages}
    await side.broker.stop_consuming(5)
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_cut_between_the_copy_and_the_ack(
    side: Side, rabbitmq: RabbitNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection lost after the copy is confirmed, before the original is acked, neither repeats nor loses it: the
    original that comes again is acked."""
    failing = Failing(side, 1)
    publish = side.broker.publish
    copies: list[str] = []

    def publish_and_cut(queue: str, body: bytes, **options: Any) -> Publication:
        published = publish(queue, body, **options)
        if not copies:
            copies.append(queue)
            published.confirmed.addCallback(lambda _: deferToThread(rabbitmq.close_connections))
        return published

    sent = message()
    monkeypatch.setattr(side.broker, "publish", publish_and_cut)
    await publish(f"{side.name}.inbound", sent.to_json()).confirmed
    await until(lambda: copies and side.inbound and side.live())
    # The original comes again before this one.
    last = message("last")
    await publish(f"{side.name}.inbound", last.to_json()).confirmed
    await until(lambda: last in side.inbound)
    await side.broker.stop_consuming(5)
    assert copies == [f"{side.name}.inbound"]
    assert side.inbound == [sent, last]
    assert len(failing.calls) == 3
    connection = pika_connection(rabbitmq)
    assert count(connection.channel(), f"{side.name}.inbound") == 0
    connection.close()


@pytest_twisted.ensureDeferred
async def test_a_copy_that_is_not_confirmed(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is lost before its confirm leaves the original where it is: it is tried again."""
    monkeypatch.setattr(consumer, "REQUEUE_PAUSE", 0.1)
    failing = Failing(side, 2)
    publish = side.broker.publish
    lost: list[str] = []

    def publish_or_lose(queue: str, body: bytes, **options: Any) -> Publication:
        if not lost:
            lost.append(queue)
            return Publication(fail(AmqpConnectionError("the message was not confirmed")))
        return publish(queue, body, **options)

    sent = message()
    monkeypatch.setattr(side.broker, "publish", publish_or_lose)
    await publish(f"{side.name}.inbound", sent.to_json()).confirmed
    await until(lambda: side.inbound)
    assert side.inbound == [sent]
    assert len(failing.calls) == 3


@pytest_twisted.ensureDeferred
async def test_a_deleted_delay_queue(
    side: Side, pika_channel: BlockingChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delay queue that was deleted is declared again; the message stays in its queue until then."""
    monkeypatch.setattr(consumer, "REQUEUE_PAUSE", 0.1)
    pika_channel.queue_delete("junebug-turn.delay.200ms")
    Failing(side, 2)
    send(pika_channel, f"{side.name}.inbound", message().to_json())
    await until(lambda: side.inbound)


@pytest_twisted.ensureDeferred
async def test_the_delay_queues_of_a_former_version(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade, what waits in the delay queues that each connector had comes back; then they are deleted, none
    of them with a message in it."""
    monkeypatch.setattr(topology_checks, "CHECK_INTERVAL", 0.2)
    monkeypatch.setattr(retired, "INTERVAL", 0.2)
    names = former_delay_queues(connector_name)
    for name in names:
        arguments: dict[str, Any] = {"x-message-ttl": 1500, "x-dead-letter-exchange": ""}
        arguments["x-dead-letter-routing-key"] = name.partition(".retry.")[0]
        # A quorum queue can't be deleted in this way: docs/retries.md.
        arguments["x-queue-type"] = "classic"
        pika_channel.queue_declare(name, durable=True, arguments=arguments)
    sent = message()
    pika_channel.basic_publish("", f"{connector_name}.inbound.retry.30s", sent.to_json())
    side = await Side(rabbitmq, connector_name).start()
    await until(lambda: [count(pika_channel, name) for name in names].count(-1) == len(names))
    assert side.inbound == [sent]
    await side.broker.stopService()


# sessions


@pytest_twisted.ensureDeferred
async def test_ussd_is_tried_again_soon(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """An inbound message of USSD comes back from a delay queue of its own, always the same; neither those of others
    nor those of its sender wait for it."""
    side = await Side(rabbitmq, connector_name, RetryWindows(session_delay=0.3)).start()
    calls: list[str | None] = []

    async def handle(message: Message) -> None:
        calls.append(message.content)
        if calls.count("refused") < 4 and message.content == "refused":
            raise exhausted()
        side.inbound.append(message)

    side.handle = handle
    send(pika_channel, f"{side.name}.inbound", message("refused", transport_type="ussd").to_json())
    send(pika_channel, f"{side.name}.inbound", message("next", transport_type="ussd").to_json())
    start = time.monotonic()
    await until(lambda: len(side.inbound) == 2)
    assert time.monotonic() - start >= 0.9
    assert [each.content for each in side.inbound] == ["next", "refused"]
    assert calls == ["refused", "next", "refused", "refused", "refused"]
    await side.broker.stop_consuming(5)
    for queue in ("inbound", "inbound.parked", "inbound.delayed.300ms", "inbound.delayed.30s"):
        assert count(pika_channel, f"{side.name}.{queue}") == 0
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_many_sessions_are_refused(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """More refused messages of USSD than the daemon may hold delay no other."""
    side = await Side(rabbitmq, connector_name, RetryWindows(), prefetch=5).start()

    async def handle(message: Message) -> None:
        if message.content == "refused":
            raise exhausted()
        side.inbound.append(message)

    side.handle = handle
    for number in range(10):
        refused = message("refused", transport_type="ussd", from_addr=f"+{number}")
        send(pika_channel, f"{side.name}.inbound", refused.to_json())
    send(pika_channel, f"{side.name}.inbound", message("taken", transport_type="ussd").to_json())
    await until(lambda: side.inbound)
    assert count(pika_channel, f"{side.name}.inbound.delayed.5s") == 10
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_dead_session(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """After session_retry_window an inbound message of USSD is parked as session_expired, at the end of the window."""
    side = await Side(rabbitmq, connector_name, RetryWindows(session=4, session_delay=0.4)).start()
    failing = Failing(side, 1000)
    send(pika_channel, f"{side.name}.inbound", message(transport_type="ussd").to_json())
    properties, _ = await parked(pika_channel, f"{side.name}.inbound.parked")
    headers = properties.headers
    assert (headers["reason"], headers["last_status"]) == ("session_expired", 503)
    assert headers["attempts"] == 4 * len(failing.calls) > 4
    assert headers["delays"] == len(failing.calls) - 1
    # The first failure's second is cut off, so that the window may be shorter by one.
    assert 2.9 < failing.calls[-1] - failing.calls[0] < 60
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_session_outlives_a_restart(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """A stop doesn't wait for a message of USSD between two chains; the next daemon goes on with its window."""
    windows = RetryWindows(session_delay=0.5)
    side = await Side(rabbitmq, connector_name, windows).start()
    failing = Failing(side, 1000)
    sent = message(transport_type="ussd")
    send(pika_channel, f"{side.name}.inbound", sent.to_json())
    await until(lambda: failing.calls)
    start = time.monotonic()
    await side.broker.stop_consuming(30)
    assert time.monotonic() - start < 20
    await side.broker.stopService()
    await until(lambda: count(pika_channel, f"{side.name}.inbound") == 1)
    properties = pika_channel.basic_get(f"{side.name}.inbound")[1]
    assert properties.headers["attempts"] == 4
    pika_channel.basic_recover(requeue=True)
    again = await Side(rabbitmq, connector_name, windows).start()
    await until(lambda: again.inbound)
    assert again.inbound == [sent]
    await again.broker.stopService()


# order


@pytest_twisted.ensureDeferred
async def test_order_under_load(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """Messages of one sender are handled one at a time in the order of arrival; senders run side by side."""
    side = await Side(rabbitmq, connector_name, QUICK, prefetch=20).start()
    seen: dict[str | None, list[int]] = defaultdict(list)
    running: list[str | None] = []
    most = 0

    async def handle(message: Message) -> None:
        nonlocal most
        assert message.from_addr not in running
        running.append(message.from_addr)
        most = max(most, len(running))
        number = int(message.content or "")
        await deferLater(reactor, (number * 7 % 5) * 0.002)
        running.remove(message.from_addr)
        seen[message.from_addr].append(number)

    side.handle = handle
    for number in range(600):
        sent = message(str(number), from_addr=f"+{number * 3 % 11}")
        send(pika_channel, f"{side.name}.inbound", sent.to_json())
    await until(lambda: sum(map(len, seen.values())) == 600)
    assert len(seen) == 11
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert most > 5
    await side.broker.stop_consuming(5)
    assert count(pika_channel, f"{side.name}.inbound.parked") == 0
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_order_of_events(side: Side, pika_channel: BlockingChannel) -> None:
    """Events of one message wait for each other; those of another don't wait for them."""
    gate = Deferred[None]()
    seen: list[str | None] = []

    async def handle(event: Event) -> None:
        if event.sent_message_id == "a1":
            await gate
        seen.append(event.sent_message_id)

    side.handle_event = handle
    for user_message_id, number in (("a", 1), ("a", 2), ("b", 1)):
        event = Event(
            user_message_id=user_message_id, event_type="ack", sent_message_id=f"{user_message_id}{number}"
        )
        send(pika_channel, f"{side.name}.event", event.to_json())
    await until(lambda: seen)
    assert seen == ["b1"]
    gate.callback(None)
    await until(lambda: len(seen) == 3)
    assert seen == ["b1", "a1", "a2"]


@pytest_twisted.ensureDeferred
async def test_a_delayed_message_releases_those_behind_it(side: Side, pika_channel: BlockingChannel) -> None:
    """The first of three messages of a sender goes to a delay queue: the others don't wait for its return."""
    Failing(side, 1)
    for content in "123":
        send(pika_channel, f"{side.name}.inbound", message(content).to_json())
    await until(lambda: len(side.inbound) == 3)
    assert [each.content for each in side.inbound] == ["2", "3", "1"]


@pytest_twisted.ensureDeferred
async def test_order_when_the_connection_is_cut(rabbitmq: RabbitNode, connector_name: str) -> None:
    """What waited behind a message when the connection was lost is handled once, after it, in order."""
    side = await Side(rabbitmq, connector_name, QUICK).start()
    gate = Deferred[None]()
    seen: list[str | None] = []

    async def handle(message: Message) -> None:
        seen.append(message.content)
        if len(seen) == 1:
            await gate

    side.handle = handle
    for content in "123":
        await side.broker.publish(f"{side.name}.inbound", message(content).to_json()).confirmed
    await until(lambda: seen)
    await deferToThread(rabbitmq.close_connections)
    await until(side.live)
    gate.callback(None)
    await until(lambda: len(seen) == 3)
    # The first one was under way: its handler has got the one that came again.
    assert seen == ["1", "2", "3"]
    await side.broker.stop_consuming(5)
    connection = pika_connection(rabbitmq)
    assert count(connection.channel(), f"{side.name}.inbound") == 0
    connection.close()
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_messages_that_waited_too_long(
    side: Side, pika_channel: BlockingChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited long behind others goes back to the broker before it would be held too long, and keeps its order."""
    monkeypatch.setattr(failures, "HOLD_LIMIT", 0.3)
    requeue, returned = Delivery.requeue, []

    def note(delivery: Delivery) -> None:
        returned.append(Message.from_json(delivery.body).content)
        requeue(delivery)

    monkeypatch.setattr(Delivery, "requeue", note)
    seen: list[str | None] = []

    async def handle(message: Message) -> None:
        seen.append(message.content)
        if message.content == "0":
            await deferLater(reactor, 0.5)

    side.handle = handle
    for number in range(15):
        send(pika_channel, f"{side.name}.inbound", message(str(number)).to_json())
    await until(lambda: len(seen) == 15)
    assert returned == [str(number) for number in range(1, 15)]
    assert seen == [str(number) for number in range(15)]
    await side.broker.stop_consuming(5)
    assert count(pika_channel, f"{side.name}.inbound") == 0


def test_pika_sees_other_arguments(pika_channel: BlockingChannel, connector_name: str) -> None:
    """The witness's declaration with other arguments is a 406, so the test of the delay queues tests something."""
    pika_channel.queue_declare(f"{connector_name}.inbound", durable=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="406"):
        pika_channel.queue_declare(
            f"{connector_name}.inbound", durable=True, arguments={"x-message-ttl": 1000}
        )
