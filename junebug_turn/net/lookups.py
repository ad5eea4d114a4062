"""Look-ups of the host names of deliveries; those that clients give are apart from those of the operator's hosts.

A look-up is a blocking call in a thread, and can't be broken off.  The reactor has ten threads for all: names that
resolve slowly would take them, also after their deliveries were cancelled, and the broker's name and Redis' would wait
behind them.  A thread that needs Python waits some milliseconds for each step while the reactor is busy, so that a
look-up for each of a hundred connections would take seconds.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address as IP4
from ipaddress import ip_address
from threading import Thread
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

MAX_LOOKUPS = 50
"""Look-ups, and so threads, at the same time; each for another host."""

_Found = list[IAddress]


class Lookups:
    """Look-ups in threads of their own: one at a time for each host, and a bounded number for all.

    Those that ask for a host that is being looked up get the same addresses.

    :param limit: of all
    """

    def __init__(self, reactor: Any, *, limit: int = MAX_LOOKUPS) -> None:
        self._reactor = reactor
        self._limit = limit
        # Host -> who asks for it; with or without a thread yet.
        self._asking: dict[str, list[Callable[[_Found], None]]] = {}
        self._queue: deque[str] = deque()
        self._running = 0

    def ask(self, host: str, done: Callable[[_Found], None]) -> Callable[[], None]:
        """Call ``done`` with the addresses of ``host``, without a port; returns what forgets the question."""
        asking = self._asking.get(host)
        if asking is None:
            asking = self._asking[host] = []
            self._queue.append(host)
        asking.append(done)
        self._start()

        def forget() -> None:
            if done in asking:
                asking.remove(done)

        return forget

    def _start(self) -> None:
        while self._queue and self._running < self._limit:
            host = self._queue.popleft()
            if not self._asking[host]:
                # All who asked have been cancelled meanwhile.
                del self._asking[host]
                continue
            self._running += 1
            # Not kept for the next one, and no reason to wait at the end of the process.
            Thread(target=self._run, args=(host,), name="look-up", daemon=True).start()

    def _run(self, host: str) -> None:
        """Look a host up; in its thread."""
        try:
            found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        self._reactor.callFromThread(self._done, host, found)

    def _done(self, host: str, found: Sequence[Any]) -> None:
        self._running -= 1
        addresses: _Found = [
            IPv6Address("TCP", *address) if family == socket.AF_INET6 else IPv4Address("TCP", *address)
            for family, _, _, _, address in found
        ]
        for done in tuple(self._asking.pop(host)):
            done(addresses)
        self._start()


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.forget: Callable[[], None] = lambda: None

    def cancel(self) -> None:
        self.forget()


@implementer(IHostnameResolver)
class LookupResolver:
    """Resolver of Twisted's form over ``Lookups``."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        done = partial(self._done, resolutionReceiver, portNumber, addressTypes)
        resolution.forget = self._lookups.ask(hostName, done)
        return resolution

    def _done(self, receiver: Any, port: int, types: Sequence[type[IAddress]] | None, found: _Found) -> None:
        for address in found:
            if types is None or isinstance(address, tuple(types)):
                receiver.addressResolved(_with_port(address, port))
        receiver.resolutionComplete()


@implementer(IHostnameResolver)
@frozen
class AddressResolver:
    """Resolver that takes an address as it is, and asks another resolver for a name: an address needs no thread.

    :ivar names: the other resolver
    """

    names: IHostnameResolver

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        address = _address(hostName, portNumber)
        if address is None or addressTypes is not None:
            return self.names.resolveHostName(
                resolutionReceiver, hostName, portNumber, addressTypes, transportSemantics
            )
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        resolutionReceiver.addressResolved(address)
        resolutionReceiver.resolutionComplete()
        return resolution


def _address(host: str, port: int) -> IAddress | None:
    """Return the address that a host is; None for a name, and for an address with a zone, which the system knows."""
    try:
        parsed = ip_address(host)
    except ValueError:
        return None
    if isinstance(parsed, IP4):
        return IPv4Address("TCP", host, port)
    return None if parsed.scope_id else IPv6Address("TCP", host, port)


def _with_port(address: Any, port: int) -> IAddress:
    if isinstance(address, IPv6Address):
        return IPv6Address("TCP", address.host, port, address.flowInfo, address.scopeID)
    return IPv4Address("TCP", address.host, port)
