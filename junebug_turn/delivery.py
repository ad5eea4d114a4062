"""One HTTP delivery with its chain of attempts, through treq.

What is retried, and when, is in ``retry``; how a delivery ends badly is in ``errors.DeliveryFailed``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar
from itertools import count
from typing import Any

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS

from junebug_turn.addresses import HostRules
from junebug_turn.destination import Destination
from junebug_turn.errors import DeliveryExhausted, DeliveryFailed, DeliveryRefused
from junebug_turn.guarded import GuardedEndpoints
from junebug_turn.retry import CHAIN_LIMIT, RetryPolicy, is_passing, retry_after
from junebug_turn.webclient import WholeBody, failure_reason, read_away

__all__ = ["Deliverer", "Destination"]

IDLE_TIMEOUT = 60
"""Seconds that a connection is kept for the next delivery."""


@frozen
class _Fault:
    """How one attempt failed: ``retry_after`` is in seconds, where the destination asked for them."""

    reason: str
    status: int | None = None
    retry_after: float | None = None

    @property
    def passing(self) -> bool:
        if self.reason == "forbidden_address":
            return False
        return self.reason != "http_status" or (self.status is not None and is_passing(self.status))

    def __str__(self) -> str:
        return f"HTTP status {self.status}" if self.reason == "http_status" else self.reason


class Deliverer:
    """Makes deliveries, over connections that it keeps.

    :param clock: counts time limits and delays, where it is not the reactor
    :param rng: gives numbers in [0, 1) for the delays
    :param connections_per_host: how many idle connections to one origin are kept
    :param tls_policy: verifies the destinations' certificates; by default against the platform's authorities
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        clock: IReactorTime | None = None,
        rng: Callable[[], float] = random.random,
        connections_per_host: int = 50,
        tls_policy: IPolicyForHTTPS | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock: Any = reactor if clock is None else clock
        self._rng = rng
        self._tls = self._guarded_tls = _cached(tls_policy or BrowserLikePolicyForHTTPS())
        self._connections_per_host = connections_per_host
        self._clients: dict[HostRules | None, _Clients] = {}
        self._running: set[Deferred[None]] = set()

    async def deliver(
        self,
        destination: Destination,
        body: bytes,
        *,
        timeout: float,
        policy: RetryPolicy,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """POST ``body``, which is JSON, until the answer is a 2xx.

        Can be cancelled at any time: the request or the delay is then over.

        :param timeout: seconds for each attempt, from connecting to the end of the answer's body
        :param headers: more headers, the same for each attempt
        :raises DeliveryRefused: the answer is permanent
        :raises DeliveryExhausted: all attempts failed, or the next would start later than ``CHAIN_LIMIT``
        """
        chain = Deferred.fromCoroutine(self._chain(destination, body, timeout, policy, headers))
        self._running.add(chain)
        try:
            await chain
        finally:
            self._running.discard(chain)

    async def close(self) -> None:
        """Cancel the deliveries under way and close the connections."""
        for chain in tuple(self._running):
            chain.cancel()
        for clients in self._clients.values():
            await clients.pool.closeCachedConnections()

    def use_tls(self, policy: IPolicyForHTTPS, guarded_policy: IPolicyForHTTPS) -> None:
        """Verify certificates thus from now on; deliveries under way go on as they began.

        :param guarded_policy: for URLs that clients gave
        """
        self._tls, self._guarded_tls = _cached(policy), _cached(guarded_policy)
        before, self._clients = self._clients, {}
        for clients in before.values():
            clients.pool.closeCachedConnections()

    def _clients_for(self, rules: HostRules | None) -> _Clients:
        """The clients for URLs with these rules: a kept connection was made by the rules that it is used with."""
        if rules not in self._clients:
            pool = HTTPConnectionPool(self._reactor)
            pool.maxPersistentPerHost = self._connections_per_host
            pool.cachedConnectionTimeout = IDLE_TIMEOUT
            # The pool's own retry would be an attempt that nobody counts.
            pool.retryAutomatically = False
            unkept = HTTPConnectionPool(self._reactor, persistent=False)
            tls = self._tls if rules is None else self._guarded_tls
            self._clients[rules] = _Clients(
                pool,
                _client(self._reactor, tls, pool, rules),
                _client(self._reactor, tls, unkept, rules),
            )
        return self._clients[rules]

    async def _chain(
        self,
        destination: Destination,
        body: bytes,
        timeout: float,
        policy: RetryPolicy,
        extra: Mapping[str, str] | None,
    ) -> None:
        headers = destination.headers
        if extra:
            headers = headers.copy()
            for name, value in extra.items():
                headers.setRawHeaders(name, [value])
        clients = self._clients_for(destination.rules)
        client = clients.pooled
        start = self._clock.seconds()
        first_failure: float | None = None
        for attempt in count(1):
            fault = await self._attempt(client, destination, headers, body, timeout)
            if fault is None:
                return
            now = self._clock.seconds()
            first_failure = now if first_failure is None else first_failure
            delay = self._delay(fault, attempt, policy)
            if delay is not None and now + delay - start > CHAIN_LIMIT:
                delay = None
            self.log.info(
                "Delivery to {origin} failed: {fault}; attempt {attempt}, next in {delay} s",
                origin=destination.origin,
                fault=fault,
                attempt=attempt,
                delay=None if delay is None else round(delay, 3),
            )
            if delay is None:
                raise _given_up(destination, fault, attempt, first_failure, now)
            await deferLater(self._clock, delay)
            # After a fault of the connection the others of the pool are suspects too: the host may be gone.
            client = clients.pooled if fault.reason == "http_status" else clients.fresh

    def _delay(self, fault: _Fault, attempt: int, policy: RetryPolicy) -> float | None:
        """Seconds until the next attempt; None when there is none."""
        if not fault.passing or attempt > policy.max_retries:
            return None
        return policy.delay(attempt - 1, self._rng) if fault.retry_after is None else fault.retry_after

    async def _attempt(
        self, client: HTTPClient, destination: Destination, headers: Headers, body: bytes, timeout: float
    ) -> _Fault | None:
        """One POST; None after a 2xx."""
        expired = cancelled = False

        def expire() -> None:
            nonlocal expired
            expired = True
            post.cancel()

        def cancel(_: Deferred[_Fault | None]) -> None:
            nonlocal cancelled
            cancelled = True
            post.cancel()

        # What a request that is cancelled fails with depends on how far it has come: ask who cancelled it.
        done: Deferred[_Fault | None] = Deferred(cancel)
        post = Deferred.fromCoroutine(self._post(client, destination, headers, body))
        post.chainDeferred(done)
        limit = self._clock.callLater(timeout, expire)
        try:
            return await done
        except Exception as error:
            if cancelled:
                raise CancelledError() from None
            if expired:
                return _Fault("timeout")
            reason = failure_reason(error)
            if reason is None:
                raise
            return _Fault(reason)
        finally:
            if limit.active():
                limit.cancel()

    async def _post(
        self, client: HTTPClient, destination: Destination, headers: Headers, body: bytes
    ) -> _Fault | None:
        response: Any = await client.request(
            "POST",
            destination.wire_url,
            headers=headers,
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        await read_away(response)
        status = response.code
        if 200 <= status < 300:
            return None
        wait = None
        if status in (429, 503):
            header = response.headers.getRawHeaders(b"Retry-After", [None])[0]
            wait = retry_after(header, self._clock.seconds())
        return _Fault("http_status", status, wait)


def _given_up(
    destination: Destination, fault: _Fault, attempts: int, first_failure: float, last_failure: float
) -> DeliveryFailed:
    kind = DeliveryExhausted if fault.passing else DeliveryRefused
    return kind(
        f"delivery to {destination.origin} failed after {attempts} attempt(s): {fault}",
        reason=fault.reason,
        last_status=fault.status,
        attempts=attempts,
        first_failure=first_failure,
        last_failure=last_failure,
    )


class _NoCookies(CookieJar):
    """A jar that stays empty: a receiver's cookies are none of our business, and reading them takes time."""

    def add_cookie_header(self, request: Any) -> None:
        pass

    def extract_cookies(self, response: Any, request: Any) -> None:
        pass


def _cached(policy: Any) -> Any:
    # An Agent asks its policy for every request, and a TLS context is slow to make.
    return HostnameCachingHTTPSPolicy(policy, cacheSize=100)


@frozen
class _Clients:
    """Two clients with the same rules: one whose connections are kept in ``pool``, one with a new one each time."""

    pool: HTTPConnectionPool
    pooled: HTTPClient
    fresh: HTTPClient


def _client(reactor: Any, policy: Any, pool: HTTPConnectionPool, rules: HostRules | None) -> HTTPClient:
    agent: Any
    if rules is None:
        agent = Agent(reactor, policy, pool=pool)
    else:
        guarded: Any = GuardedEndpoints(reactor, policy, rules)
        agent = Agent.usingEndpointFactory(reactor, guarded, pool=pool)
    jar: Any = _NoCookies()
    body: Any = WholeBody
    return HTTPClient(agent, jar, body)
