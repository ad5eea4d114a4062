"""What all tests share: a private RabbitMQ, a witness on it that isn't ours, a receiver, a clean environment."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import hypothesis
import pika
import pika.exceptions
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from twisted.internet import reactor
from twisted.logger import globalLogPublisher

from junebug_turn.net.clocks import use_monotonic
from tests.support.documented import Answers
from tests.support.leaks import LEAKS
from tools.servers.process import ProcessError
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

hypothesis.settings.register_profile("default", deadline=2000, print_blob=True)
# A shared machine pauses as it likes: there a deadline tells of the neighbours, not of the code.
hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell's background job ignores SIGINT, and so would every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What a developer's shell has for a daemon must not reach a test, nor the programs that it starts.
for _name in list(os.environ):
    if _name.startswith(("JUNEBUG_TURN_", "VUMI_", "AMQP_", "OTEL_")):
        del os.environ[_name]


@pytest.fixture(scope="session", autouse=True)
def _no_leaks() -> Iterator[None]:
    """No secret that a test gave a daemon stands in what was logged or answered while the tests ran."""
    globalLogPublisher.addObserver(LEAKS.observe)
    yield
    globalLogPublisher.removeObserver(LEAKS.observe)
    assert not LEAKS.found, "\n".join(LEAKS.found[:20])


@pytest.fixture(scope="session", autouse=True)
def _documented() -> Iterator[None]:
    """Each answer of an API in the tests is documented: the OpenAPI document has its status at its path."""
    answers = Answers()
    with pytest.MonkeyPatch.context() as patch:
        answers.watch(patch)
        yield
    assert not answers.undocumented, "\n".join(dict.fromkeys(answers.undocumented))


@pytest.fixture(scope="session", autouse=True)
def _monotonic() -> None:
    """The reactor counts its time by the monotonic clock, as it does in the daemon."""
    use_monotonic(reactor)


def _started(node: RabbitNode) -> RabbitNode:
    try:
        node.start()
    except ProcessError as error:
        pytest.fail(str(error), pytrace=False)
    return node


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitNode]:
    """The node of the test run, made when the first test asks for it.

    A test may close its connections or stop and start its broker, and leaves it running.
    """
    # 128 MiB, which RabbitMQ took by default before its version 4.
    node = _started(RabbitNode(settings=f"max_message_size = {128 * 2**20}\n"))
    yield node
    node.close()


@pytest.fixture
def private_rabbitmq() -> Iterator[Callable[..., RabbitNode]]:
    """Makes nodes that are the test's alone (5 seconds each): for what would disturb the others."""
    nodes: list[RabbitNode] = []

    def make(settings: str = "", cluster: RabbitNode | None = None) -> RabbitNode:
        node = _started(RabbitNode(settings=settings, cluster=cluster))
        nodes.append(node)
        return node

    yield make
    # One that joined another's cluster needs the port mapper of that.
    for node in reversed(nodes):
        node.close()


@pytest.fixture
def vhost(rabbitmq: RabbitNode) -> Iterator[str]:
    """A virtual host for one test (0.7 seconds); mostly ``connector_name`` is enough to keep tests apart."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    rabbitmq.ctl("add_vhost", name)
    rabbitmq.ctl("set_permissions", "-p", name, rabbitmq.username, ".*", ".*", ".*")
    yield name
    rabbitmq.ctl("delete_vhost", name)


def pika_connection(node: RabbitNode, vhost: str | None = None) -> BlockingConnection:
    """A connection to ``node`` that no code of ours has a part in."""
    # No heartbeat: nobody serves this connection while a test looks elsewhere.
    return BlockingConnection(
        pika.ConnectionParameters(
            node.host,
            node.port,
            vhost or node.vhost,
            pika.PlainCredentials(node.username, node.password),
            heartbeat=0,
            connection_attempts=20,
            retry_delay=0.5,
        )
    )


@pytest.fixture
def pika_channel(rabbitmq: RabbitNode) -> Iterator[BlockingChannel]:
    """The independent witness on the node of the test run."""
    connection = pika_connection(rabbitmq)
    yield connection.channel()
    try:
        connection.close()
    except pika.exceptions.AMQPError:
        # The test had the broker close it.
        pass


@pytest.fixture
def connector_name(rabbitmq: RabbitNode) -> Iterator[str]:
    """A connector that no other test has; its queues go with the test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    connection = pika_connection(rabbitmq)
    channel = connection.channel()
    channel.queue_delete(f"{name}.outbound")
    for kind in ("inbound", "event"):
        for suffix in ("", ".parked"):
            channel.queue_delete(f"{name}.{kind}{suffix}")
    connection.close()


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[Receiver]:
    """The HTTP server that deliveries go to."""
    # Here, since pytest-twisted chooses the reactor.
    from twisted.internet import reactor

    server: Any = Receiver(reactor)
    server.start()
    yield server
    await server.stop()
