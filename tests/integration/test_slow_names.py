"""Host names of clients' event_urls that resolve slowly, beside all others that the daemon looks up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

# private: Twisted has no public name for it.
from twisted.internet._resolver import GAIResolver
from twisted.internet.threads import deferToThread

from junebug_turn.messages.vumi import Event
from tests.conftest import pika_connection
from tests.integration.conftest import RunDaemon
from tests.integration.test_junebug import inbound
from tests.support.daemon import reactor, until
from tests.support.store_harness import redis_server
from tests.unit.net.test_lookups import Slow
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

SLOW = 20
"""Twice the threads that the reactor has for look-ups and all else."""


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """Every look-up of this process: of names that end in .slow one takes a minute."""
    slow = Slow()
    monkeypatch.setattr(socket, "getaddrinfo", slow.getaddrinfo)
    resolver: Any = GAIResolver(reactor, getaddrinfo=slow.getaddrinfo)
    before = reactor.installNameResolver(resolver)
    yield slow
    slow.gate.set()
    reactor.installNameResolver(before)


@pytest_twisted.ensureDeferred
async def test_others_do_not_wait(
    run_daemon: RunDaemon, rabbitmq: RabbitNode, receiver: Receiver, slow: Slow
) -> None:
    """While 20 names of event_urls are being looked up, the daemon connects to the broker and to Redis again, each by
    its name, and delivers inbound messages to a configured name that it has to look up."""
    redis = redis_server()
    async with run_daemon(
        "junebug",
        default_from_addr="8110",
        amqp_hostname="localhost",
        mo_message_url=receiver.url("/inbound").replace("127.0.0.1", "localhost"),
        state_cache_class="redis",
        state_cache_config={"url": redis.url.replace("127.0.0.1", "localhost")},
        event_url_timeout=0.2,
        max_retries=0,
    ) as side:
        for number in range(SLOW):
            url = f"http://host{number}.slow:{receiver.port}/"
            answer = await side.post({"to": "+27123", "content": "c", "event_url": url})
            side.publish(
                "event", Event(user_message_id=answer.body["result"]["message_id"], event_type="ack")
            )
        await until(
            lambda: len({name for name in slow.asked if name.endswith(".slow")}) == SLOW, "the look-ups"
        )
        await deferToThread(rabbitmq.close_connections)
        redis.cli("CLIENT", "KILL", "TYPE", "normal")
        slow.asked.clear()
        await until(lambda: slow.asked.count("localhost") >= 3, "look-ups of the broker and Redis")
        await until(side.live, "the broker")
        store = side.daemon.stores[side.connector]
        await until(lambda: store.status()["connected"], "Redis")
        witness = pika_connection(rabbitmq)
        side.channel = witness.channel()
        side.publish("inbound", inbound())
        await side.receiver.received(1)
        assert not slow.gate.is_set()
        witness.close()
