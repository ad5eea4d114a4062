"""One HTTP delivery with its chain of attempts, through treq.

What is retried, and when, is in ``retry``; who may make an attempt while a destination is down is in ``circuit``;
how a delivery ends badly is in ``errors.DeliveryFailed``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS

from junebug_turn.agents import Clients
from junebug_turn.circuits import CircuitOpen, Circuits, Way
from junebug_turn.destination import Destination
from junebug_turn.errors import DeliveryDeferred, DeliveryExhausted, DeliveryFailed, DeliveryRefused
from junebug_turn.metrics import Metrics
from junebug_turn.retry import CHAIN_LIMIT, RetryPolicy, is_misconfiguration, is_passing, retry_after
from junebug_turn.webclient import WholeBody, failure_reason, read_away
from junebug_turn.webhook import Webhook

__all__ = ["Deliverer", "Destination"]


@frozen
class _Fault:
    """How one attempt failed: ``retry_after`` is in seconds, where the destination asked for them.

    :ivar misconfigured: whether the answer blames a configured URL or its credentials
    """

    reason: str
    status: int | None = None
    retry_after: float | None = None
    misconfigured: bool = False

    @property
    def passing(self) -> bool:
        if self.reason == "forbidden_address":
            return False
        return self.status is None or self.misconfigured or is_passing(self.status)

    @property
    def cause(self) -> str:
        """A word for the metrics."""
        return f"http_{self.status}" if self.reason == "http_status" else self.reason

    def __str__(self) -> str:
        return f"HTTP status {self.status}" if self.reason == "http_status" else self.reason


@frozen
class _Post:
    """What a chain sends with each attempt."""

    destination: Destination
    body: bytes
    timeout: float
    webhook: Webhook | None
    configured: bool

    def headers(self, now: float) -> Headers:
        """Those of an attempt that is made at ``now``, in Unix seconds."""
        headers = self.destination.headers
        if self.webhook is not None:
            headers = headers.copy()
            for name, value in self.webhook.headers(now, self.body).items():
                headers.setRawHeaders(name, [value])
        return headers


class Deliverer:
    """Makes deliveries, over connections that it keeps.

    :param clock: counts time limits and delays, where it is not the reactor
    :param rng: gives numbers in [0, 1) for the delays
    :param connections_per_host: how many idle connections to one origin are kept
    :param suspect_limit: how many attempts are made at once where the last one failed
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
        suspect_limit: int = 5,
        tls_policy: IPolicyForHTTPS | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._reactor = reactor
        self._clock: Any = reactor if clock is None else clock
        self._rng = rng
        self._clients = Clients(
            reactor, _client, tls_policy or BrowserLikePolicyForHTTPS(), connections_per_host
        )
        self._running: set[Deferred[None]] = set()
        self._circuits = Circuits(self._clock, rng, suspect_limit=suspect_limit)

    async def deliver(
        self,
        destination: Destination,
        body: bytes,
        *,
        timeout: float,
        policy: RetryPolicy,
        webhook: Webhook | None = None,
        patience: float = 0,
        configured: bool = False,
    ) -> None:
        """POST ``body``, which is JSON, until the answer is a 2xx.

        While the destination's circuit is open, a delivery waits in place as long as there is ``patience``, and
        the attempts that it makes as a probe are not those of its chain.  Can be cancelled at any time: the
        request, the delay or the wait is then over.

        :param timeout: seconds for each attempt, from connecting to the end of the answer's body
        :param webhook: has more headers for each attempt
        :param patience: seconds from now in which it may wait for a closed circuit; at most ``CHAIN_LIMIT``
        :param configured: the URL is from the configuration: answers that blame the URL or the credentials then
            are passing, and open a circuit
        :raises DeliveryRefused: the answer is permanent
        :raises DeliveryDeferred: no attempt was made, as the circuit is open
        :raises DeliveryExhausted: all attempts failed, or the next would start later than ``CHAIN_LIMIT``, or
            the circuit opened meanwhile
        """
        post = _Post(destination, body, timeout, webhook, configured)
        chain = Deferred.fromCoroutine(self._chain(post, policy, min(patience, CHAIN_LIMIT)))
        self._running.add(chain)
        try:
            with self._metrics.delivery():
                await chain
        finally:
            self._running.discard(chain)

    def degraded(self) -> dict[str, dict[str, Any]]:
        """The origins that are down or set up wrongly: see ``Circuits.degraded``."""
        return self._circuits.degraded()

    def stop_waiting(self) -> None:
        """Cancel the deliveries that wait for a circuit, now and from now on; others go on."""
        self._circuits.stop()

    async def close(self) -> None:
        """Cancel the deliveries under way and close the connections."""
        for chain in tuple(self._running):
            chain.cancel()
        await self._clients.close()

    def use_tls(self, policy: IPolicyForHTTPS, guarded_policy: IPolicyForHTTPS) -> None:
        """Verify certificates thus from now on; deliveries under way go on as they began.

        :param guarded_policy: for URLs that clients gave
        """
        self._clients.use_tls(policy, guarded_policy)

    async def _chain(self, post: _Post, policy: RetryPolicy, patience: float) -> None:
        start = self._clock.seconds()
        destination = post.destination
        url = destination.url if post.configured else None
        with self._circuits.way(destination.origin, url, start + patience) as way:
            clients = self._clients.pair(destination.rules)
            client = clients.pooled
            fault: _Fault | None = None
            attempts = tries = 0
            first_failure = now = start
            while True:
                try:
                    await way.enter()
                except CircuitOpen:
                    now = self._clock.seconds() if fault is None else now
                    raise _given_up(destination, fault, attempts, first_failure, now) from None
                attempts += 1
                tries += not way.probe
                with self._metrics.attempt() as made:
                    fault = await self._attempt(client, post)
                    made.result = "ok" if fault is None else fault.cause
                _judge(way, fault)
                if fault is None:
                    self.log.info(
                        "Delivered to {origin}, attempt {attempt}",
                        origin=destination.origin,
                        attempt=attempts,
                        log_every=True,
                    )
                    return
                now = self._clock.seconds()
                first_failure = now if attempts == 1 else first_failure
                delay = self._delay(fault, tries, policy)
                if delay is not None and now + delay - start > CHAIN_LIMIT:
                    delay = None
                waits = fault.passing and way.is_open
                self.log.info(
                    "Delivery to {origin} failed: {reason}; attempt {attempt}, next {next}",
                    origin=destination.origin,
                    reason=str(fault),
                    attempt=attempts,
                    next="when its circuit lets it" if waits else _in_seconds(delay),
                )
                if not waits:
                    if delay is None:
                        raise _given_up(destination, fault, attempts, first_failure, now)
                    await way.pause(delay)
                self._metrics.retried(fault.cause)
                # After a fault of the connection the others of the pool are suspects too: the host may be gone.
                client = clients.pooled if fault.status is not None else clients.fresh

    def _delay(self, fault: _Fault, tries: int, policy: RetryPolicy) -> float | None:
        """Seconds until the next attempt; None when there is none."""
        if not fault.passing or tries > policy.max_retries:
            return None
        return policy.delay(max(0, tries - 1), self._rng) if fault.retry_after is None else fault.retry_after

    async def _attempt(self, client: HTTPClient, post: _Post) -> _Fault | None:
        """One POST; None after a 2xx."""
        expired = cancelled = False

        def expire() -> None:
            nonlocal expired
            expired = True
            request.cancel()

        def cancel(_: Deferred[_Fault | None]) -> None:
            nonlocal cancelled
            cancelled = True
            request.cancel()

        # What a request that is cancelled fails with depends on how far it has come: ask who cancelled it.
        done: Deferred[_Fault | None] = Deferred(cancel)
        request = Deferred.fromCoroutine(self._request(client, post))
        request.chainDeferred(done)
        limit = self._clock.callLater(post.timeout, expire)
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

    async def _request(self, client: HTTPClient, post: _Post) -> _Fault | None:
        response: Any = await client.request(
            "POST",
            post.destination.wire_url,
            headers=post.headers(self._clock.seconds()),
            data=post.body,
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
        return _Fault("http_status", status, wait, post.configured and is_misconfiguration(status))


def _judge(way: Way, fault: _Fault | None) -> None:
    """What an attempt's end says of its destination."""
    if fault is not None and fault.misconfigured:
        way.misconfigured(str(fault))
    elif fault is not None and fault.passing:
        way.failed(str(fault), fault.retry_after)
    else:
        # Refusing a message is an answer too.
        way.answered()


def _in_seconds(delay: float | None) -> str:
    return f"in {None if delay is None else round(delay, 3)} s"


def _given_up(
    destination: Destination, fault: _Fault | None, attempts: int, first_failure: float, last_failure: float
) -> DeliveryFailed:
    kind: type[DeliveryFailed]
    if fault is None:
        kind, text = DeliveryDeferred, f"{destination.origin} is known to be down: its circuit is open"
    else:
        kind = DeliveryExhausted if fault.passing else DeliveryRefused
        text = f"delivery to {destination.origin} failed after {attempts} attempt(s): {fault}"
    return kind(
        text,
        reason="circuit_open" if fault is None else fault.reason,
        last_status=None if fault is None else fault.status,
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


def _client(agent: Any) -> HTTPClient:
    jar: Any = _NoCookies()
    body: Any = WholeBody
    return HTTPClient(agent, jar, body)
