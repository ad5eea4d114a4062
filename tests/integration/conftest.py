"""What the integration tests share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.conftest import pika_connection
from tests.support.channels import Junebug, RunJunebug, redis_options
from tests.support.channels import running as junebug_running
from tests.support.commands import Commands, RunCommand
from tests.support.daemon import Running, running
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

RunDaemon = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def run_daemon(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitNode,
    connector_name: str,
    pika_channel: BlockingChannel,
    receiver: Receiver,
) -> RunDaemon:
    """Runs the daemon with one application and its options; those of the test's mark ``options`` go before them."""
    marker = request.node.get_closest_marker("options")
    marked = marker.kwargs if marker else {}

    def run(application: str, **options: Any) -> AbstractAsyncContextManager[Running]:
        return running(rabbitmq, connector_name, pika_channel, receiver, application, **(options | marked))

    return run


@pytest.fixture(scope="module")
def junebug_vhost(rabbitmq: RabbitNode) -> Iterator[str]:
    """A virtual host for the channels of a file's tests: ids are made by the daemon, and their queues stay."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    rabbitmq.ctl("add_vhost", name)
    rabbitmq.ctl("set_permissions", "-p", name, rabbitmq.username, ".*", ".*", ".*")
    yield name
    rabbitmq.ctl("delete_vhost", name)


@pytest.fixture
def junebug_channel(rabbitmq: RabbitNode, junebug_vhost: str) -> Iterator[BlockingChannel]:
    """The independent witness there."""
    connection = pika_connection(rabbitmq, junebug_vhost)
    yield connection.channel()
    connection.close()


@pytest.fixture
def run_junebug(
    rabbitmq: RabbitNode, junebug_vhost: str, junebug_channel: BlockingChannel, receiver: Receiver
) -> RunJunebug:
    """Runs the daemon with a store of channels, in Redis unless options say otherwise."""

    def run(**options: Any) -> AbstractAsyncContextManager[Junebug]:
        values = options if "channels_store" in options else redis_options() | options
        return junebug_running(rabbitmq, junebug_vhost, junebug_channel, receiver, **values)

    return run


@pytest.fixture
def run_command(tmp_path: Path) -> Iterator[RunCommand]:
    """Runs Python programs in the test's folder, until its end."""
    commands = Commands(tmp_path)
    yield commands.start
    commands.stop()
