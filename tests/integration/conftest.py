"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

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
