"""Names with underscores, as services of Docker Compose have, wherever the daemon connects to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.reconnecting import connect
from junebug_turn.cli.connectivity import reach
from junebug_turn.daemon.settings import explain
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.factory import make_store
from tests.support.daemon import reactor, running, settings
from tests.support.names import Names, resolving
from tests.support.store_harness import redis_server
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver


@pytest.fixture
def names() -> Iterator[Names]:
    """Resolves rapidpro_web, rabbit_mq and redis_cache, and nothing else, to this machine."""
    names = ("rapidpro_web", "rabbit_mq", "redis_cache", "127.0.0.1")
    with resolving(**dict.fromkeys(names, "127.0.0.1")) as resolver:
        yield resolver


@pytest_twisted.ensureDeferred
async def test_broker(names: Names, rabbitmq: RabbitNode) -> None:
    """The broker can have such a name."""
    options = AmqpOptions(
        hostname="rabbit_mq", port=rabbitmq.port, username=rabbitmq.username, password=rabbitmq.password
    )
    protocol = await connect(reactor, options, "testing")
    await protocol.disconnect(5)
    assert names.asked == ["rabbit_mq"]


@pytest_twisted.ensureDeferred
async def test_redis(names: Names) -> None:
    """A Redis can have such a name."""
    server = redis_server()
    url = server.url.replace("127.0.0.1", "redis_cache")
    assert "redis_cache" in url
    cache = make_store("redis", {"url": url}, option="state_cache", connector="under_scores", clock=reactor)
    await cache.start()
    try:
        assert await cache.fetch_inbound("x") is None
    finally:
        await cache.stop()


@pytest_twisted.ensureDeferred
async def test_daemon(
    names: Names,
    rabbitmq: RabbitNode,
    connector_name: str,
    pika_channel: BlockingChannel,
    receiver: Receiver,
) -> None:
    """The whole daemon runs with such names: the broker's, a configured URL's and an event_url's."""
    url = f"http://rapidpro_web:{receiver.port}"
    options = {"amqp_hostname": "rabbit_mq", "mo_message_url": f"{url}/in", "base_url_path": "/jb"}
    async with running(rabbitmq, connector_name, pika_channel, receiver, "junebug", **options) as side:
        body = {"to": "1", "from": "2", "content": "c", "event_url": f"{url}/event"}
        answer = await side.post(body)
        assert answer.status == 201
        side.publish("inbound", Message(to_addr="1", from_addr="2", transport_name="t", transport_type="sms"))
        await receiver.received(1)
        side.publish("event", Event(user_message_id=answer.body["result"]["message_id"], event_type="ack"))
        await receiver.received(2)
    assert [request.path for request in receiver.requests] == ["/in", "/event"]
    reached = await reach(reactor, settings(rabbitmq, "junebug", connector_name="c", **options), 10)
    assert {each.what: each.fault for each in reached} == {"broker": None, "mo_message_url": None}


def test_configuration() -> None:
    """Such names are taken wherever the configuration has a host."""
    flags = {
        "application": "junebug",
        "connector_name": "c",
        "http_bind": "under_score:8080",
        "amqp_url": "amqp://u:p@rabbit_mq:5672/v",
        "mo_message_url": "http://rapidpro_web/in",
        "default_event_url": "http://rapidpro_web:8000/events",
        "event_url_allowed_hosts": "[rapidpro_web, '*.a_b.example']",
    }
    explained = explain(flags, {})
    assert explained.settings is not None, explained.faults
    assert explained.settings.daemon.amqp.hostname == "rabbit_mq"
