"""Operator events to a real receiver: each kind, signed, and without any effect on what the daemon does else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
import pytest_twisted
import standardwebhooks
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from junebug_turn.daemon.operators.notifier import MAX_WAITING, Notifier
from junebug_turn.net.proxies import DIRECT
from junebug_turn.telemetry.metrics import Metrics
from tests.conftest import pika_connection
from tests.integration.conftest import RunDaemon
from tests.integration.test_outage import BODY, PATH, inbound
from tests.support.daemon import running, settings, until
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import HANG, Answer, Receiver

reactor: Any = _reactor
SECRETS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_bmV3LXNlY3JldA=="]


@pytest_twisted.async_yield_fixture
async def operators() -> AsyncIterator[Receiver]:
    """The receiver of operator events."""
    receiver: Any = Receiver(reactor)
    receiver.start()
    yield receiver
    await receiver.stop()


def events(operators: Receiver) -> list[dict[str, Any]]:
    """The events that were received, each once, with the signature of each secret."""
    found = {}
    for request in operators.requests:
        for secret in SECRETS:
            standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
        assert request.headers["content-type"] == "application/json"
        found[request.headers["webhook-id"]] = dict(request.json)
    return list(found.values())


def kinds(operators: Receiver) -> list[str]:
    return [event["type"] for event in events(operators)]


def options(receiver: Receiver, operators: Receiver, **changes: Any) -> dict[str, Any]:
    return {
        "base_url_path": PATH,
        "mo_message_url": receiver.url("/inbound"),
        "retry_delay_base": 0,
        "operator_url": operators.url("/events"),
        "operator_webhook_secret": "\n".join(SECRETS),
        **changes,
    }


@pytest_twisted.ensureDeferred
async def test_the_broker_away(
    run_daemon: RunDaemon, rabbitmq: RabbitNode, receiver: Receiver, operators: Receiver
) -> None:
    """The broker away is an event that is sent though AMQP is gone; so is its return."""
    async with run_daemon("junebug", **options(receiver, operators)) as side:
        await deferToThread(rabbitmq.stop_app)
        try:
            await until(lambda: "broker_away" in kinds(operators), "the event")
            assert not side.live()
        finally:
            await deferToThread(rabbitmq.start_app)
        await until(lambda: "broker_back" in kinds(operators), "the event")
    assert kinds(operators) == ["broker_away", "broker_back"]
    for event in events(operators):
        assert set(event) == {"type", "time", "host", "text", "details"}
        assert datetime.fromisoformat(event["time"]).utcoffset() is not None
        assert "broker" in event["text"]


@pytest_twisted.ensureDeferred
async def test_circuits_and_parked_messages(
    run_daemon: RunDaemon, receiver: Receiver, operators: Receiver
) -> None:
    """A circuit opened and closed are events, and so are messages parked, summed up by connector and reason; none has a
    body or an address of a person."""
    async with run_daemon("junebug", **options(receiver, operators)) as side:
        receiver.default = Answer(503)
        for number in range(1, 11):
            side.publish("inbound", inbound(number))
        await until(lambda: "circuit_opened" in kinds(operators), "the circuit to open")
        receiver.default = Answer(200)
        await until(lambda: "circuit_closed" in kinds(operators), "the circuit to close")
        opened = next(each for each in events(operators) if each["type"] == "circuit_opened")
        assert opened["details"]["destination"] == receiver.url("").rstrip("/")
        assert opened["details"]["fault"] == "HTTP status 503"
        await until(lambda: side.count("inbound") == 0, "the messages")
        receiver.default = Answer(400)
        for number in range(3):
            side.publish("inbound", inbound(9000 + number))
        await until(lambda: parked(operators) == 3, "the parked messages")
        counts = [entry for event in events(operators) for entry in event["details"].get("parked", ())]
        wanted = {"connector": side.connector, "kind": "inbound", "reason": "http_status"}
        assert all(wanted.items() <= entry.items() for entry in counts)
    text = b"".join(request.body for request in operators.requests).decode()
    assert "+27" not in text
    assert "content" not in text


def parked(operators: Receiver) -> int:
    return sum(event["details"].get("count", 0) for event in events(operators))


@pytest.mark.parametrize("fault", ["hangs", "500", "away"])
@pytest_twisted.ensureDeferred
async def test_nothing_waits_for_it(
    run_daemon: RunDaemon, receiver: Receiver, operators: Receiver, fault: str
) -> None:
    """Where operator_url hangs, fails or is away, at the origin of other deliveries too, nothing else is held up."""
    url = f"http://127.0.0.1:{free_port()}/events" if fault == "away" else receiver.url("/events")
    receiver.script(*[HANG if fault == "hangs" else 500] * 100, path="/events")
    async with run_daemon("junebug", **options(receiver, operators, operator_url=url)) as side:
        assert side.daemon.operator_events is not None
        for _ in range(20):
            side.daemon.operator_events.notifier.send("test", "A test.")
        for number in range(20):
            side.publish("inbound", inbound(number))
        assert (await side.post(BODY)).status == 201
        await until(lambda: delivered(receiver) == set(map(str, range(20))), "all messages")
        assert not side.daemon.deliverer.degraded()
        if fault == "hangs":
            receiver.release()


def delivered(receiver: Receiver) -> set[str]:
    return {request.json["content"] for request in receiver.requests if request.path == "/inbound"}


def notifier(operators: Receiver, metrics: Metrics, delays: tuple[float, ...] = (0, 0, 0)) -> Notifier:
    return Notifier(
        reactor, operators.url("/events"), tuple(SECRETS), proxies=DIRECT, metrics=metrics, delays=delays
    )


def counted(metrics: Metrics, result: str) -> int:
    line = f'junebug_turn_operator_events_total{{result="{result}"}} '
    return int(float(b"".join(metrics.text()).decode().partition(line)[2].partition("\n")[0]))


@pytest_twisted.ensureDeferred
async def test_attempts(operators: Receiver) -> None:
    """An event has a few attempts, with the same id; then it is dropped and counted, and the next one is sent."""
    metrics = Metrics()
    assert (counted(metrics, "sent"), counted(metrics, "dropped")) == (0, 0)
    sender = notifier(operators, metrics)
    operators.script(500, 404, *[503] * 4)
    for text in ("First.", "Second."):
        sender.send("test", text, number=1)
    await until(lambda: counted(metrics, "dropped") == 1, "the end of the second")
    await sender.stop()
    assert counted(metrics, "sent") == 1
    texts = [request.json["text"] for request in operators.requests]
    assert texts == ["First."] * 3 + ["Second."] * 4 or texts == ["First."] * 4 + ["Second."] * 3
    assert len(events(operators)) == 2


@pytest_twisted.ensureDeferred
async def test_a_bounded_number(operators: Receiver) -> None:
    """No more than a bounded number of events waits; the others are dropped and counted, minor ones first.  At a stop
    they have a short time."""
    metrics = Metrics()
    sender = notifier(operators, metrics)
    operators.script(HANG)
    for _ in range(MAX_WAITING):
        sender.send("minor", "A test.", minor=True)
    few = counted(metrics, "dropped")
    assert few > MAX_WAITING // 3
    for _ in range(2 * MAX_WAITING):
        sender.send("test", "A test.")
    assert few < counted(metrics, "dropped") < 3 * MAX_WAITING
    stopping = Deferred.fromCoroutine(sender.stop())
    await until(lambda: stopping.called, "the end")
    assert counted(metrics, "dropped") + counted(metrics, "sent") == 3 * MAX_WAITING
    operators.release()


@pytest_twisted.ensureDeferred
async def test_a_consumer_lost(
    rabbitmq: RabbitNode, vhost: str, receiver: Receiver, operators: Receiver
) -> None:
    """A consumer that is lost while the broker is there is an event, with its queue; so is its return."""
    connection = pika_connection(rabbitmq, vhost)
    changes = options(receiver, operators, amqp_vhost=vhost)
    async with running(rabbitmq, "sms", connection.channel(), receiver, "junebug", **changes) as side:
        permit = ("set_permissions", "-p", vhost, rabbitmq.username, ".*", ".*")
        await deferToThread(rabbitmq.ctl, *permit, "^$")
        side.channel.queue_delete("sms.inbound")
        await until(lambda: kinds(operators) == ["consumer_lost"], "the event")
        assert events(operators)[0]["details"] == {"queue": "sms.inbound"}
        await deferToThread(rabbitmq.ctl, *permit, ".*")
        await until(lambda: kinds(operators) == ["consumer_lost", "consumer_back"], "the return")
    connection.close()


@pytest_twisted.ensureDeferred
async def test_new_secrets(
    run_daemon: RunDaemon, rabbitmq: RabbitNode, receiver: Receiver, operators: Receiver
) -> None:
    """The secrets are read again at SIGHUP."""
    async with run_daemon("junebug", **options(receiver, operators)) as side:
        changes = options(receiver, operators, operator_webhook_secret="whsec_YW5vdGhlcg==")
        side.daemon.renew_secrets(
            lambda: settings(rabbitmq, "junebug", connector_name=side.connector, **changes)
        )
        assert side.daemon.operator_events is not None
        side.daemon.operator_events.notifier.send("test", "A test.")
        (request,) = await operators.received(1)
    standardwebhooks.Webhook("whsec_YW5vdGhlcg==").verify(request.body, dict(request.headers))
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRETS[0]).verify(request.body, dict(request.headers))
