"""The metrics of the real daemon, as Prometheus reads them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest_twisted
import treq
from cryptography import x509
from pika.adapters.blocking_connection import BlockingChannel
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.threads import deferToThread

from junebug_turn.connectors.ages import message_ages
from junebug_turn.messages.vumi import Event, Message, utcnow
from tests.integration.conftest import RunDaemon
from tests.support.certificates import Authority
from tests.support.daemon import Running, until
from tests.support.leaks import LEAKS
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Answer, Receiver

PATH = "/channels/c"
NUMBER = "+27820000001"


async def scraped(url: str) -> tuple[int, dict[tuple[str, ...], float], str]:
    """The status, the samples by name and label values, and the text."""
    response = await treq.get(f"{url}/metrics", persistent=False, timeout=10)
    text = await response.text()
    LEAKS.search("a metrics page", text)
    if response.code != 200:
        return response.code, {}, text
    samples = {
        (sample.name.removeprefix("junebug_turn_"), *_values(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return response.code, samples, text


def _values(labels: dict[str, str]) -> list[str]:
    """The values of labels, the first ones first; the text has them in the order of the alphabet."""
    first = ("application", "connector", "kind")
    names = [name for name in first if name in labels] + [name for name in labels if name not in first]
    return [labels[name] for name in names]


def inbound(text: str) -> Message:
    return Message(to_addr="8110", from_addr=NUMBER, transport_name="t", transport_type="sms", content=text)


@pytest_twisted.ensureDeferred
async def test_traffic(run_daemon: RunDaemon, connector_name: str, receiver: Receiver) -> None:
    """Each request, publish, delivery, attempt, retry and parking is counted under its application and connector,
    and no label has an address, a message id or a URL."""
    options: dict[str, Any] = {
        "base_url_path": PATH,
        "mo_message_url": receiver.url("/inbound"),
        "default_event_url": receiver.url("/events"),
        "retry_delay_base": 0,
    }
    async with run_daemon("junebug", **options) as side:
        answered = await side.post({"to": NUMBER, "from": "8110", "content": "x"})
        assert (await side.post({"to": NUMBER})).status == 400
        message_id = answered.body["result"]["message_id"]
        receiver.script(503, 200, 400, 200)
        good, bad = inbound("good"), inbound("bad")
        side.publish("inbound", good)
        await receiver.received(2)
        side.publish("inbound", bad)
        await until(lambda: side.count("inbound.parked"), "the parking")
        side.publish("event", Event(user_message_id=message_id, event_type="ack", sent_message_id="s"))
        await receiver.received(4)
        await side.handlers_done()
        await side.daemon.queue_counts.count()
        of = ("junebug", connector_name)
        status, samples, text = await scraped(side.url)
    assert status == 200
    expected = {
        ("http_requests_total", *of, "201"): 1,
        ("http_requests_total", *of, "400"): 1,
        ("http_request_duration_seconds_count", *of): 2,
        ("published_messages_total", *of, "confirmed"): 1,
        ("publish_confirm_seconds_count", *of): 1,
        ("deliveries_total", *of, "inbound", "delivered"): 1,
        ("deliveries_total", *of, "inbound", "http_status"): 1,
        ("deliveries_total", *of, "event", "delivered"): 1,
        ("delivery_duration_seconds_count", *of, "inbound"): 2,
        ("delivery_attempts_total", *of, "inbound", "ok"): 1,
        ("delivery_attempts_total", *of, "inbound", "http_503"): 1,
        ("delivery_attempts_total", *of, "inbound", "http_400"): 1,
        ("delivery_attempt_duration_seconds_count", *of, "inbound"): 3,
        ("delivery_retries_total", *of, "inbound", "http_503"): 1,
        ("parked_messages_total", *of, "inbound", "http_status"): 1,
        ("queue_messages", connector_name, f"{connector_name}.outbound"): 1,
        ("queue_messages", connector_name, f"{connector_name}.inbound.parked"): 1,
        ("queue_messages", "", "junebug-turn.delay.5s"): 0,
        ("queue_consumers", connector_name, f"{connector_name}.inbound"): 1,
        ("queue_consumers", connector_name, f"{connector_name}.outbound"): 0,
        ("consumer_live", connector_name, f"{connector_name}.inbound"): 1,
        ("oldest_message_seconds", *of, "inbound"): 0,
        ("broker_connected",): 1,
        ("broker_publishing",): 1,
        ("broker_blocked",): 0,
        ("cache_entries", *of, "inbound"): 2,
        ("cache_entries", *of, "outbound"): 1,
        ("cache_evictions_total", *of, "inbound"): 0,
    }
    assert {key: samples.get(key) for key in expected} == expected
    assert samples["process_resident_memory_bytes",] > 0
    for secret in (NUMBER[1:], message_id, good.message_id, bad.message_id, "/inbound", "/events"):
        assert secret not in text


@pytest_twisted.ensureDeferred
async def test_delayed_repeated_and_refused(
    run_daemon: RunDaemon, connector_name: str, receiver: Receiver
) -> None:
    """A message in a delay queue, a request that came again, and one whose body was too large are counted."""
    options: dict[str, Any] = {
        "base_url_path": PATH,
        "mo_message_url": receiver.url("/inbound"),
        "max_retries": 0,
        "limits_max_body_size": 10_000,
    }
    async with run_daemon("junebug", **options) as side:
        for _ in range(2):
            body = {"to": NUMBER, "from": "8110", "content": "x"}
            assert (await side.post(body, headers={"Idempotency-Key": "k"})).status == 201
        assert (await side.post(b"x" * 10_001)).status == 413
        receiver.script(503)
        side.publish("inbound", inbound("late"))
        await until(lambda: side.count("inbound.delayed.5s"), "the delay")
        await side.handlers_done()
        of = ("junebug", connector_name)
        _, samples, _ = await scraped(side.url)
    expected = {
        ("delayed_messages_total", *of, "inbound", "http_status"): 1,
        ("repeated_requests_total", *of): 1,
        ("http_requests_total", *of, "413"): 1,
        ("http_requests_total", *of, "201"): 2,
    }
    assert {key: samples.get(key) for key in expected} == expected


@pytest_twisted.ensureDeferred
async def test_broker_away(
    run_daemon: RunDaemon, rabbitmq: RabbitNode, connector_name: str, receiver: Receiver
) -> None:
    """While the broker is away the metrics are there, and say so."""
    extra = {"mo_message_url": receiver.url()}
    async with run_daemon("junebug", **extra) as side:
        await deferToThread(rabbitmq.stop_app)
        try:
            await until(lambda: not side.daemon.broker.connected, "the loss")
            await side.daemon.queue_counts.count()
            status, samples, _ = await scraped(side.url)
        finally:
            await deferToThread(rabbitmq.start_app)
        assert status == 200
        assert samples["broker_connected",] == 0
        assert samples["consumer_live", connector_name, f"{connector_name}.inbound"] == 0
        assert not [key for key in samples if key[0] == "queue_messages"]
        await until(side.live)


@pytest_twisted.ensureDeferred
async def test_metrics_bind(
    run_daemon: RunDaemon, connector_name: str, pika_channel: BlockingChannel, receiver: Receiver
) -> None:
    """With metrics_bind the metrics are there, and only there; nothing else is."""
    options = {"mo_message_url": receiver.url(), "metrics_bind": "localhost:0", "base_url_path": PATH}
    async with run_daemon("junebug", **options) as side:
        api, metrics = (f"http://127.0.0.1:{address.port}" for address in side.daemon.addresses)
        assert (await scraped(metrics))[0] == 200
        assert (await scraped(api))[0] == 404
        other = Running(side.daemon, connector_name, receiver, pika_channel, PATH)
        other.url = metrics
        assert (await other.post({"to": NUMBER, "from": "1", "content": "x"})).status == 404
        assert (await other.request("POST", "/metrics")).status == 405
        assert (await other.request("GET", "/metrics/x")).status == 404


@pytest_twisted.ensureDeferred
async def test_the_oldest_message(run_daemon: RunDaemon, connector_name: str, receiver: Receiver) -> None:
    """While a destination doesn't answer, the metrics have the age of the oldest message, the time in its queue
    included; it is 0 again when nothing is worked on."""
    options = {"mo_message_url": receiver.url("/inbound")}
    key = ("oldest_message_seconds", "junebug", connector_name, "inbound")
    async with run_daemon("junebug", **options) as side:
        receiver.script(Answer(how="hold"))
        side.publish("inbound", attrs.evolve(inbound("old"), timestamp=utcnow() - timedelta(hours=1)))
        await receiver.received(1)
        _, samples, _ = await scraped(side.url)
        assert 3600 <= samples[key] < 7200
        receiver.release()
        await side.handlers_done()
        assert message_ages(side.daemon.broker) == {}


@pytest_twisted.ensureDeferred
async def test_certificates(run_daemon: RunDaemon, receiver: Receiver, tmp_path: Path) -> None:
    """Each certificate of ours has the time at which it ends, as it is in use: a file that was only written anew
    changes nothing before SIGHUP.  No path of a file is shown."""
    authority = Authority(tmp_path)
    cert_file, key_file = authority.issue("localhost")
    end = x509.load_pem_x509_certificate(cert_file.read_bytes()).not_valid_after_utc.timestamp()
    options = {
        "mo_message_url": receiver.url(),
        "http_bind": f"ssl:0:privateKey={key_file}:certKey={cert_file}:interface=127.0.0.1",
        "metrics_bind": "127.0.0.1:0",
        "client_cert_file": str(cert_file),
        "client_key_file": str(key_file),
        "amqp_client_cert_file": str(cert_file),
        "amqp_client_key_file": str(key_file),
    }
    async with run_daemon("junebug", **options) as side:
        metrics = f"http://127.0.0.1:{side.daemon.addresses[1].port}"
        assert side.daemon.expiries["amqp.client_cert_file"]() == end
        cert_file.write_text("rubbish")
        side.daemon.reload()
        _, samples, text = await scraped(metrics)
    found = {key[1]: value for key, value in samples.items() if key[0].startswith("certificate_expiry")}
    # The broker's connection reads the file each time, and there is none to be had now.
    assert found == {"ssl:0": end, "client_cert_file": end}
    assert str(tmp_path) not in text
