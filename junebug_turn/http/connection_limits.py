"""How many connections there are, in all and from each client."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from junebug_turn.errors import TooManyConnections

MAX_LINGERING = 100
"""Connections over the limit that may wait for their client to read the refusal; others are cut at once."""

SILENCE = 60
"""Seconds in which refusals are counted, after one was logged."""


class Connections:
    """Counts the connections of all servers of the daemon.

    :param most: in all
    :param most_per_client: from one client
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, most: int, most_per_client: int) -> None:
        self._clock = clock
        self._most = most
        self._most_per_client = most_per_client
        self._clients: Counter[str] = Counter()
        self._refused = 0
        self._logged_at: float | None = None
        self.open = 0
        self.lingering = 0

    def enter(self, peer: Any) -> str | None:
        """Count a connection from ``peer``, an address of Twisted; the result is for ``leave``.

        :raises TooManyConnections: there are as many as there may be
        """
        client = client_of(peer)
        if self.open >= self._most:
            raise self._too_many("max_connections", self._most)
        if client is not None and self._clients[client] >= self._most_per_client:
            raise self._too_many("max_connections_per_client", self._most_per_client)
        self.open += 1
        if client is not None:
            self._clients[client] += 1
        return client

    def leave(self, client: str | None) -> None:
        """A connection that was counted is over."""
        self.open -= 1
        if client is not None:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def _too_many(self, option: str, most: int) -> TooManyConnections:
        self._refused += 1
        now = self._clock.seconds()
        if self._logged_at is None or now - self._logged_at >= SILENCE:
            self.log.warn(
                "refused {count} connections: there are {most} already, which is limits.{option}",
                count=self._refused,
                most=most,
                option=option,
            )
            self._logged_at, self._refused = now, 0
        return TooManyConnections("there are too many connections")


def client_of(peer: Any) -> str | None:
    """What the connections of a client are counted under; None for a socket file, which has no addresses.

    Whoever has one IPv6 address mostly has all of its /64.
    """
    try:
        address = ip_address(getattr(peer, "host", ""))
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(IPv6Address(int(address))) >> 64 << 64, 64)))
