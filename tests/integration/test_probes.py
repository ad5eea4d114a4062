"""The probes of an orchestrator, and the drain after SIGTERM, on the real daemon."""

from __future__ import annotations

import http.client
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.integration.conftest import RunDaemon
from tests.support.commands import asked
from tests.support.daemon import until
from tests.support.drained import Start, processes
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

READY, LIVE = "/health/ready", "/health/live"


@pytest_twisted.ensureDeferred
async def test_broker_away(run_daemon: RunDaemon, receiver: Receiver, rabbitmq: RabbitNode) -> None:
    """Ready is 503 while the broker takes no messages, away or blocked; live is 200 whatever is away.  Neither asks for
    credentials."""
    options: dict[str, Any] = {
        "mo_message_url": receiver.url("/inbound"),
        "default_from_addr": "8110",
        "api_auth": {"tokens": ["t0ken"]},
        "request_timeout": 0.5,
    }
    async with run_daemon("junebug", **options) as side:

        async def ready() -> tuple[int, Any]:
            answer = await side.request("GET", READY)
            return answer.status, answer.body

        refused = 503, {"ready": False, "reason": "the broker takes no messages"}
        assert await ready() == (200, {"ready": True})
        await deferToThread(rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            # The broker blocks a connection when something is published on it.
            body, headers = {"to": "+27123", "content": "c"}, {"Authorization": "Token t0ken"}
            assert (await side.post(body, headers=headers)).status == 503
            await until(lambda: side.daemon.health()["amqp"]["blocked"], "the alarm")
            assert await ready() == refused
            assert (await side.request("GET", LIVE)).status == 200
        finally:
            await deferToThread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.9")
        await deferToThread(rabbitmq.stop_app)
        try:
            await until(lambda: not side.live(), "the outage")
            assert await ready() == refused
            assert (await side.request("GET", LIVE)).status == 200
        finally:
            await deferToThread(rabbitmq.start_app)


@pytest.fixture
def start(tmp_path: Path, rabbitmq: RabbitNode, connector_name: str) -> Iterator[Start]:
    with processes(tmp_path, rabbitmq, connector_name) as start:
        yield start


def test_drain(start: Start) -> None:
    """After SIGTERM ready is 503 while requests are still served, each over a connection that ends with its answer; a
    second SIGTERM ends the drain, and the daemon stops in order."""
    daemon = start(DRAIN_DELAY="3600")
    daemon.terminate()
    daemon.wait_ready(503)
    assert asked(daemon.url + READY) == (503, {"ready": False, "reason": "stopping"})
    assert asked(daemon.url + LIVE)[0] == 200
    assert asked(f"{daemon.url}/messages", {"to": "+27123", "content": "late"})[0] == 201
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    connection.request("GET", LIVE)
    assert connection.getresponse().getheader("Connection") == "close"
    connection.close()
    daemon.terminate()
    assert daemon.process.wait(60) == -signal.SIGTERM
    output = daemon.output.read_text()
    assert "stopped" in output
    assert "Traceback" not in output


def test_drain_delay(start: Start) -> None:
    """The drain ends by itself after drain_delay."""
    daemon = start(DRAIN_DELAY="0.5")
    begin = time.monotonic()
    daemon.terminate()
    assert daemon.process.wait(60) == -signal.SIGTERM
    assert time.monotonic() - begin >= 0.5
