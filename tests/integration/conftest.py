"""What the integration tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor

from demo.rabbitmq import RabbitNode
from tests.daemon import Running, running
from tests.receiver import Receiver

Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[Receiver]:
    """The HTTP server that the daemon delivers to."""
    server: Any = Receiver(reactor)
    server.start()
    yield server
    await server.stop()


@pytest.fixture
def start(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitNode,
    connector_name: str,
    pika_channel: BlockingChannel,
    receiver: Receiver,
) -> Start:
    """Runs the daemon with one application and its options; those of the test's mark ``options`` go before them."""
    marker = request.node.get_closest_marker("options")
    marked = marker.kwargs if marker else {}

    def started(application: str, **options: Any) -> AbstractAsyncContextManager[Running]:
        return running(rabbitmq, connector_name, pika_channel, receiver, application, **(options | marked))

    return started
