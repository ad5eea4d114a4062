"""The broker lost, away or stalled while requests and deliveries run; the daemon stopped while they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from junebug_turn.messages.vumi import Message
from tests.conftest import pika_connection
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Answered, Running, running, until
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import HANG, Receiver

PATH = "/channels/c"
BODY = {"to": "+27123", "from": "8110", "content": "c"}


def inbound(number: int) -> Message:
    return Message(
        to_addr="8110",
        from_addr=f"+27{number}",
        transport_name="t",
        transport_type="sms",
        content=str(number),
    )


def options(receiver: Receiver, **changes: Any) -> dict[str, Any]:
    return {
        "base_url_path": PATH,
        "mo_message_url": receiver.url("/inbound"),
        "retry_delay_base": 0,
        **changes,
    }


@pytest_twisted.async_yield_fixture
async def junebug(run_daemon: RunDaemon, receiver: Receiver) -> AsyncIterator[Running]:
    async with run_daemon("junebug", **options(receiver, request_timeout=30)) as side:
        yield side


def counted(node: RabbitNode, queue: str) -> int:
    """How many messages are in a queue, on a connection that is made now."""
    connection = pika_connection(node)
    try:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
    finally:
        connection.close()


@pytest.mark.parametrize("cut", ["stopped and started", "connections closed"])
@pytest_twisted.ensureDeferred
async def test_broker_cut(rabbitmq: RabbitNode, junebug: Running, cut: str) -> None:
    """The connection is cut while requests and deliveries run: each 201 is in the queue, every inbound message is
    delivered, and the daemon goes on without a restart."""
    numbers = range(60)
    for number in numbers:
        junebug.publish("inbound", inbound(number))
    requests = [Deferred.fromCoroutine(junebug.post(BODY | {"content": str(number)})) for number in numbers]
    if cut == "connections closed":
        await deferToThread(rabbitmq.ctl, "close_all_connections", "a test")
    else:
        await deferToThread(rabbitmq.stop_app)
        await until(lambda: not junebug.live(), "the loss to be seen")
        down = await junebug.request("GET", "/health")
        amqp = down.body["components"]["amqp"]
        assert (down.status, amqp["health"], amqp["state"]) == (500, "down", "connecting")
        # These wait for the broker.
        requests += [Deferred.fromCoroutine(junebug.post(BODY)) for _ in range(20)]
        await deferToThread(rabbitmq.start_app)
    answers: list[Answered] = await gatherResults(requests)
    assert {answer.status for answer in answers} <= {201, 503}
    assert all("retry-after" in answer.headers for answer in answers if answer.status == 503)
    await until(junebug.live, "the consumers to be back")
    await until(
        lambda: {request.json["content"] for request in junebug.receiver.requests} == set(map(str, numbers))
    )
    accepted = sum(answer.status == 201 for answer in answers)
    # One that was lost unconfirmed may be there too; one that was accepted must be.
    assert accepted <= counted(rabbitmq, f"{junebug.connector}.outbound") <= len(answers)
    assert (await junebug.post(BODY)).status == 201
    assert (await junebug.request("GET", "/health")).status == 200


@pytest_twisted.ensureDeferred
async def test_waiting_for_the_broker(
    run_daemon: RunDaemon, rabbitmq: RabbitNode, connector_name: str, receiver: Receiver
) -> None:
    """While the broker is away a request waits until request_timeout, then gets 503 and Retry-After; one whose
    client goes away is withdrawn; nothing of either is ever published."""
    extra = options(receiver, request_timeout=1)
    async with run_daemon("junebug", **extra) as side:
        await deferToThread(rabbitmq.stop_app)
        try:
            await until(lambda: not side.live())
            start = time.monotonic()
            waiting = Deferred.fromCoroutine(side.post(BODY))
            gone = treq.post(f"{side.url}{PATH}/messages", json.dumps(BODY).encode(), persistent=False)
            gone.addErrback(lambda _: None)
            (site,) = side.daemon.sites.values()
            await until(lambda: site.under_way == 2, "both to wait")
            gone.cancel()
            await until(lambda: site.under_way == 1, "the withdrawal")
            answer = await waiting
            assert 0.9 < time.monotonic() - start < 60
            assert answer.status == 503
            assert answer.body["description"] == "amqp connection error"
            assert answer.body["result"]["errors"][0]["type"] == "AmqpConnectionError"
            assert int(answer.headers["retry-after"]) > 0
        finally:
            await deferToThread(rabbitmq.start_app)
        await until(side.live)
        assert counted(rabbitmq, f"{connector_name}.outbound") == 0


@pytest_twisted.ensureDeferred
async def test_no_201_before_the_confirm(
    private_rabbitmq: Callable[[], RabbitNode], receiver: Receiver
) -> None:
    """201 means that the broker confirmed: while it takes no messages (memory alarm) there is none, then there is."""
    node = await deferToThread(private_rabbitmq)
    channel = pika_connection(node).channel()
    async with running(node, "c", channel, receiver, "junebug", **options(receiver)) as side:
        await deferToThread(node.ctl, "set_vm_memory_high_watermark", "0.000001")
        # The broker says that it blocks only once something was published.
        answers = [Deferred.fromCoroutine(side.post(BODY)) for _ in range(10)]
        await until(lambda: side.daemon.health()["amqp"]["blocked"], "the block")
        answers += [Deferred.fromCoroutine(side.post(BODY)) for _ in range(10)]
        confirmed = counted_through(node)
        assert sum(answer.called for answer in answers) <= confirmed
        assert not all(answer.called for answer in answers)
        await deferToThread(node.ctl, "set_vm_memory_high_watermark", "0.4")
        assert {answer.status for answer in await gatherResults(answers)} == {201}
        assert counted(node, "c.outbound") == 20


def counted_through(node: RabbitNode) -> int:
    """How many messages the queue has, asked without a connection of our own."""
    lines = node.ctl("list_queues", "--quiet", "--no-table-headers", "name", "messages").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("c.outbound"))


@pytest_twisted.ensureDeferred
async def test_stop_lets_deliveries_finish(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """A stop lets a delivery under way finish, and gives back to the broker what did not finish in time."""
    receiver.script(HANG)
    extra = options(receiver, mo_message_url_timeout=0.3, shutdown_timeout=10)
    async with run_daemon("junebug", **extra) as side:
        side.publish("inbound", inbound(1))
        await receiver.received(1)
        await side.daemon.stopService()
        # The first attempt hung; the second came while the daemon was stopping.
        assert len(receiver.requests) == 2
        assert side.count("inbound") == 0

    receiver.script(HANG)
    extra = options(receiver, mo_message_url_timeout=60, shutdown_timeout=0.2)
    async with run_daemon("junebug", **extra) as side:
        side.publish("inbound", inbound(2))
        await receiver.received(3)
        await side.daemon.stopService()
        await until(lambda: side.count("inbound") == 1, "the message to be back")


# The daemon as a process of its own.


class Process:
    """``twistd -n junebug-turn`` with these options."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.log = folder / "log"
        config = folder / "config.yaml"
        config.write_text(json.dumps(options))
        script = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script, "-n", "--pidfile=", "junebug-turn", "--config", str(config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                cwd=Path(__file__).parents[2],
            )

    def wait(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)


