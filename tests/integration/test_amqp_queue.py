"""``amqp_queue``: an application over AMQP at the other side of a Junebug channel, played by pika."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.messages.vumi import Event, Message
from tests.integration.conftest import RunDaemon
from tests.integration.test_outage import Process, healthy
from tests.support.channels import RunJunebug
from tests.support.connector_harness import count
from tests.support.daemon import Running, until
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

PATH = "/channels/c"


@pytest.fixture
def queue(pika_channel: BlockingChannel) -> Iterator[str]:
    """The name of the application's queues, which go with the test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    if pika_channel.is_open:
        for kind in ("inbound", "event", "outbound"):
            pika_channel.queue_delete(f"{name}.{kind}")


def inbound(number: int = 1, **fields: Any) -> Message:
    common = {"to_addr": "8", "from_addr": f"+{number}", "transport_name": "t", "transport_type": "sms"}
    return Message(content=str(number), **(common | fields))


def event(message_id: str = "m") -> Event:
    return Event(user_message_id=message_id, event_type="ack")


def send(channel: BlockingChannel, queue: str, body: bytes, **properties: Any) -> None:
    channel.basic_publish("vumi", queue, body, pika.BasicProperties(**({"delivery_mode": 2} | properties)))


async def taken(channel: BlockingChannel, queue: str, number: int = 1) -> list[tuple[Any, bytes]]:
    """The next messages of a queue, as soon as there are so many: their properties and bodies."""
    found: list[tuple[Any, bytes]] = []

    def there() -> bool:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is not None:
            found.append((properties, body))
        return len(found) >= number

    await until(there, f"{number} messages in {queue}", 30)
    return found


@pytest_twisted.ensureDeferred
async def test_both(run_daemon: RunDaemon, receiver: Receiver, queue: str) -> None:
    """Inbound messages and every event, also of unknown messages, are in Q.inbound and Q.event; with mo_message_url
    beside it both get everything."""
    urls = {"mo_message_url": receiver.url("/in"), "default_event_url": receiver.url("/events")}
    async with run_daemon("junebug", base_url_path=PATH, amqp_queue=queue, **urls) as side:
        message, ack = inbound(session_event="close"), event("nobody")
        side.publish("inbound", message)
        side.publish("event", ack)
        ((properties, body),) = await taken(side.channel, f"{queue}.inbound")
        assert (body, properties.delivery_mode) == (message.to_json(), 2)
        assert (await taken(side.channel, f"{queue}.event"))[0][1] == ack.to_json()
        requests = {request.path: request.json["message_id"] for request in await receiver.received(2)}
        assert requests == {"/in": message.message_id, "/events": "nobody"}
        # HTTP replies to what came work beside it.
        assert (await side.post({"reply_to": message.message_id, "content": "c"})).status == 201


@pytest_twisted.ensureDeferred
async def test_alone(run_daemon: RunDaemon, receiver: Receiver, queue: str) -> None:
    """mo_message_url may be absent then; events go to their event_url nevertheless, and nothing is parked."""
    async with run_daemon("junebug", base_url_path=PATH, amqp_queue=queue) as side:
        body = {"to": "1", "from": "2", "content": "c", "event_url": receiver.url("/own")}
        message_id = (await side.post(body)).body["result"]["message_id"]
        for item in (event(message_id), event("nobody")):
            side.publish("event", item)
        side.publish("inbound", inbound())
        assert len(await taken(side.channel, f"{queue}.event", 2)) == 2
        await taken(side.channel, f"{queue}.inbound")
        (request,) = await receiver.received(1)
        assert (request.path, request.json["message_id"]) == ("/own", message_id)
        await side.handlers_done()
        assert side.count("inbound.parked") == side.count("event.parked") == 0


@pytest_twisted.ensureDeferred
async def test_outbound(run_daemon: RunDaemon, queue: str) -> None:
    """Q.outbound is forwarded to <connector>.outbound as it is: the body byte for byte, properties and headers."""
    async with run_daemon("junebug", base_url_path=PATH, amqp_queue=queue) as side:
        bodies = [b'{"message_id": "m", "foreign": [1, 2]}', b"not JSON \xff", b"x" * 300_000]
        for number, body in enumerate(bodies):
            headers = {"a": number}
            send(side.channel, f"{queue}.outbound", body, headers=headers, correlation_id="c", priority=3)
        sent = await taken(side.channel, f"{side.connector}.outbound", 3)
        found = {body: properties for properties, body in sent}
        assert set(found) == set(bodies)
        for number, body in enumerate(bodies):
            properties = found[body]
            assert properties.headers == {"a": number}
            assert (properties.correlation_id, properties.priority, properties.delivery_mode) == ("c", 3, 2)


@pytest_twisted.ensureDeferred
async def test_receiver_down(run_daemon: RunDaemon, receiver: Receiver, queue: str) -> None:
    """While mo_message_url fails, the application has a message once, however often its delivery is tried again."""
    receiver.script(503)
    async with run_daemon(
        "junebug",
        base_url_path=PATH,
        amqp_queue=queue,
        mo_message_url=receiver.url("/in"),
        max_retries=0,
        session_retry_window=600,
    ) as side:
        # One of a USSD session is put off for 5 seconds.
        side.publish("inbound", inbound(transport_type="ussd"))
        await taken(side.channel, f"{queue}.inbound")
        await until(lambda: len(receiver.requests) == 2, "the second delivery", 60)
        await side.handlers_done()
        assert count(side.channel, f"{queue}.inbound") == 0


