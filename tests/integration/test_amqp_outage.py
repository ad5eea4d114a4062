"""The broker away, short of memory, behind TLS, or not answering: what becomes of messages meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor, ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.protocols.portforward import ProxyFactory

from junebug_turn.amqp import reconnecting
from junebug_turn.amqp.broker import Broker
from junebug_turn.errors import AmqpConnectionError
from tests.conftest import pika_connection
from tests.support.connector_harness import Side, count, message, options, send, until
from tools.servers.rabbitmq import RabbitNode


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """The log events of the test."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def lines(events: list[dict[str, Any]], word: str) -> list[dict[str, Any]]:
    return [event for event in events if word in (event.get("log_format") or "")]


@pytest_twisted.ensureDeferred
async def test_the_broker_stopped_and_started(
    rabbitmq: RabbitNode, connector_name: str, logged: list[dict[str, Any]]
) -> None:
    """Messages wait for a broker that is away, in order; the consumers come back with it; the log tells."""
    side = await Side(rabbitmq, connector_name).start()
    await deferToThread(rabbitmq.stop_app)
    try:
        await until(lambda: not side.broker.connected)
        waiting = [side.connector.publish(message(str(number))).confirmed for number in range(1000)]
        with pytest.raises(AmqpConnectionError):
            await side.connector.publish(message("one too many")).confirmed
        waiting[5].cancel()
        with pytest.raises(CancelledError):
            await waiting.pop(5)
        assert side.broker.status()["consumers"] == {
            f"{side.name}.inbound": False,
            f"{side.name}.event": False,
        }
    finally:
        await deferToThread(rabbitmq.start_app)
    for published in waiting:
        await published
    await until(side.live)
    connection = pika_connection(rabbitmq)
    channel = connection.channel()
    assert count(channel, f"{side.name}.outbound") == 999
    contents = [
        side_message.split(b'"content":"')[1].split(b'"')[0]
        for side_message in (channel.basic_get(f"{side.name}.outbound", True)[2] for _ in range(999))
    ]
    assert contents == [str(number).encode() for number in range(1000) if number != 5]
    send(channel, f"{side.name}.inbound", message("after").to_json())
    await until(lambda: side.inbound)
    connection.close()
    await side.broker.stopService()
    assert lines(logged, "Lost the AMQP broker")
    assert lines(logged, "Connecting again")
    # A broker that is about to be there may take connections and end them again.
    assert len(lines(logged, "Connected to the AMQP broker")) >= 4