@contextmanager
def processes(folder: Path, node: RabbitNode, **base: Any) -> Iterator[Callable[..., Process]]:
    """A function that starts daemons as processes, with these options and further ones; they are killed at the end."""
    started: list[Process] = []

    def start(**options: Any) -> Process:
        amqp = {"hostname": node.host, "port": node.port}
        started.append(Process(folder, amqp=amqp, **base, **options))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.process.kill()
            process.process.wait()


@pytest.fixture
def start(tmp_path: Path, rabbitmq: RabbitNode, connector_name: str) -> Iterator[Callable[..., Process]]:
    base = {"application": "junebug", "connector_name": connector_name, "base_url_path": PATH}
    with processes(tmp_path, rabbitmq, **base) as start:
        yield start


async def healthy(url: str) -> None:
    """Wait until /health says ok."""
    found: list[int] = []

    async def ask() -> None:
        while 200 not in found:
            try:
                response = await treq.get(f"{url}/health", persistent=False)
                found.append(response.code)
                await response.content()
            except Exception:
                pass
            waiting: Deferred[None] = Deferred()
            reactor.callLater(0.05, waiting.callback, None)  # type: ignore[attr-defined]
            await waiting

    await Deferred.fromCoroutine(ask()).addTimeout(60, reactor)  # type: ignore[arg-type]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest_twisted.ensureDeferred
