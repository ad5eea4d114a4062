"""Where connections lead: names that resolve to what the test wants, and the host rules, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, trustRootFromCertificates

from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import DeliveryExhausted, DeliveryRefused
from junebug_turn.net.addresses import ALL_HOSTS, HostRules
from junebug_turn.net.endpoints import NameEndpoint
from junebug_turn.net.tls import ClientTls
from tests.support.certificates import self_signed
from tests.support.delivery_harness import SUBJECT
from tests.support.names import Names, reactor, resolving
from tools.servers.receiver import Receiver


@pytest.fixture
def names() -> Iterator[Names]:
    with resolving(rapidpro_web="127.0.0.1") as names:
        yield names


@pytest_twisted.async_yield_fixture
async def deliverer() -> AsyncIterator[Deliverer]:
    made = Deliverer(reactor)
    yield made
    await made.close()


async def deliver(
    deliverer: Deliverer, url: str, rules: HostRules | None = ALL_HOSTS, retries: int = 0
) -> None:
    destination = Destination.of(url, "token", rules=rules)
    await deliverer.deliver(destination, b"{}", timeout=5, policy=RetryPolicy(retries, 0, 0), **SUBJECT)


async def refused(deliverer: Deliverer, url: str, rules: HostRules = ALL_HOSTS) -> DeliveryRefused:
    with pytest.raises(DeliveryRefused) as caught:
        await deliver(deliverer, url, rules, retries=3)
    assert caught.value.reason == "forbidden_address"
    assert caught.value.attempts == 1
    return caught.value


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"],
)
@pytest_twisted.ensureDeferred
async def test_a_name_that_resolves_to_a_forbidden_address(
    names: Names, deliverer: Deliverer, address: str
) -> None:
    """A name that resolves to a forbidden address is refused at the first attempt, and never connected to."""
    names.answers["innocent.example.org"] = [[address]]
    await refused(deliverer, "http://innocent.example.org/")
    await refused(deliverer, "https://innocent.example.org/")
    await refused(
        deliverer, "http://innocent.example.org/", HostRules.of(["innocent.example.org", "0.0.0.0/0"])
    )


@pytest_twisted.ensureDeferred
async def test_good_names(names: Names, deliverer: Deliverer, receiver: Receiver) -> None:
    """A name that resolves to an address that is permitted is delivered to, with its own name as Host."""
    names.answers["good.example.org"] = [["127.0.0.1"]]
    url = f"http://good.example.org:{receiver.port}/events"
    await deliver(deliverer, url)
    await deliver(deliverer, url, HostRules.of(["*.example.org"]))
    await deliver(deliverer, url, HostRules.of(["127.0.0.0/8"]))
    await refused(deliverer, url, HostRules.of(["10.0.0.0/8"]))
    assert len(receiver.requests) == 3
    assert receiver.requests[0].headers["host"] == f"good.example.org:{receiver.port}"


@pytest_twisted.ensureDeferred
async def test_rebinding(names: Names, deliverer: Deliverer, receiver: Receiver) -> None:
    """A name is asked once for a connection: an answer that changes right after the check leads nowhere."""
    names.answers["rebound.example.org"] = [["127.0.0.1"], ["169.254.169.254"]]
    await deliver(deliverer, f"http://rebound.example.org:{receiver.port}/")
    assert names.asked == ["rebound.example.org"]
    # The connection is still kept; a new one asks again.
    for channel in tuple(receiver.open):
        channel.abort()
    await receiver.all_closed()
    await refused(deliverer, f"http://rebound.example.org:{receiver.port}/")
    assert receiver.connections == 1


@pytest_twisted.ensureDeferred
async def test_mixed_addresses(names: Names, deliverer: Deliverer, receiver: Receiver) -> None:
    """Of several addresses only those that are permitted are tried; that none of these answers is a passing fault."""
    names.answers["mixed.example.org"] = [["169.254.169.254", "127.0.0.1"]]
    await deliver(deliverer, f"http://mixed.example.org:{receiver.port}/")
    assert len(receiver.requests) == 1
    port = receiver.port
    await receiver.stop()
    with pytest.raises(DeliveryExhausted) as caught:
        await deliver(deliverer, f"http://mixed.example.org:{port}/")
    assert caught.value.reason == "connection"


@pytest_twisted.ensureDeferred
async def test_connections_are_not_shared(names: Names, deliverer: Deliverer, receiver: Receiver) -> None:
    """A connection that was kept for the operator's URL isn't used for a client's URL with the same name."""
    names.answers["meta.example.org"] = [["127.0.0.1"], ["169.254.169.254"]]
    url = f"http://meta.example.org:{receiver.port}/"
    await deliver(deliverer, url, None)
    assert len(receiver.open) == 1
    await refused(deliverer, url)
    await deliver(deliverer, url, None)
    assert (receiver.connections, len(receiver.requests)) == (1, 2)


