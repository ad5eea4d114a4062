"""The connections that deliveries are made over: kept, verified, and apart by the rules that they were made by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import frozen
from twisted.web.client import HostnameCachingHTTPSPolicy, HTTPConnectionPool
from twisted.web.iweb import IPolicyForHTTPS

from junebug_turn.delivery.http_client import ReusingAgent
from junebug_turn.net.addresses import HostRules
from junebug_turn.net.guarded import Endpoints

IDLE_TIMEOUT = 60
"""Seconds that a connection is kept for the next delivery."""

_C = TypeVar("_C")


@frozen
class Pair(Generic[_C]):
    """Two clients with the same rules: one whose connections are kept in ``pool``, one with a new one each time."""

    pool: HTTPConnectionPool
    pooled: _C
    fresh: _C


class Clients(Generic[_C]):
    """Makes the clients, two for each set of rules.

    :param make: a client from an ``Agent``
    :param tls_policy: verifies the destinations' certificates
    :param connections_per_host: how many idle connections to one origin are kept
    """

    def __init__(
        self,
        reactor: Any,
        make: Callable[[Any], _C],
        tls_policy: IPolicyForHTTPS,
        connections_per_host: int,
    ) -> None:
        self._reactor = reactor
        self._make = make
        self._tls = self._guarded_tls = _cached(tls_policy)
        self._connections_per_host = connections_per_host
        self._pairs: dict[HostRules | None, Pair[_C]] = {}

    def use_tls(self, policy: IPolicyForHTTPS, guarded_policy: IPolicyForHTTPS) -> None:
        """Verify certificates thus from now on; whoever has a client already goes on with it.

        :param guarded_policy: for URLs with rules
        """
        self._tls, self._guarded_tls = _cached(policy), _cached(guarded_policy)
        before, self._pairs = self._pairs, {}
        for pair in before.values():
            pair.pool.closeCachedConnections()

    def pair(self, rules: HostRules | None) -> Pair[_C]:
        """The clients for URLs with these rules: a kept connection was made by the rules that it is used with."""
        if rules not in self._pairs:
            pool = HTTPConnectionPool(self._reactor)
            pool.maxPersistentPerHost = self._connections_per_host
            pool.cachedConnectionTimeout = IDLE_TIMEOUT
            # The pool's own retry would be an attempt that nobody counts.
            pool.retryAutomatically = False
            unkept = HTTPConnectionPool(self._reactor, persistent=False)
            self._pairs[rules] = Pair(pool, self._client(pool, rules), self._client(unkept, rules))
        return self._pairs[rules]

    def _client(self, pool: HTTPConnectionPool, rules: HostRules | None) -> _C:
        tls = self._tls if rules is None else self._guarded_tls
        endpoints: Any = Endpoints(self._reactor, tls, rules)
        return self._make(ReusingAgent.usingEndpointFactory(self._reactor, endpoints, pool=pool))

    async def close(self) -> None:
        """Close the connections that are kept."""
        for pair in self._pairs.values():
            await pair.pool.closeCachedConnections()


def _cached(policy: Any) -> Any:
    # An Agent asks its policy for every request, and a TLS context is slow to make.
    return HostnameCachingHTTPSPolicy(policy, cacheSize=100)