@pytest_twisted.ensureDeferred
async def test_both_sides_away(run_daemon: RunDaemon, queue: str) -> None:
    """While nobody consumes the application's queues, or the transport's, what is for them waits there."""
    async with run_daemon("junebug", base_url_path=PATH, amqp_queue=queue) as side:
        for number in range(50):
            side.publish("inbound", inbound(number))
            send(side.channel, f"{queue}.outbound", str(number).encode())
        await until(lambda: count(side.channel, f"{queue}.inbound") == 50, "50 messages for the application")
        await until(lambda: side.count("outbound") == 50, "50 messages for the transport")
        assert side.count("inbound") == count(side.channel, f"{queue}.outbound") == 0


@pytest_twisted.ensureDeferred
async def test_queue_deleted(run_daemon: RunDaemon, queue: str) -> None:
    """A queue of the application that is deleted is declared again, and nothing is lost that comes then."""
    async with run_daemon("junebug", base_url_path=PATH, amqp_queue=queue) as side:
        side.channel.queue_delete(f"{queue}.inbound")
        message = inbound()
        side.publish("inbound", message)
        await until(lambda: count(side.channel, f"{queue}.inbound") == 1, "the message in the new queue", 60)
        assert (await taken(side.channel, f"{queue}.inbound"))[0][1] == message.to_json()


async def bridged(side: Running, queue: str, number: int) -> None:
    """Have a message of this number go each way; earlier ones come again where a lost connection had their acks."""
    side.publish("inbound", inbound(number))
    send(side.channel, f"{queue}.outbound", b"%d" % number)
    for name, read in ((f"{queue}.inbound", _content), (f"{side.connector}.outbound", int)):
        found = 0
        while found != number:
            found = read((await taken(side.channel, name))[0][1])
            assert 1 <= found <= number


def _content(body: bytes) -> int:
    return int(json.loads(body)["content"])


@pytest_twisted.ensureDeferred
async def test_connection_lost(run_daemon: RunDaemon, queue: str) -> None:
    """After its connections were lost the bridge goes on in both directions."""
    async with run_daemon("junebug", base_url_path=PATH, amqp_queue=queue) as side:
        await bridged(side, queue, 1)
        # private: the broker can't be made to close these two connections alone.
        for connection in (side.daemon.broker._consuming, side.daemon.broker._publishing):
            assert connection.protocol is not None
            connection.protocol.abort("a test")
        await bridged(side, queue, 2)


@pytest.fixture
def start(
    tmp_path: Path, rabbitmq: RabbitNode, connector_name: str, queue: str
) -> Iterator[Callable[..., Process]]:
    """Starts the daemon as a process."""
    started: list[Process] = []
    options = {
        "application": "junebug",
        "connector_name": connector_name,
        "amqp": {"hostname": rabbitmq.host, "port": rabbitmq.port},
        "base_url_path": PATH,
        "amqp_queue": queue,
    }

    def start(**changes: Any) -> Process:
        started.append(Process(tmp_path, **options, **changes))
        return started[-1]

    yield start
    for process in started:
        process.process.kill()
        process.process.wait()


@pytest_twisted.ensureDeferred
async def test_killed(
    start: Callable[..., Process], pika_channel: BlockingChannel, connector_name: str, queue: str
) -> None:
    """Killed in the middle, the daemon loses nothing in either direction: all is there after a new start."""
    address = f"127.0.0.1:{free_port()}"
    process = start(http_bind=address)
    await healthy(f"http://{address}")
    sent = {str(number) for number in range(400)}
    pika_channel.confirm_delivery()
    for number in sent:
        send(pika_channel, f"{connector_name}.inbound", inbound(int(number)).to_json())
        send(pika_channel, f"{queue}.outbound", number.encode())
        if number == "200":
            process.process.kill()
            process.process.wait()
    start(http_bind=address)
    at_application: set[str] = set()
    at_transport: set[str] = set()

    def all_there() -> bool:
        while (found := pika_channel.basic_get(f"{queue}.inbound", auto_ack=True))[0] is not None:
            at_application.add(json.loads(found[2])["content"])
        while (found := pika_channel.basic_get(f"{connector_name}.outbound", auto_ack=True))[0] is not None:
            at_transport.add(found[2].decode())
        return at_application == at_transport == sent

    await until(all_there, "all messages", 60)


@pytest_twisted.ensureDeferred
async def test_channel_of_the_store(run_junebug: RunJunebug, receiver: Receiver, queue: str) -> None:
    """A channel of the store has an amqp_queue, too; it can be given, changed and taken away while it runs, and each
    queue has what came in its time."""
    async with run_junebug() as side:
        id = await side.create(amqp_queue=queue)
        channel = side.of(id)
        await bridged(channel, queue, 1)
        other = f"{queue}-other"
        assert (await side.call("POST", f"/channels/{id}", {"amqp_queue": other})).status == 200
        await bridged(channel, other, 2)
        # The end of a session goes nowhere, as in Junebug; with a mo_url beside it both get the rest.
        assert (await side.call("POST", f"/channels/{id}", {"mo_url": receiver.url("/mo")})).status == 200
        channel.publish("inbound", inbound(3, session_event="close"))
        await bridged(channel, other, 4)
        (request,) = await receiver.received(1)
        assert request.json["content"] == "4"
        assert count(side.channel, f"{queue}.inbound") == count(side.channel, f"{other}.inbound") == 0
        assert (await side.call("DELETE", f"/channels/{id}")).status == 200
        source = f"{other}.outbound"
        await until(
            lambda: not side.channel.queue_declare(source, passive=True).method.consumer_count, "no consumer"
        )
