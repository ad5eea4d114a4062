"""Our AMQP layer on a real RabbitMQ, with pika at the other side."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pika
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from junebug_turn.amqp import consumer
from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.errors import AmqpConnectionError, DeliveryRefused, Unroutable
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.telemetry.tracing import TraceContext
from tests.support.connector_harness import Side, count, message, options, parked, send, until
from tools.servers.rabbitmq import RabbitNode

LARGE = "ü€😀" * (1024 * 1024 // 9)


@pytest_twisted.async_yield_fixture
async def side(rabbitmq: RabbitNode, connector_name: str) -> AsyncIterator[Side]:
    side = await Side(rabbitmq, connector_name, prefetch=5).start()
    yield side
    await side.broker.stop_consuming(1)
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_the_queues_are_those_of_the_contract(side: Side, pika_channel: BlockingChannel) -> None:
    """Exchange, three bound queues and the parked ones are durable and without arguments."""
    pika_channel.exchange_declare("vumi", "direct", durable=True)
    for suffix in ("inbound", "event", "outbound", "inbound.parked", "event.parked"):
        pika_channel.queue_declare(f"{side.name}.{suffix}", durable=True)
    pika_channel.confirm_delivery()
    for suffix in ("inbound", "event", "outbound"):
        # Raises UnroutableError where there is no binding.
        pika_channel.basic_publish("vumi", f"{side.name}.{suffix}", b"{}", mandatory=True)


@pytest_twisted.ensureDeferred
async def test_queues_that_a_peer_declared(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """Queues made beforehand by a peer's plain declaration are used, with what waits in them."""
    pika_channel.exchange_declare("vumi", "direct", durable=True)
    for suffix in ("inbound", "event", "outbound"):
        pika_channel.queue_declare(f"{connector_name}.{suffix}", durable=True)
        pika_channel.queue_bind(f"{connector_name}.{suffix}", "vumi")
    sent = message()
    send(pika_channel, f"{connector_name}.inbound", sent.to_json())
    side = await Side(rabbitmq, connector_name).start()
    await until(lambda: side.inbound)
    assert side.inbound == [sent]
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_queue_with_other_arguments(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """A queue that exists with other arguments (406) is used as it is, for consuming and publishing."""
    pika_channel.queue_declare(f"{connector_name}.inbound", durable=True, arguments={"x-max-length": 1000})
    pika_channel.queue_declare(f"{connector_name}.outbound", durable=True, arguments={"x-max-length": 1000})
    side = await Side(rabbitmq, connector_name).start()
    send(pika_channel, f"{connector_name}.inbound", message("there").to_json())
    await until(lambda: side.inbound)
    await side.connector.publish(message()).confirmed
    assert count(pika_channel, f"{connector_name}.outbound") == 1
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_publishing(side: Side, pika_channel: BlockingChannel) -> None:
    """A published message is persistent JSON, without other properties, byte for byte."""
    sent = message("grüß dich")
    await side.connector.publish(sent).confirmed
    method, properties, body = pika_channel.basic_get(f"{side.name}.outbound", auto_ack=True)
    assert (method.exchange, method.routing_key) == ("vumi", f"{side.name}.outbound")
    assert body == sent.to_json()
    given = {name: value for name, value in vars(properties).items() if value is not None}
    assert given == {"content_type": "application/json", "delivery_mode": 2}


@pytest_twisted.ensureDeferred
async def test_headers_and_expiration(side: Side, pika_channel: BlockingChannel) -> None:
    """Headers and expiration are there when given."""
    headers = {"ü": [1, None, {"a": 2**40}], "b": True}
    await side.broker.publish(
        f"{side.name}.outbound", b"{}", exchange="", headers=headers, expiration=60000
    ).confirmed
    _, properties, _ = pika_channel.basic_get(f"{side.name}.outbound", auto_ack=True)
    assert properties.headers == headers
    assert properties.expiration == "60000"


@pytest_twisted.ensureDeferred
async def test_a_large_body_goes_out(side: Side, pika_channel: BlockingChannel) -> None:
    """1 MiB of non-ASCII text is published unchanged, and ten of them at once are."""
    body = json.dumps({"content": LARGE}, ensure_ascii=False).encode()
    assert len(body) > 1024 * 1024 - 100
    waiting = [side.broker.publish(f"{side.name}.outbound", body).confirmed for _ in range(10)]
    for published in waiting:
        await published
    for _ in waiting:
        assert pika_channel.basic_get(f"{side.name}.outbound", auto_ack=True)[2] == body


@pytest_twisted.ensureDeferred
async def test_a_large_body_comes_in(side: Side, pika_channel: BlockingChannel) -> None:
    """1 MiB of non-ASCII text is consumed unchanged."""
    fields = json.loads(message().to_json()) | {"content": LARGE}
    send(pika_channel, f"{side.name}.inbound", json.dumps(fields, ensure_ascii=False).encode())
    await until(lambda: side.inbound)
    assert side.inbound[0].content == LARGE


@pytest_twisted.ensureDeferred
async def test_an_unroutable_message(side: Side, pika_channel: BlockingChannel) -> None:
    """A message that no queue takes is an error; those around it are not."""
    first = side.connector.publish(message()).confirmed
    lost = side.broker.publish(f"{side.name}.nobody", b"{}").confirmed
    last = side.connector.publish(message()).confirmed
    await first
    with pytest.raises(Unroutable):
        await lost
    await last
    assert count(pika_channel, f"{side.name}.outbound") == 2


@pytest_twisted.ensureDeferred
async def test_a_deleted_outbound_queue_is_declared_again(side: Side, pika_channel: BlockingChannel) -> None:
    """With its queue deleted under us a message fails as unroutable, and soon the queue is there again."""
    queue = f"{side.name}.outbound"
    pika_channel.queue_delete(queue)
    with pytest.raises(Unroutable):
        await side.connector.publish(message()).confirmed

    async def routed() -> bool:
        try:
            await side.connector.publish(message()).confirmed
        except Unroutable:
            return False
        return True

    end = time.monotonic() + 60
    while not await routed():
        assert time.monotonic() < end
        await deferLater(reactor, 0.1)
    assert count(pika_channel, queue) == 1


@pytest_twisted.ensureDeferred
async def test_without_confirms_nothing_succeeds(
    rabbitmq: RabbitNode, connector_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success comes from the broker's confirm alone: with confirm mode left out, no publish succeeds."""
    made = AmqpProtocol.__init__

    def without_confirms(self: AmqpProtocol, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.channelFactory.confirm_select = lambda channel: succeed(None)

    monkeypatch.setattr(AmqpProtocol, "__init__", without_confirms)
    side = await Side(rabbitmq, connector_name).start()
    published = side.connector.publish(message()).confirmed
    await deferLater(reactor, 0.5)
    assert not published.called
    published.cancel()
    with pytest.raises(CancelledError):
        await published
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_handled_messages_are_acked(side: Side, pika_channel: BlockingChannel) -> None:
    """Inbound messages and events reach their handlers and are gone from their queues afterwards."""
    messages = [message(str(number)) for number in range(50)]
    event = Event(user_message_id="m", event_type="ack", sent_message_id="s")
    for sent in messages:
        send(pika_channel, f"{side.name}.inbound", sent.to_json())
    send(pika_channel, f"{side.name}.event", event.to_json())
    await until(lambda: len(side.inbound) == 50 and side.events)
    assert side.inbound == messages
    assert side.events == [event]
    await side.broker.stop_consuming(5)
    assert count(pika_channel, f"{side.name}.inbound") == 0
    assert count(pika_channel, f"{side.name}.event") == 0


@pytest_twisted.ensureDeferred
async def test_prefetch(side: Side, pika_channel: BlockingChannel) -> None:
    """No more than prefetch messages of a queue are handled at once."""
    running: list[Deferred[None]] = []

    async def slow(message: Message) -> None:
        running.append(Deferred())
        await running[-1]

    side.handle = slow
    for _ in range(8):
        send(pika_channel, f"{side.name}.inbound", message(from_addr=None).to_json())
    await until(lambda: len(running) == 5)
    await deferLater(reactor, 0.2)
    assert len(running) == 5
    running[0].callback(None)
    await until(lambda: len(running) == 6)
    for waiting in running[1:]:
        waiting.callback(None)
    await until(lambda: len(running) == 8)
    for waiting in running[6:]:
        waiting.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_failed_delivery_is_parked(side: Side, pika_channel: BlockingChannel) -> None:
    """A delivery given up leaves a copy with its reason, status, attempts and times, and the original's headers."""

    async def refuse(message: Message) -> None:
        raise DeliveryRefused(
            "400", reason="http_status", last_status=400, attempts=2, first_failure=0, last_failure=86400.5
        )

    side.handle = refuse
    body = message("ünï").to_json()
    headers = {"x": "ü", "deep": [{"n": 2**40}], "CC": [f"{side.name}.outbound"]}
    send(pika_channel, f"{side.name}.inbound", body, headers=headers)
    properties, copy = await parked(pika_channel, f"{side.name}.inbound.parked")
    assert copy == body
    assert properties.delivery_mode == 2
    # With the trace of its delivery, since it came without one.
    assert TraceContext.read([properties.headers.pop("traceparent")])
    assert properties.headers == {
        "x": "ü",
        "deep": [{"n": 2**40}],
        "reason": "http_status",
        "last_status": 400,
        "attempts": 2,
        "first_failure": "1970-01-01T00:00:00+00:00",
        "last_failure": "1970-01-02T00:00:00+00:00",
    }
    await side.broker.stop_consuming(5)
    assert count(pika_channel, f"{side.name}.inbound") == 0
    # A quorum queue has a message a moment after its publisher wrote it.
    await until(lambda: count(pika_channel, f"{side.name}.outbound"))
    assert count(pika_channel, f"{side.name}.outbound") == 1, "CC would have sent the copy there too"


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"not json", b"[]", b"{}", b'{"message_id": 5}'])
@pytest_twisted.ensureDeferred
async def test_unreadable_messages_are_parked(side: Side, pika_channel: BlockingChannel, body: bytes) -> None:
    """What can't be read is parked as it is, and the consumer goes on."""
    send(pika_channel, f"{side.name}.inbound", body)
    send(pika_channel, f"{side.name}.event", body)
    for kind in ("inbound", "event"):
        properties, copy = await parked(pika_channel, f"{side.name}.{kind}.parked")
        assert copy == body
        assert properties.headers["reason"] == "unreadable"
        assert "last_status" not in properties.headers
    send(pika_channel, f"{side.name}.inbound", message("after").to_json())
    await until(lambda: side.inbound)


@pytest_twisted.ensureDeferred
async def test_a_bug_in_a_handler_parks_too(side: Side, pika_channel: BlockingChannel) -> None:
    """A handler that raises anything else, even a cancellation, parks its message; the consumer goes on."""
    faults: list[Exception] = [ZeroDivisionError("bug"), CancelledError()]

    async def broken(message: Message) -> None:
        if faults:
            raise faults.pop()
        side.inbound.append(message)

    side.handle = broken
    for _ in range(3):
        send(pika_channel, f"{side.name}.inbound", message().to_json())
    await until(lambda: side.inbound)
    await until(lambda: count(pika_channel, f"{side.name}.inbound.parked") == 2)
    _, properties, _ = pika_channel.basic_get(f"{side.name}.inbound.parked", auto_ack=True)
    assert properties.headers["reason"] == "error"


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_parked_goes_back(
    side: Side, pika_channel: BlockingChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the copy is not confirmed the original is not acked: it comes again, until it can be parked."""
    monkeypatch.setattr(consumer, "REQUEUE_PAUSE", 0.1)
    pika_channel.queue_delete(f"{side.name}.inbound.parked")
    send(pika_channel, f"{side.name}.inbound", b"broken")
    # The return of the first copy has the queue declared again, and a later one stays.
    _, body = await parked(pika_channel, f"{side.name}.inbound.parked")
    assert body == b"broken"


@pytest_twisted.ensureDeferred
async def test_x_death_tables(side: Side, pika_channel: BlockingChannel) -> None:
    """A message that was dead-lettered, with x-death tables in its headers, is handled and parked like any."""
    delay = f"{side.name}.delay"
    pika_channel.queue_declare(
        delay,
        exclusive=True,
        arguments={
            "x-message-ttl": 1,
            "x-dead-letter-exchange": "vumi",
            "x-dead-letter-routing-key": f"{side.name}.inbound",
        },
    )
    for body in (message("late").to_json(), b"broken"):
        pika_channel.basic_publish("", delay, body, pika.BasicProperties(headers={"n": 1}))
    await until(lambda: side.inbound)
    properties, _ = await parked(pika_channel, f"{side.name}.inbound.parked")
    death = properties.headers["x-death"][0]
    assert (death["queue"], death["reason"], death["count"]) == (delay, "expired", 1)
    assert properties.headers["n"] == 1


@pytest_twisted.ensureDeferred
async def test_a_queue_deleted_under_us(side: Side, pika_channel: BlockingChannel) -> None:
    """A deleted queue is declared, bound and consumed again, and until then the status says so."""
    queue = f"{side.name}.inbound"
    # private: a new connection would look the same from outside.
    protocol = side.broker._consuming.protocol
    pika_channel.queue_delete(queue)
    await until(lambda: not side.live())
    assert side.broker.status()["consumers"] == {queue: False, f"{side.name}.event": True}
    await until(side.live)
    # private: see above.
    assert side.broker._consuming.protocol is protocol
    send(pika_channel, queue, message("again").to_json())
    await until(lambda: side.inbound)


@pytest_twisted.ensureDeferred
async def test_a_consumers_channel_closed_under_us(side: Side, pika_channel: BlockingChannel) -> None:
    """A channel that the broker closes (here for an unknown delivery tag) is rebuilt alone."""
    # private: nothing but a fault of ours on the consumer's own channel has the broker close it.
    channel = side.broker._consumers[0].channel
    assert channel is not None
    channel.acknowledge(60 << 16 | 80, 999, 0)
    await until(lambda: not side.live())
    await until(side.live)
    send(pika_channel, f"{side.name}.inbound", message("again").to_json())
    await until(lambda: side.inbound)


@pytest_twisted.ensureDeferred
async def test_a_publishing_channel_closed_under_us(side: Side, pika_channel: BlockingChannel) -> None:
    """A publish to an exchange that is not there fails; the next one finds a new channel in confirm mode."""
    with pytest.raises(AmqpConnectionError, match="NOT_FOUND"):
        await side.broker.publish("q", b"{}", exchange=f"{side.name}-nowhere").confirmed
    await side.connector.publish(message()).confirmed
    assert count(pika_channel, f"{side.name}.outbound") == 1


@pytest_twisted.ensureDeferred
async def test_stopping_to_consume(side: Side, pika_channel: BlockingChannel) -> None:
    """Handlers under way end within the limit; what they leave goes back to its queue, unparked."""
    quick: Deferred[None] = Deferred()
    started: list[str | None] = []

    async def handle(message: Message) -> None:
        started.append(message.content)
        await (quick if message.content == "quick" else Deferred())

    side.handle = handle
    for content in ("quick", "stuck", "stuck"):
        send(pika_channel, f"{side.name}.inbound", message(content, from_addr=None).to_json())
    await until(lambda: len(started) == 3)
    stopping = Deferred.fromCoroutine(side.broker.stop_consuming(0.5))
    send(pika_channel, f"{side.name}.inbound", message("new").to_json())
    reactor.callLater(0.1, quick.callback, None)
    await stopping
    await until(lambda: count(pika_channel, f"{side.name}.inbound") == 3)
    assert len(started) == 3
    assert count(pika_channel, f"{side.name}.inbound.parked") == 0
    await side.connector.publish(message("publishing goes on")).confirmed


@pytest_twisted.ensureDeferred
async def test_cut_connections(side: Side, rabbitmq: RabbitNode, pika_channel: BlockingChannel) -> None:
    """Connections closed by the broker come back, with all that was on them, and nothing is lost."""
    sent = 0
    fates: list[object] = []
    for _ in range(2):
        closing = deferToThread(rabbitmq.close_connections)
        while not closing.called:
            published = side.connector.publish(message(str(sent))).confirmed
            published.addCallbacks(lambda _: fates.append(True), lambda failure: fates.append(failure.type))
            sent += 1
            await deferLater(reactor, 0.01)
        await closing
        await until(side.live)
    await until(lambda: len(fates) == sent)
    assert set(fates) <= {True, AmqpConnectionError}
    witness = pika.BlockingConnection(pika.ConnectionParameters(rabbitmq.host, rabbitmq.port, heartbeat=0))
    channel = witness.channel()
    queued = count(channel, f"{side.name}.outbound")
    assert fates.count(True) <= queued <= sent
    send(channel, f"{side.name}.inbound", message("after").to_json())
    await until(lambda: side.inbound)
    witness.close()


@pytest_twisted.ensureDeferred
async def test_a_wrong_password(rabbitmq: RabbitNode) -> None:
    """A refused login leaves us disconnected, is logged without the password, and tried again."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    broker = Broker(reactor, options(rabbitmq, password="s3cret-pw"))
    broker.startService()
    refused = "The AMQP broker at {address} refused user {username}"
    await until(lambda: sum(event["log_format"].startswith(refused) for event in events) > 2)
    assert not broker.connected
    await broker.stopService()
    globalLogPublisher.removeObserver(events.append)
    assert "s3cret-pw" not in repr(events)


def test_pika_agrees_on_406(rabbitmq: RabbitNode, pika_channel: BlockingChannel, connector_name: str) -> None:
    """The case of other arguments is a 406 for a peer, so the test above tests what it says."""
    pika_channel.queue_declare(f"{connector_name}.inbound", durable=True, arguments={"x-max-length": 1})
    with pytest.raises(ChannelClosedByBroker, match="406"):
        pika_channel.queue_declare(f"{connector_name}.inbound", durable=True)
