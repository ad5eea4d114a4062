"""The limits of open connections, in all and from each client."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from junebug_turn.errors import TooManyConnections

MAX_LINGERING = 100
"""Connections over the limit that stay open until their client has read the refusal; others are cut at once."""

LOG_INTERVAL = 60
"""Seconds between two log lines about refused connections."""


class ConnectionLimits:
    """Counter of the open connections of all servers of the daemon, with its limits.

    :param most: the limit of all connections
    :param most_per_client: the limit of the connections from one client
    :ivar open: the connections that were entered and have not left
    :ivar lingering: the refused connections whose client may still read the refusal
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
        """Count a connection from ``peer``, an address of Twisted, or None; the result is for ``leave``.

        :raises TooManyConnections: a limit is reached
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
        """Count a connection as closed; ``client`` is the result of its ``enter``."""
        self.open -= 1
        if client is not None:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def _too_many(self, option: str, most: int) -> TooManyConnections:
        self._refused += 1
        now = self._clock.seconds()
        if self._logged_at is None or now - self._logged_at >= LOG_INTERVAL:
            self.log.warn(
                "refused {count} connections: there are {most} already, which is limits.{option}",
                count=self._refused,
                most=most,
                option=option,
            )
            self._logged_at, self._refused = now, 0
        return TooManyConnections("there are too many connections")


def client_of(peer: Any) -> str | None:
    """Return the key that a client's connections are counted under; None where it has no address, as at a socket file.

    For IPv6 it is the /64, since a client with one address mostly has all of these.
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
