"""Pool of the idle connections to hosts that clients name in their URLs."""

from __future__ import annotations

from typing import Any

from twisted.web.client import HTTPConnectionPool

MAX_CLIENT_CONNECTIONS = 50
"""Idle connections that are kept to all hosts of clients' URLs together."""


class BoundedPool(HTTPConnectionPool):
    """Connection pool with a bound for all hosts together; Twisted's has one for each host.

    Whoever gives URLs chooses how many hosts there are, and each idle connection is a descriptor.

    :param most: how many idle connections are kept; the oldest make room
    """

    def __init__(self, reactor: Any, most: int) -> None:
        super().__init__(reactor)
        self.most = most

    def _putConnection(self, key: Any, connection: Any) -> None:
        super()._putConnection(key, connection)
        idle: Any = self._connections
        while len(self._timeouts) > self.most:
            # In the order in which they became idle.
            oldest = next(iter(self._timeouts))
            self._timeouts[oldest].cancel()
            self._removeConnection(next(key for key in idle if oldest in idle[key]), oldest)
        if len(idle) > 2 * self.most:
            # Twisted keeps an empty list for each host.
            self._connections = {key: kept for key, kept in idle.items() if kept}
