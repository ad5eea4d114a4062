"""Several hosts of the broker: the nodes of a cluster, of which one is stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pika
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.conftest import pika_connection
from tests.integration.test_outage import BODY, PATH, inbound
from tests.support.daemon import Answered, Running, running, until
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Answer, Receiver

QUORUM_VHOST = "quorum"
DOWN = 12.0
"""Seconds for which a receiver refuses: messages are put off, and come back, twice."""


@pytest.fixture
def cluster(private_rabbitmq: Callable[..., RabbitNode]) -> tuple[RabbitNode, RabbitNode]:
    """Two nodes with each queue on both, of which the second may be stopped."""
    stays = private_rabbitmq()
    if stays.version >= (4,):
        pytest.skip("RabbitMQ 4 has no mirrored queues: see test_a_node_of_three_killed")
    ends = private_rabbitmq(cluster=stays)
    stays.ctl("set_policy", "all", ".*", '{"ha-mode":"all","ha-sync-mode":"automatic"}')
    return stays, ends


@pytest.fixture
def quorum_cluster(private_rabbitmq: Callable[..., RabbitNode]) -> list[RabbitNode]:
    """Three nodes, each with a member of each queue of a virtual host; the first one has the port mapper of all."""
    first = private_rabbitmq()
    nodes = [first, *(private_rabbitmq(cluster=first) for _ in range(2))]
    first.ctl("add_vhost", QUORUM_VHOST, "--default-queue-type", "quorum")
    first.ctl("set_permissions", "-p", QUORUM_VHOST, first.username, ".*", ".*", ".*")
    return nodes


@contextmanager
def confirming(node: RabbitNode, vhost: str | None = None) -> Iterator[BlockingChannel]:
    """A client of a node, whose messages are confirmed."""
    connection = pika_connection(node, vhost)
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    connection.close()


@pytest.fixture
def witness(cluster: tuple[RabbitNode, RabbitNode]) -> Iterator[BlockingChannel]:
    """A client of the node that stays."""
    with confirming(cluster[0]) as channel:
        yield channel


@pytest.fixture
def quorum_witness(quorum_cluster: list[RabbitNode]) -> Iterator[BlockingChannel]:
    """A client of a node that stays."""
    with confirming(quorum_cluster[0], QUORUM_VHOST) as channel:
        yield channel


def hosts(*nodes: RabbitNode) -> str:
    return ",".join(f"{node.host}:{node.port}" for node in nodes)


def publish(channel: BlockingChannel, numbers: range) -> None:
    """Publish inbound messages, each confirmed before the next."""
    for number in numbers:
        properties = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("vumi", "sms.inbound", inbound(number).to_json(), properties)


async def posted(side: Running, times: int) -> list[Answered]:
    """Make ten requests at a time, so many times."""
    answers: list[Answered] = []
    for _ in range(times):
        answers += await gatherResults([Deferred.fromCoroutine(side.post(BODY)) for _ in range(10)])
    return answers


@pytest_twisted.ensureDeferred
async def test_one_node_stopped_under_load(
    cluster: tuple[RabbitNode, RabbitNode], witness: BlockingChannel, receiver: Receiver
) -> None:
    """amqp.hostname may be a list of host[:port]: when the node in use is lost, the next one is connected to.  Each
    201 is in the queue and every inbound message is delivered: none is lost."""
    stays, ends = cluster
    options = {
        "base_url_path": PATH,
        "mo_message_url": receiver.url("/inbound"),
        "amqp_hostname": hosts(ends, stays),
        "request_timeout": 60,
    }
    async with running(stays, "sms", witness, receiver, "junebug", **options) as side:
        assert used(side) == [hosts(ends)]
        numbers = range(200)
        # In a thread: a node that stops waits for its clients, and confirms wait for the node.
        publishing = deferToThread(publish, witness, numbers)
        answers = await posted(side, 5)
        stopping = deferToThread(ends.stop)
        while not stopping.called:
            answers += await posted(side, 1)
        answers += await posted(side, 5)
        await publishing
        await until(side.live, "the consumers to be back")
        assert used(side) == [hosts(stays)]
        await nothing_lost(side, numbers, answers)


@pytest_twisted.ensureDeferred
async def test_a_node_of_three_killed(
    quorum_cluster: list[RabbitNode], quorum_witness: BlockingChannel, receiver: Receiver
) -> None:
    """With quorum queues on three nodes, the node in use is killed while messages wait in delay queues and come back:
    each 201 is in the queue and every inbound message is delivered."""
    stays, ends, other = quorum_cluster
    options = {
        "base_url_path": PATH,
        "mo_message_url": receiver.url("/inbound"),
        "amqp_hostname": hosts(ends, other, stays),
        "amqp_vhost": QUORUM_VHOST,
        "request_timeout": 60,
    }
    receiver.default = Answer(503)
    async with running(stays, "sms", quorum_witness, receiver, "junebug", **options) as side:
        numbers, begun = range(300), time.monotonic()
        publishing = deferToThread(publish, quorum_witness, numbers)
        answers = await posted(side, 1)
        while time.monotonic() < begun + DOWN / 2:
            answers += await posted(side, 1)
        os.kill(int(ends.ctl("eval", "os:getpid().").strip('"\n')), signal.SIGKILL)
        while time.monotonic() < begun + DOWN:
            answers += await posted(side, 1)
        await publishing
        receiver.requests.clear()
        receiver.default = Answer()
        await until(side.live, "the consumers to be back")
        assert used(side) == [hosts(other)]
        await nothing_lost(side, numbers, answers)


async def nothing_lost(side: Running, numbers: range, answers: list[Answered]) -> None:
    """Each inbound message reaches the receiver, and each request that had a 201 is in the queue."""
    assert (await posted(side, 1))[0].status == 201
    accepted = {answer.body["result"]["message_id"] for answer in answers if answer.status == 201}
    assert len(accepted) > len(answers) / 2
    assert {answer.status for answer in answers} <= {201, 503}
    await until(
        lambda: {request.json["content"] for request in side.receiver.requests} == set(map(str, numbers)),
        "all inbound messages",
    )
    sent = set()
    while found := side.take("outbound"):
        sent.add(json.loads(found[1])["message_id"])
    assert accepted <= sent


def used(side: Running) -> list[str]:
    """The hosts that health names."""
    return list(side.daemon.health()["amqp"]["hosts"])


@pytest_twisted.ensureDeferred
async def test_a_host_that_does_not_answer(
    rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel, receiver: Receiver
) -> None:
    """The first that answers is connected to, and /health names it, without credentials."""
    gone = f"127.0.0.1:{free_port()}"
    options = {
        "base_url_path": PATH,
        "mo_message_url": receiver.url("/inbound"),
        "amqp_hostname": f"{gone},{rabbitmq.host}",
        "amqp_port": rabbitmq.port,
    }
    async with running(rabbitmq, connector_name, pika_channel, receiver, "junebug", **options) as side:
        assert (await side.post(BODY)).status == 201
        health = await side.request("GET", "/health")
        assert health.body["components"]["amqp"]["hosts"] == [hosts(rabbitmq)]
        assert rabbitmq.password not in json.dumps(health.body["components"]["amqp"])


def test_check_config(rabbitmq: RabbitNode) -> None:
    """check-config looks at each host of the broker."""
    gone = f"127.0.0.1:{free_port()}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "junebug_turn.cli.main", "check-config", "--json"),
            *("--amqp-hostname", f"{hosts(rabbitmq)},{gone}", "--application", "junebug"),
            *("--connector-name", "sms", "--http-bind", "127.0.0.1:0", "--base-url-path", "/"),
            *("--amqp-queue", "q", "--transport-type", "sms"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    found = {each["where"]: each["fault"] for each in report["reached"] if each["what"] == "broker"}
    assert found[f"amqp://{hosts(rabbitmq)}"] is None
    assert "refused" in found[f"amqp://{gone}"]
    assert done.returncode == 3
