"""The cost of a broker that takes no messages, or sends too large ones: memory and time have bounds."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pika
import pytest

from junebug_turn.messages.vumi import Message
from tests.conftest import pika_connection
from tests.support.attack import LARGE, MEGABYTE, ask_health, attack
from tests.support.hostile import JUNEBUG, Client, HostileDaemon
from tests.support.silent_broker import SilentBroker
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode

REQUESTS = 400 if LARGE else 40

# Each of its arrays takes twenty times the memory of its text.
NESTED = json.dumps(
    {"to": "+27123", "from": "8110", "content": "", "channel_data": {"x": [[] for _ in range(80_000)]}},
    separators=(",", ":"),
).encode()


@pytest.fixture(scope="module")
def daemon(rabbitmq: RabbitNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileDaemon]:
    name = f"costs-{uuid.uuid4().hex[:12]}"
    url = f"http://127.0.0.1:{free_port()}/"
    with HostileDaemon(rabbitmq, tmp_path_factory.mktemp("costs"), name, url) as running:
        yield running
    connection = pika_connection(rabbitmq)
    channel = connection.channel()
    for connector in (name, f"{name}-turn"):
        for queue in ("inbound", "event", "outbound", "inbound.parked", "event.parked"):
            channel.queue_delete(f"{connector}.{queue}")
    connection.close()


@contextmanager
def blocked(node: RabbitNode) -> Iterator[None]:
    """A memory alarm: the broker takes no messages."""
    node.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        yield
    finally:
        node.ctl("set_vm_memory_high_watermark", "0.9")


def begin(client: Client, body: bytes, key: str | None = None) -> None:
    """Send a request, whose answer may take long."""
    head = f"POST {JUNEBUG} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
    head += f"Idempotency-Key: {key}\r\n" if key else ""
    client.send(f"{head}\r\n".encode() + body)


@pytest.mark.parametrize("leaving", [False, True])
def test_requests_that_wait_for_the_broker(
    daemon: HostileDaemon, rabbitmq: RabbitNode, leaving: bool
) -> None:
    """While the broker takes no messages, requests of nested arrays cost the bytes of their messages, not the memory
    of their JSON: less than 150 MB for all that wait, whether their clients stay or leave.  Others are answered."""
    before = daemon.log.count("Publishing outbound message")
    with blocked(rabbitmq), attack(daemon, others=ask_health), ExitStack() as stack:
        with daemon.client() as first:
            # It shows the broker that we publish, and so it says that it is blocked.
            begin(first, b'{"to": "+27123", "from": "8110", "content": "first"}')
            assert daemon.health()
        clients = []
        for number in range(REQUESTS):
            client = daemon.client()
            begin(client, NESTED, f"{uuid.uuid4()}-{number}" if leaving else None)
            clients.append(stack.enter_context(client))
        end = time.monotonic() + 100
        while daemon.log.count("Publishing outbound message") < before + 1 + REQUESTS:
            assert daemon.health()
            assert time.monotonic() < end, daemon.log[-3000:]
            time.sleep(0.1)
        if leaving:
            for client in clients:
                client.socket.close()
        assert daemon.health()
    assert daemon.health()


def test_a_broker_that_confirms_nothing(tmp_path: Path) -> None:
    """Requests whose clients leave, while the broker reads their messages and confirms none, cost less than 150 MB:
    from 1,000 messages or 16 MB that nobody waits for the connection is made anew, and they are let go."""
    body = json.dumps({"to": "+27123", "from": "8110", "content": "x" * 240_000}).encode()
    url = f"http://127.0.0.1:{free_port()}/"
    with (
        SilentBroker() as broker,
        HostileDaemon(broker, tmp_path, "silent", url) as daemon,
        attack(daemon, others=ask_health),
    ):
        for number in range(REQUESTS * 4):
            with daemon.client() as client:
                before, leaves = broker.published, time.monotonic() + 0.1
                begin(client, body, f"key-{number}")
                while broker.published == before and time.monotonic() < leaves:
                    time.sleep(0.002)
        # Half-closed connections wait for 3 s.
        end = time.monotonic() + 100
        while daemon.log.count("POST /jb/messages: ") < REQUESTS * 4 or broker.connections < 3:
            assert time.monotonic() < end, daemon.log[-3000:]
            time.sleep(0.1)
        assert "messages whose senders have left" in daemon.log


def test_a_large_message_is_not_read(daemon: HostileDaemon, rabbitmq: RabbitNode) -> None:
    """A message over 16 MB from a queue is parked as it is: its JSON is not read, which would keep everybody waiting,
    and those after it are handled."""
    body = b"[" * 1_000_000 + b'"' + b"x" * (17 * MEGABYTE) + b'"' + b"]" * 1_000_000
    connection = pika_connection(rabbitmq)
    channel = connection.channel()
    queue = f"{daemon.name}.inbound"
    with attack(daemon):
        channel.basic_publish("", queue, body)
        small = Message(to_addr="1", from_addr="2", transport_name=daemon.name, transport_type="sms")
        channel.basic_publish("", queue, small.to_json(), pika.BasicProperties(delivery_mode=2))
        end = time.monotonic() + 60
        while True:
            method, properties, parked = channel.basic_get(f"{queue}.parked", auto_ack=True)
            if method is not None:
                break
            assert daemon.health()
            assert time.monotonic() < end, daemon.log[-3000:]
            time.sleep(0.1)
        assert parked == body
        assert properties.headers["reason"] == "unreadable"
        connection.close()
        while "16777216 are read at most (amqp.max_message_size)" not in daemon.log:
            assert time.monotonic() < end, daemon.log[-3000:]
            time.sleep(0.1)


def test_a_long_id_is_cut_in_the_log(daemon: HostileDaemon, rabbitmq: RabbitNode) -> None:
    """Of an id of a megabyte a log line has the beginning, and so has every line of that message."""
    long = "i" * MEGABYTE
    message = Message(
        to_addr="1", from_addr="2", transport_name=daemon.name, transport_type="sms", message_id=long
    )
    connection = pika_connection(rabbitmq)
    with attack(daemon):
        connection.channel().basic_publish("", f"{daemon.name}.inbound", message.to_json())
        end = time.monotonic() + 60
        while "iiiii..." not in daemon.log:
            assert daemon.health()
            assert time.monotonic() < end, daemon.log[-3000:]
            time.sleep(0.1)
    connection.close()
    assert max(map(len, daemon.log.splitlines())) < 10_000
