"""A rolling restart of two processes under load, behind a load balancer that follows their readiness."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.web.client import HTTPConnectionPool

from junebug_turn.http.admin.probes import Readiness
from tests.support.balancer import Balancer
from tests.support.daemon import until
from tests.support.drained import Process, Start, processes
from tests.support.store_harness import reactor, redis_server
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode

CLIENTS = 6


class Load:
    """Clients that POST one message after the other; half of them over connections that are kept.

    Each message has an Idempotency-Key, and every second one is sent again at once, often to the other process.

    :ivar answers: the statuses of the answers, and the faults of requests without one
    :ivar messages: the number of different messages
    :ivar others: the repeats whose answers named another message than the first answer
    """

    def __init__(self, url: str) -> None:
        self.answers: list[Any] = []
        self.messages = 0
        self.others: list[str] = []
        self._url = f"{url}/messages"
        self._stopping = False
        pools = [HTTPConnectionPool(reactor, persistent=number % 2 == 0) for number in range(CLIENTS)]
        self._pools = pools
        self._clients = [Deferred.fromCoroutine(self._post(str(at), pool)) for at, pool in enumerate(pools)]

    async def _post(self, name: str, pool: HTTPConnectionPool) -> None:
        pool.retryAutomatically = False
        for number in count():
            if self._stopping:
                return
            key = f"{name}-{number}"
            self.messages += 1
            first = await self._send(key, pool)
            if number % 2 and await self._send(key, pool) != first:
                self.others.append(key)

    async def _send(self, key: str, pool: HTTPConnectionPool) -> str | None:
        body, headers = json.dumps({"to": "+27123", "content": key}).encode(), {"Idempotency-Key": key}
        try:
            response = await treq.post(self._url, body, headers=headers, pool=pool, timeout=120)
            result = (await response.json())["result"]
            self.answers.append(response.code)
            return str(result.get("message_id"))
        except Exception as error:
            self.answers.append(repr(error))
            return None

    async def stop(self) -> None:
        self._stopping = True
        await gatherResults(self._clients)
        await gatherResults([pool.closeCachedConnections() for pool in self._pools])

    async def more(self, number: int = 30) -> None:
        """Wait for so many further answers."""
        enough = len(self.answers) + number
        await until(lambda: len(self.answers) >= enough, "further answers")


@pytest.fixture
def start(tmp_path: Path, rabbitmq: RabbitNode, connector_name: str) -> Iterator[Start]:
    with processes(tmp_path, rabbitmq, connector_name) as start:
        yield start


@pytest_twisted.async_yield_fixture
async def balancer() -> AsyncIterator[Balancer]:
    made = Balancer([free_port(), free_port()], Readiness.path)
    await made.start()
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_rolling_restart(
    start: Start, balancer: Balancer, connector_name: str, pika_channel: BlockingChannel
) -> None:
    """No request fails while one process after the other is stopped, with drain_delay, and started again; a repeat
    sends no second message, whichever of the processes gets it, and also when the first one has been started again."""

    def run(port: int) -> Process:
        store = {"STATE_CACHE_CLASS": "redis", "STATE_CACHE_CONFIG_URL": redis_server().url}
        # As long as the balancer needs: a second SIGTERM ends it.
        return start(port, DRAIN_DELAY="3600", **store)

    processes = [await deferToThread(run, server.port) for server in balancer.servers]
    await until(lambda: all(server.ready for server in balancer.servers), "both processes")
    load = Load(balancer.url)
    for server, process in zip(balancer.servers, processes, strict=True):
        await load.more()
        process.terminate()
        await until(lambda server=server: not server.ready, "the end of its readiness")  # type: ignore[misc]
        # Each answer ends its connection.
        await until(lambda server=server: not server.connections, "the end of its connections")  # type: ignore[misc]
        await load.more()
        process.terminate()
        await deferToThread(process.process.wait, 60)
        await load.more()
        await deferToThread(run, server.port)
        await until(lambda server=server: server.ready and server.connections, "its new connections")  # type: ignore[misc]
    await load.more()
    await load.stop()
    assert set(load.answers) == {201}
    assert load.others == []
    queue = pika_channel.queue_declare(f"{connector_name}.outbound", passive=True)
    assert queue.method.message_count == load.messages < len(load.answers)
