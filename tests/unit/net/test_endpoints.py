"""Host names with underscores, as services of Docker Compose have, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import URI

from junebug_turn.amqp.reconnecting import connect
from junebug_turn.cli.connectivity import reach
from junebug_turn.config.sources import explain
from junebug_turn.daemon.options import AmqpOptions
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import DeliveryExhausted, DeliveryRefused
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.net.addresses import ALL_HOSTS, HostRules, ascii_name, is_local_name
from junebug_turn.net.endpoints import NameEndpoint
from junebug_turn.net.tls import ClientTls
from junebug_turn.state.factory import make_cache
from tests.support.certificates import self_signed
from tests.support.daemon import reactor, running, settings
from tests.support.store_harness import redis_server
from tests.unit.net.test_guarded import Names
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver


@pytest.fixture
def names() -> Iterator[Names]:
    """Resolves rapidpro_web, rabbit_mq and redis_cache, and nothing else, to this machine."""
    resolver: Any = Names()
    for name in ("rapidpro_web", "rabbit_mq", "redis_cache", "127.0.0.1"):
        resolver.answers[name] = [["127.0.0.1"]]
    before = reactor.installNameResolver(resolver)
    yield resolver
    reactor.installNameResolver(before)


async def deliver(url: str, rules: HostRules | None, tls: Any = None) -> None:
    deliverer = Deliverer(reactor, tls_policy=tls)
    try:
        destination = Destination.of(url, None, rules=rules)
        await deliverer.deliver(destination, b"{}", timeout=5, policy=RetryPolicy(0, 0, 0))
    finally:
        await deliverer.close()


@pytest.mark.parametrize(
    "rules", [None, ALL_HOSTS, HostRules.of(["rapidpro_web"]), HostRules.of(["127.0.0.0/8"])]
)
@pytest_twisted.ensureDeferred
async def test_delivery(names: Names, receiver: Receiver, rules: HostRules | None) -> None:
    """A URL with such a name is delivered to, an operator's as well as a client's that the rules permit."""
    await deliver(f"http://Rapidpro_Web:{receiver.port}/x", rules)
    assert receiver.requests[0].headers["host"] == f"rapidpro_web:{receiver.port}"
    assert names.asked == ["rapidpro_web"]


@pytest_twisted.ensureDeferred
async def test_rules_hold(names: Names) -> None:
    """Such a name is bound by the rules as any other: by its name, and by the address it resolves to."""
    with pytest.raises(DeliveryRefused, match="not among those"):
        await deliver("http://rapidpro_web/", HostRules.of(["other_web"]))
    names.answers["rapidpro_web"] = [["169.254.169.254"]]
    with pytest.raises(DeliveryRefused) as caught:
        await deliver("http://rapidpro_web/", ALL_HOSTS)
    assert caught.value.reason == "forbidden_address"


@pytest.mark.parametrize("rules", [None, ALL_HOSTS])
@pytest_twisted.ensureDeferred
async def test_https(names: Names, rules: HostRules | None) -> None:
    """With https the certificate is verified for such a name."""
    certificate: Any = self_signed("rapidpro_web")
    tls = ClientTls(trustRootFromCertificates([Certificate(certificate.original)]))
    names.answers["other_web"] = [["127.0.0.1"]]
    server = Receiver(reactor, tls=certificate.options())
    server.start()
    try:
        await deliver(f"https://rapidpro_web:{server.port}/", rules, tls)
        with pytest.raises(DeliveryExhausted) as caught:
            await deliver(f"https://other_web:{server.port}/", rules, tls)
        assert caught.value.reason == "tls"
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_unknown(names: Names) -> None:
    """Such a name that nobody knows is a fault of DNS, told by its name."""
    with pytest.raises(DeliveryExhausted) as caught:
        await deliver("http://nobody_here/", None)
    assert caught.value.reason == "dns"
    with pytest.raises(DNSLookupError, match="nobody_here"):
        await NameEndpoint(reactor, "nobody_here", 1).connect(Factory.forProtocol(Protocol))


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
    cache = make_cache("redis", {"url": url}, option="state_cache", connector="under_scores", clock=reactor)
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


@pytest.mark.parametrize(
    "name",
    ["_", "a__b", "a_b.example.org", "A_B.", "x" * 62 + "_"],
)
def test_local_names(name: str) -> None:
    """Underscores can stand anywhere in a label."""
    assert is_local_name(name)
    assert ascii_name(name) == name.lower()
    assert URI.fromBytes(f"http://{name}/".encode()).host == name.encode()


@pytest.mark.parametrize(
    "name", ["a_b..c", "-a_b", "a_b-", ".a_b", "ü_b", "a_b\n", "a_ b", "x" * 63 + "_", "a_." * 99]
)
def test_no_local_names(name: str) -> None:
    """What is no name without its underscores is none with them."""
    assert not is_local_name(name)
    with pytest.raises(UnicodeError):
        ascii_name(name)