async def test_signal(
    start: Callable[..., Process],
    receiver: Receiver,
    stop: signal.Signals,
    pika_channel: BlockingChannel,
    connector_name: str,
) -> None:
    """SIGTERM and SIGINT end the daemon in order: a delivery under way is finished, then twistd ends by the
    signal."""
    port = free_port()
    process = start(http_bind=f"127.0.0.1:{port}", mo_message_url=receiver.url("/"), mo_message_url_timeout=1)
    await healthy(f"http://127.0.0.1:{port}")
    receiver.script(HANG)
    pika_channel.basic_publish("vumi", f"{connector_name}.inbound", inbound(1).to_json())
    await receiver.received(1)
    process.process.send_signal(stop)
    assert await deferToThread(process.wait) == -stop
    assert len(receiver.requests) == 2
    log = process.log.read_text()
    assert "stopped" in log
    assert "Traceback" not in log


@pytest_twisted.ensureDeferred
async def test_killed(
    start: Callable[..., Process], receiver: Receiver, pika_channel: BlockingChannel, connector_name: str
) -> None:
    """After kill -9 everything that was not acked comes again."""
    port = free_port()
    options = {"http_bind": f"127.0.0.1:{port}", "mo_message_url": receiver.url("/")}
    process = start(**options)
    await healthy(f"http://127.0.0.1:{port}")
    receiver.script(*[HANG] * 5)
    sent = {str(number) for number in range(5)}
    for number in sent:
        pika_channel.basic_publish("vumi", f"{connector_name}.inbound", inbound(int(number)).to_json())
    await receiver.received(5)
    process.process.kill()
    process.process.wait()
    start(**options)
    again = (await receiver.received(10))[5:]
    assert {request.json["content"] for request in again} == sent


@pytest_twisted.ensureDeferred
async def test_port_taken(start: Callable[..., Process], receiver: Receiver) -> None:
    """A port that is taken ends the start with a clear line, a status that is not 0 and no traceback."""
    process = start(http_bind=f"127.0.0.1:{receiver.port}", mo_message_url=receiver.url("/"))
    assert await deferToThread(process.wait) == 1
    log = process.log.read_text()
    assert (
        f"http_bind: can't listen on tcp:{receiver.port}:interface=127.0.0.1: Address already in use" in log
    )
    assert "Traceback" not in log


@pytest_twisted.ensureDeferred
async def test_listens_before_the_broker_is_there(
    tmp_path: Path, receiver: Receiver, start: Callable[..., Process]
) -> None:
    """Without a broker the daemon starts, says on /health that it is down, and goes on trying."""
    port = free_port()
    process = start(
        http_bind=f"127.0.0.1:{port}",
        mo_message_url=receiver.url("/"),
        amqp_url=f"amqp://guest:s3cretpassword@127.0.0.1:{free_port()}",
    )
    url = f"http://127.0.0.1:{port}/health"
    answers: list[int] = []
    for _ in range(200):
        try:
            answers.append((await treq.get(url, persistent=False)).code)
            break
        except Exception:
            await deferToThread(time.sleep, 0.05)
    assert answers == [500]
    await until(lambda: "No AMQP broker at" in process.log.read_text())
    process.process.terminate()
    assert await deferToThread(process.wait) == -signal.SIGTERM
    log = process.log.read_text()
    assert "s3cretpassword" not in log
