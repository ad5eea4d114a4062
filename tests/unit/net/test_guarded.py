"""Deliveries to URLs that clients gave, by names that resolve to what the test wants, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import BrowserLikePolicyForHTTPS
from zope.interface import implementer

from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import DeliveryExhausted, DeliveryRefused
from junebug_turn.net.addresses import ALL_HOSTS, HostRules
from tests.support.certificates import self_signed
from tools.servers.receiver import Receiver

reactor: Any = _reactor


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """It is over already."""


@implementer(IHostnameResolver)
class Names:
    """A resolver that has the answers of ``answers``, one list of addresses after the other for each name."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def resolveHostName(
        self,
        receiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        self.asked.append(hostName)
        receiver.resolutionBegan(_Resolution(hostName))
        answers = self.answers.get(hostName, [[]])
        for address in answers.pop(0) if len(answers) > 1 else answers[0]:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()
        return _Resolution(hostName)


@pytest.fixture
def names() -> Iterator[Names]:
    resolver: Any = Names()
    before = reactor.installNameResolver(resolver)
    yield resolver
    reactor.installNameResolver(before)


@pytest_twisted.async_yield_fixture
async def deliverer() -> AsyncIterator[Deliverer]:
    made = Deliverer(reactor)
    yield made
    await made.close()


async def deliver(
    deliverer: Deliverer, url: str, rules: HostRules | None = ALL_HOSTS, retries: int = 0
) -> None:
    destination = Destination.of(url, "token", rules=rules)
    await deliverer.deliver(destination, b"{}", timeout=5, policy=RetryPolicy(retries, 0, 0))


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
    deliverer = Deliverer(reactor, tls_policy=BrowserLikePolicyForHTTPS(root))
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
