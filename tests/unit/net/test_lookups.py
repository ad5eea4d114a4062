"""Look-ups of the hosts of deliveries, in threads of their own; the answers are a test's."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
import pytest_twisted
from attrs import Factory, define
from twisted.internet import reactor as _reactor

# private: Twisted has no public name for it.
from twisted.internet._resolver import GAIResolver
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.net.addresses import HostRules
from junebug_turn.net.lookups import AddressResolver, Lookups
from tests.support.delivery_harness import SUBJECT
from tools.servers.receiver import Receiver

reactor: Any = _reactor
RULES = HostRules.of(["127.0.0.0/8"])


@define
class Slow:
    """Look-ups that wait until ``gate`` is set for hosts that end in ``.slow``; every host is 127.0.0.1."""

    gate: Event = Factory(Event)
    asked: list[str] = Factory(list)

    def getaddrinfo(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        self.asked.append(host)
        if host.endswith(".slow"):
            self.gate.wait(60)
        if host.startswith("none"):
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow = Slow()
    monkeypatch.setattr(socket, "getaddrinfo", slow.getaddrinfo)
    resolver: Any = GAIResolver(reactor, getaddrinfo=slow.getaddrinfo)
    before = reactor.installNameResolver(resolver)
    yield slow
    slow.gate.set()
    reactor.installNameResolver(before)


@implementer(IHostnameResolver)
class Names:
    """A resolver that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolveHostName(self, receiver: Any, name: str, *args: Any, **options: Any) -> Any:
        self.asked.append(name)


@implementer(IResolutionReceiver)
class Addresses:
    """A receiver of what a resolver finds."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        resolutionInProgress.cancel()

    def addressResolved(self, address: Any) -> None:
        self.found.append(address)

    def resolutionComplete(self) -> None:
        pass


async def until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        await deferLater(reactor, 0.01)


def deliver(deliverer: Deliverer, url: str, rules: HostRules | None) -> Deferred[None]:
    destination = Destination.of(url, None, rules=rules)
    delivery = deliverer.deliver(destination, b"{}", timeout=15, policy=RetryPolicy(0), **SUBJECT)
    return Deferred.fromCoroutine(delivery)


@pytest_twisted.ensureDeferred
async def test_operators_hosts_do_not_wait(slow: Slow, receiver: Receiver) -> None:
    """Twenty event_urls whose names resolve slowly, cancelled or not, hold up neither the operator's own
    deliveries nor those to other clients' hosts."""
    # As many places that none waits for one.
    deliverer = Deliverer(reactor, client_limit=100)
    slow_ones = [
        deliver(deliverer, f"http://host{number}.slow:{receiver.port}/", RULES) for number in range(20)
    ]
    await until(lambda: len(slow.asked) == 20)
    for delivery in slow_ones[10:]:
        delivery.addErrback(lambda failure: failure.trap(CancelledError) and None)
        delivery.cancel()
    start = time.monotonic()
    await deliver(deliverer, f"http://configured.example.org:{receiver.port}/", None)
    await deliver(deliverer, f"http://another.example.org:{receiver.port}/", RULES)
    assert time.monotonic() - start < 30
    assert len(receiver.requests) == 2
    slow.gate.set()
    for delivery in slow_ones[:10]:
        await delivery
    assert len(receiver.requests) == 12
    await deliverer.close()


@pytest.mark.parametrize("rules", [None, RULES])
@pytest_twisted.ensureDeferred
async def test_deliveries_at_once_share_a_lookup(
    slow: Slow, receiver: Receiver, rules: HostRules | None
) -> None:
    """Deliveries that begin at once to one host make one look-up, and take no thread of the reactor."""
    deliverer = Deliverer(reactor, client_limit=100)
    deliveries = [deliver(deliverer, f"http://burst.slow:{receiver.port}/", rules) for _ in range(30)]
    await until(lambda: slow.asked)
    # Each thread of the reactor is free.
    await deferToThread(lambda: None)
    slow.gate.set()
    for delivery in deliveries:
        await delivery
    assert (len(receiver.requests), slow.asked) == (30, ["burst.slow"])
    await deliverer.close()


@pytest.mark.parametrize("rules", [None, RULES])
@pytest_twisted.ensureDeferred
async def test_an_address_needs_no_lookup(slow: Slow, receiver: Receiver, rules: HostRules | None) -> None:
    """A delivery to an address asks no resolver, and has the same rules as one to a name."""
    deliverer = Deliverer(reactor)
    await deliver(deliverer, receiver.url(), rules)
    assert (len(receiver.requests), slow.asked) == (1, [])
    await deliverer.close()


def test_addresses() -> None:
    """An address is itself, of either kind; what only the system can read is a name."""
    names, receiver = Names(), Addresses()
    resolver = AddressResolver(names)
    for host in ("10.0.0.1", "::1", "fe80::1%lo", "010.0.0.1", "127.1", "example.org"):
        resolver.resolveHostName(receiver, host, 80)
    assert receiver.found == [IPv4Address("TCP", "10.0.0.1", 80), IPv6Address("TCP", "::1", 80)]
    assert names.asked == ["fe80::1%lo", "010.0.0.1", "127.1", "example.org"]


def names_of(addresses: list[Any]) -> list[tuple[str, int]]:
    return [(address.host, address.port) for address in addresses]


@pytest_twisted.ensureDeferred
async def test_one_for_each_host(slow: Slow) -> None:
    """All who ask for a host share one look-up, and get its addresses; one that forgets its question gets none."""
    lookups, found = Lookups(reactor), []
    forget = [lookups.ask("a.slow", found.append) for _ in range(3)]
    forgotten: list[Any] = []
    lookups.ask("a.slow", forgotten.append)()
    await until(lambda: slow.asked)
    slow.gate.set()
    await until(lambda: found)
    assert slow.asked == ["a.slow"]
    assert [names_of(addresses) for addresses in found] == [[("127.0.0.1", 0)]] * 3
    assert forgotten == []
    forget[0]()
    lookups.ask("a.slow", found.append)
    await until(lambda: len(found) == 4)
    assert slow.asked == ["a.slow"] * 2


@pytest_twisted.ensureDeferred
async def test_bounded(slow: Slow) -> None:
    """There are no more threads than the limit; those that wait come in order, and those that were forgotten never."""
    lookups, found = Lookups(reactor, limit=2), []
    forget = [lookups.ask(f"{name}.slow", found.append) for name in "abcd"]
    await until(lambda: len(slow.asked) == 2)
    forget[2]()
    slow.gate.set()
    await until(lambda: len(found) == 3)
    assert sorted(slow.asked) == ["a.slow", "b.slow", "d.slow"]


@pytest_twisted.ensureDeferred
async def test_no_such_name(slow: Slow) -> None:
    """A name that isn't there has no addresses."""
    found: list[Any] = []
    Lookups(reactor).ask("none.example.org", found.append)
    await until(lambda: found)
    assert found == [[]]
