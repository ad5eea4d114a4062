"""The daemon in a process whose wall clock is set while it runs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
import pytest_twisted
import treq
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.task import deferLater

from junebug_turn.messages.vumi import Message
from tests.integration.test_outage import PATH, Process, healthy, inbound
from tests.support.connector_harness import count
from tests.support.daemon import until
from tests.support.store_harness import reactor
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Answer, Receiver

# Python runs it before anything else.
_CUSTOMIZE = """
import signal, time
real, ahead = time.time, [0.0]
time.time = lambda: real() + ahead[0]
def jump(*_):
    ahead[0] += {jump}
signal.signal(signal.SIGUSR2, jump)
"""

HEARTBEAT = 4
"""Seconds, of the broker."""


@pytest.fixture
def heartbeat(rabbitmq: RabbitNode) -> Iterator[None]:
    """The broker cuts connections that are silent for two heartbeats."""
    before = rabbitmq.ctl("eval", "{ok, H} = application:get_env(rabbit, heartbeat), H.").strip()
    rabbitmq.ctl("eval", f"application:set_env(rabbit, heartbeat, {HEARTBEAT}).")
    yield
    rabbitmq.ctl("eval", f"application:set_env(rabbit, heartbeat, {before}).")


def connections(rabbitmq: RabbitNode) -> set[str]:
    return set(rabbitmq.ctl("list_connections", "-q", "pid", "client_properties").splitlines())


@pytest.mark.parametrize("jump", [-3600, 3600])
@pytest_twisted.ensureDeferred
async def test_the_clock_is_set(
    pika_channel: BlockingChannel,
    heartbeat: None,
    rabbitmq: RabbitNode,
    receiver: Receiver,
    connector_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jump: int,
) -> None:
    """When the wall clock is set an hour back or forward, chains go on with their own delays, nothing is parked, new
    messages come and go, and the broker's connection lives; the log shows the wall clock."""
    (tmp_path / "sitecustomize.py").write_text(_CUSTOMIZE.format(jump=jump))
    monkeypatch.syspath_prepend(tmp_path)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = Process(
        tmp_path,
        application="junebug",
        connector_name=connector_name,
        amqp={"hostname": rabbitmq.host, "port": rabbitmq.port},
        base_url_path=PATH,
        http_bind=f"127.0.0.1:{port}",
        mo_message_url=receiver.url("/"),
        default_from_addr="8110",
        session_retry_window=60,
        state_cache_class="sqlite",
        state_cache_config={"path": str(tmp_path / "cache.db")},
        log_format="json",
    )

    def publish(message: Message) -> None:
        pika_channel.basic_publish("vumi", f"{connector_name}.inbound", message.to_json())

    def delivered(message: Message, times: int = 1) -> bool:
        return [request.json["content"] for request in receiver.requests].count(message.content) == times

    try:
        await healthy(url)
        before = connections(rabbitmq)
        receiver.script(Answer(503, {"Retry-After": "2"}))
        first = inbound(1)
        publish(first)
        await until(lambda: "the next in 2" in process.log.read_text(), "the end of the first attempt")
        process.process.send_signal(signal.SIGUSR2)
        await until(partial(delivered, first, 2), "the chain to go on")
        for number in range(2, 4):
            message = inbound(number)
            publish(message)
            await until(partial(delivered, message), "a new message")
            reply = {"reply_to": message.message_id, "content": "c"}
            answer = await treq.post(f"{url}{PATH}/messages", json=reply, persistent=False)
            assert answer.code == 201, await answer.text()
            if number == 2:
                # Without a word, longer than the broker waits for a heartbeat.
                await deferLater(reactor, 3 * HEARTBEAT)
        assert connections(rabbitmq) == before
        for kind in ("parked", "delayed.5s", "delayed.30s"):
            assert count(pika_channel, f"{connector_name}.inbound.{kind}") == 0
        process.process.send_signal(signal.SIGTERM)
        await until(lambda: process.process.poll() is not None, "the end")
    finally:
        process.process.kill()
        process.process.wait()
    times = [json.loads(line)["time"] for line in process.log.read_text().splitlines() if line[:1] == "{"]
    first_time, last_time = (datetime.fromisoformat(text).timestamp() for text in (times[0], times[-1]))
    assert abs(last_time - first_time - jump) < 60