@pytest_twisted.ensureDeferred
async def test_a_handler_under_way_when_the_connection_is_cut(
    rabbitmq: RabbitNode, connector_name: str
) -> None:
    """Its message comes again on the new connection, is handled once at a time, and acked when the handler returns."""
    side = await Side(rabbitmq, connector_name).start()
    ends: list[Deferred[None]] = []
    seen: list[str | None] = []

    async def handle(message: Any) -> None:
        seen.append(message.content)
        if message.content != "n":
            ends.append(Deferred())
            await ends[-1]

    side.handle = handle
    queue = f"{side.name}.inbound"
    for content in ("m", "o"):
        await side.broker.publish(queue, message(content, from_addr=None).to_json()).confirmed
    await until(lambda: len(seen) == 2)
    for round in range(4):
        # Looked for while rabbitmqctl still runs: it may be back before that ends.
        closing = deferToThread(rabbitmq.close_connections)
        # An ack on the connection that is being closed is lost, and its message would be handled again.
        await until(lambda: not any(side.broker.status()["consumers"].values()))
        if round == 3:
            # One returns before its message comes again.
            ends[1].callback(None)
        await closing
        await until(side.live)
    # What came again is before this one.
    await side.broker.publish(queue, message("n", from_addr=None).to_json()).confirmed
    await until(lambda: "n" in seen)
    assert seen == ["m", "o", "n"]
    ends[0].callback(None)
    await side.broker.stop_consuming(5)
    connection = pika_connection(rabbitmq)
    assert count(connection.channel(), queue) == 0
    connection.close()
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_broker_short_of_memory(rabbitmq: RabbitNode, connector_name: str) -> None:
    """While a memory alarm blocks publishers messages wait; consuming and acknowledging goes on."""
    side = await Side(rabbitmq, connector_name, prefetch=1).start()
    # What comes in first, so that there is something to consume during the alarm.
    for number in range(5):
        await side.broker.publish(f"{side.name}.inbound", message(str(number)).to_json()).confirmed
    await until(lambda: len(side.inbound) == 5)
    gate: list[Deferred[None]] = []

    async def wait(message: Any) -> None:
        gate.append(Deferred())
        await gate[-1]

    side.handle = wait
    for number in range(3):
        await side.broker.publish(f"{side.name}.inbound", message(str(number)).to_json()).confirmed
    await until(lambda: gate)
    await deferToThread(rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        # The first message shows the broker that we publish, and it says that it is blocked.
        first = side.connector.publish(message("first")).confirmed
        await until(lambda: side.broker.status()["blocked"])
        second = side.connector.publish(message("second")).confirmed
        for number in range(3):
            await until(lambda number=number: len(gate) > number)
            gate[number].callback(None)
        await deferLater(reactor, 0.2)
        assert not second.called
        assert side.broker.connected
    finally:
        await deferToThread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.9")
    await first
    await second
    assert not side.broker.status()["blocked"]
    await side.broker.stop_consuming(5)
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_stopping_while_blocked(
    rabbitmq: RabbitNode, connector_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that reads nothing does not keep the service from stopping; what waited fails."""
    monkeypatch.setattr(reconnecting, "CLOSE_TIMEOUT", 0.3)
    side = await Side(rabbitmq, connector_name).start()
    await deferToThread(rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        first = side.connector.publish(message("first")).confirmed
        await until(lambda: side.broker.status()["blocked"])
        second = side.connector.publish(message("second")).confirmed
        await side.broker.stop_consuming(1)
        stopping = side.broker.stopService()
        await until(lambda: stopping.called)
        for published in (second, first):
            with pytest.raises(AmqpConnectionError):
                await published
    finally:
        await deferToThread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.9")


@pytest_twisted.ensureDeferred
async def test_everything_is_declared_again(rabbitmq: RabbitNode, connector_name: str) -> None:
    """After a reconnect all queues are there and bound again, the outbound one too, before anything is sent."""
    side = await Side(rabbitmq, connector_name).start()
    connection = pika_connection(rabbitmq)
    for suffix in ("outbound", "inbound.parked"):
        connection.channel().queue_delete(f"{connector_name}.{suffix}")
    connection.close()
    closing = deferToThread(rabbitmq.close_connections)
    await until(lambda: not side.live())
    await closing
    await until(lambda: side.live() and side.broker.status()["publishing"])
    connection = pika_connection(rabbitmq)
    channel = connection.channel()
    assert count(channel, f"{connector_name}.inbound.parked") == 0
    channel.confirm_delivery()
    channel.basic_publish("vumi", f"{connector_name}.outbound", b"{}", mandatory=True)
    connection.close()
    await side.broker.stopService()


class _Mute(Protocol):
    """Takes what comes and answers nothing."""


@pytest_twisted.ensureDeferred
async def test_a_broker_that_does_not_answer(
    rabbitmq: RabbitNode, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that takes connections and says nothing is left when the time for connecting is over."""
    monkeypatch.setattr(reconnecting, "CONNECT_TIMEOUT", 0.2)
    port = reactor.listenTCP(0, Factory.forProtocol(_Mute), interface="127.0.0.1")
    broker = Broker(reactor, options(rabbitmq, port=port.getHost().port))
    broker.startService()
    await until(lambda: len(lines(logged, "No AMQP broker")) >= 2)
    assert "no answer" in lines(logged, "No AMQP broker")[0]["why"]
    await broker.stopService()
    await port.stopListening()
    await deferLater(reactor, 0.05)


@pytest.mark.parametrize("seconds", [0, 0.02, 0.1])
@pytest_twisted.ensureDeferred
async def test_stopping_while_the_broker_is_away(
    rabbitmq: RabbitNode, logged: list[dict[str, Any]], seconds: float
) -> None:
    """A service that never got its connection stops at once, also while it connects, and fails what waited."""
    broker = Broker(reactor, options(rabbitmq, port=1))
    waiting = broker.publish("q", b"{}").confirmed
    broker.startService()
    if seconds:
        await deferLater(reactor, seconds)
    await broker.stop_consuming(5)
    await broker.stopService()
    with pytest.raises(AmqpConnectionError):
        await waiting
    with pytest.raises(AmqpConnectionError):
        await broker.publish("q", b"{}").confirmed
    logged.clear()
    await deferLater(reactor, 0.5)
    assert not lines(logged, "No AMQP broker")


def _certificate(host: str) -> ssl.PrivateCertificate:
    """A self-signed certificate for ``host``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ssl.PrivateCertificate.loadPEM(made.public_bytes(pem) + private)


@pytest.mark.parametrize(("named", "welcome"), [("localhost", True), ("other.example", False)])
@pytest_twisted.ensureDeferred
async def test_tls(
    rabbitmq: RabbitNode,
    connector_name: str,
    named: str,
    welcome: bool,
    logged: list[dict[str, Any]],
) -> None:
    """amqps works with a certificate for the host's name, and not with one for another name."""
    certificate = _certificate(named)
    forward = ProxyFactory(rabbitmq.host, rabbitmq.port)
    port = reactor.listenSSL(0, forward, certificate.options(), interface="127.0.0.1")
    broker = Broker(
        reactor,
        options(rabbitmq, hostname="localhost", port=port.getHost().port, tls=True),
        trust_root=ssl.trustRootFromCertificates([ssl.Certificate(certificate.original)]),
    )
    broker.startService()
    if welcome:
        await until(lambda: broker.connected)
    else:
        await until(lambda: len(lines(logged, "No AMQP broker")) > 2)
        assert not broker.connected
    await broker.stopService()
    await port.stopListening()