@pytest_twisted.ensureDeferred
async def test_https(names: Names) -> None:
    """A guarded connection is verified for the URL's name, not for its address."""
    names.answers["good.example.org"] = names.answers["other.example.org"] = [["127.0.0.1"]]
    certificate: Any = self_signed("good.example.org")
    root = trustRootFromCertificates([Certificate(certificate.original)])
    server = Receiver(reactor, tls=certificate.options())
    server.start()
    deliverer = Deliverer(reactor, tls_policy=ClientTls(root))
    try:
        await deliver(deliverer, f"https://good.example.org:{server.port}/")
        with pytest.raises(DeliveryExhausted) as caught:
            await deliver(deliverer, f"https://other.example.org:{server.port}/")
        assert caught.value.reason == "tls"
    finally:
        await deliverer.close()
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_addresses_as_hosts(deliverer: Deliverer, receiver: Receiver) -> None:
    """An address in the URL is connected to, in whatever spelling it is allowed."""
    for host in ("127.0.0.1", "[::ffff:127.0.0.1]"):
        await deliver(deliverer, f"http://{host}:{receiver.port}/")
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    "rules", [None, ALL_HOSTS, HostRules.of(["rapidpro_web"]), HostRules.of(["127.0.0.0/8"])]
)
@pytest_twisted.ensureDeferred
async def test_a_local_name(
    names: Names, deliverer: Deliverer, receiver: Receiver, rules: HostRules | None
) -> None:
    """A name with an underscore is delivered to in an operator's URL, and in a client's that the rules permit."""
    await deliver(deliverer, f"http://Rapidpro_Web:{receiver.port}/x", rules)
    assert receiver.requests[0].headers["host"] == f"rapidpro_web:{receiver.port}"
    assert names.asked == ["rapidpro_web"]


@pytest_twisted.ensureDeferred
async def test_rules_hold_for_a_local_name(names: Names, deliverer: Deliverer) -> None:
    """A name with an underscore is bound by the rules as any other: by its name, and by the address it resolves to."""
    with pytest.raises(DeliveryRefused, match="not among those"):
        await deliver(deliverer, "http://rapidpro_web/", HostRules.of(["other_web"]))
    names.answers["rapidpro_web"] = [["169.254.169.254"]]
    with pytest.raises(DeliveryRefused) as caught:
        await deliver(deliverer, "http://rapidpro_web/", ALL_HOSTS)
    assert caught.value.reason == "forbidden_address"


@pytest.mark.parametrize("rules", [None, ALL_HOSTS])
@pytest_twisted.ensureDeferred
async def test_https_for_a_local_name(names: Names, rules: HostRules | None) -> None:
    """With https the certificate is verified for a name with an underscore."""
    certificate: Any = self_signed("rapidpro_web")
    tls = ClientTls(trustRootFromCertificates([Certificate(certificate.original)]))
    names.answers["other_web"] = [["127.0.0.1"]]
    server = Receiver(reactor, tls=certificate.options())
    server.start()
    deliverer = Deliverer(reactor, tls_policy=tls)
    try:
        await deliver(deliverer, f"https://rapidpro_web:{server.port}/", rules)
        with pytest.raises(DeliveryExhausted) as caught:
            await deliver(deliverer, f"https://other_web:{server.port}/", rules)
        assert caught.value.reason == "tls"
    finally:
        await deliverer.close()
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_an_unknown_local_name(names: Names, deliverer: Deliverer) -> None:
    """A name with an underscore that nobody knows is a fault of DNS, told by its name."""
    with pytest.raises(DeliveryExhausted) as caught:
        await deliver(deliverer, "http://nobody_here/", None)
    assert caught.value.reason == "dns"
    with pytest.raises(DNSLookupError, match="nobody_here"):
        await NameEndpoint(reactor, "nobody_here", 1).connect(Factory.forProtocol(Protocol))
