"""Deliveries over HTTP, each a chain of attempts.

Which attempts are made again, and when, is in ``retry``; a single attempt is in ``attempt``; the limits while a
destination is down are in ``circuit``, those of clients' URLs in ``bulkhead``, the quota of a configured URL in
``pacing``; the failures of a delivery are in ``errors.DeliveryFailed``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IPolicyForHTTPS

from junebug_turn.delivery.attempt import Fault, Post, attempt
from junebug_turn.delivery.bulkhead import CLIENT_PATIENCE, BulkheadFull
from junebug_turn.delivery.bulkheads import Bulkheads
from junebug_turn.delivery.circuit import CircuitOpen
from junebug_turn.delivery.circuits import Circuits
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.failed_places import FailedPlaces
from junebug_turn.delivery.http_client import Clients
from junebug_turn.delivery.outcome import deferred, given_up, judge
from junebug_turn.delivery.paces import Paces, Pacing
from junebug_turn.delivery.pacing import TURN_LIMIT
from junebug_turn.delivery.quota import pause
from junebug_turn.delivery.rate import DeliveryRate
from junebug_turn.delivery.refusal_text import RefusalReader
from junebug_turn.delivery.retry import CHAIN_LIMIT, RetryPolicy
from junebug_turn.delivery.shared_quota import QuotaStore
from junebug_turn.delivery.signature import Webhook
from junebug_turn.errors import DeliveryFailed, DeliveryRefused
from junebug_turn.net.clocks import WALL_CLOCK, WallClock
from junebug_turn.net.proxies import DIRECT, Proxies
from junebug_turn.net.tls import ClientTls
from junebug_turn.telemetry.metrics import Metrics
from junebug_turn.telemetry.tracing import current


class Deliverer:
    """Makes deliveries, over connections that it reuses.

    :param clock: counts time limits and delays, where it is not the reactor
    :param wall_clock: dates failures and requests
    :param rng: gives numbers in [0, 1) for the delays
    :param connections_per_host: how many idle connections to one origin are kept
    :param suspect_limit: how many attempts are made at once where different messages have failed
    :param failed_limit: how many deliveries of one connector and kind go on after a failed attempt, at most; more would
        take the places of those that fare well
    :param client_limit: how many deliveries of one connector and kind to clients' URLs are under way at most
    :param tls_policy: verifies the destinations' certificates; by default against the platform's authorities
    :param recovered: is called when a destination that was down has answered
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        clock: IReactorTime | None = None,
        wall_clock: WallClock = WALL_CLOCK,
        rng: Callable[[], float] = random.random,
        connections_per_host: int = 50,
        suspect_limit: int = 5,
        failed_limit: int = 10,
        client_limit: int = 10,
        tls_policy: IPolicyForHTTPS | None = None,
        metrics: Metrics | None = None,
        proxies: Proxies = DIRECT,
        recovered: Callable[[], None] = lambda: None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._clock: Any = reactor if clock is None else clock
        self._rng = rng
        self._clients = Clients(reactor, tls_policy or ClientTls(), connections_per_host, proxies)
        self._running: set[Deferred[Any]] = set()
        self._wall_clock = wall_clock
        self._circuits = Circuits(
            self._clock, rng, suspect_limit=suspect_limit, wall_clock=wall_clock, recovered=recovered
        )
        self._paces = Paces(self._clock, wall_clock)
        self._failed = FailedPlaces(failed_limit)
        self._bulkheads = Bulkheads(self._clock, client_limit, recovered)

    async def deliver(
        self,
        destination: Destination,
        body: bytes,
        *,
        message_id: str,
        connector: str,
        kind: str,
        timeout: float,
        policy: RetryPolicy,
        webhook: Webhook | None = None,
        patience: float = 0,
        configured: bool = False,
        url_base: str = "",
        rate: DeliveryRate | None = None,
        turn_patience: float = TURN_LIMIT,
        read_refusal: RefusalReader | None = None,
        delivered: Callable[[], None] | None = None,
        quotas: QuotaStore | None = None,
    ) -> None:
        """POST ``body`` (or GET, as the destination says) until the answer is a 2xx.

        While the destination's circuit is open, a delivery waits in place as long as there is ``patience``, and
        the attempts that it makes as a probe don't count for its chain.  Can be cancelled at any time: the
        request, the delay or the wait is then over.

        :param message_id: the identity of what is delivered, the same each time that it is: a circuit opens when
            different messages fail
        :param connector: for the metrics, as ``kind``
        :param kind: ``inbound`` or ``event``
        :param timeout: seconds for each attempt, from connecting to the end of the answer's body
        :param webhook: makes further headers for each attempt
        :param patience: seconds from now in which it may wait for a closed circuit; at most ``CHAIN_LIMIT``
        :param configured: the URL is from the configuration: answers that blame the URL or the credentials then
            are passing, and count for a circuit of that URL.  Deliveries to other URLs, those of clients, stand behind
            a bulkhead
        :param url_base: the part of a configured URL that shares a quota; by default all of it
        :param rate: that quota, where it is configured
        :param turn_patience: seconds in which it may wait for its turn
        :param read_refusal: reads the destination's words from the body of its refusal
        :param delivered: is called after the 2xx
        :param quotas: counts the calls within ``rate`` of all processes that share it
        :raises DeliveryRefused: the answer is permanent
        :raises DeliveryDeferred: the circuit is open, and there was no patience left, or no place to wait in; or the
            bulkhead is full, or its turn didn't come
        :raises DeliveryExhausted: all attempts failed, or the next would start later than ``CHAIN_LIMIT``, for a
            client's URL than ``CLIENT_PATIENCE``, or ``failed_limit`` was reached at the first failure
        """
        post = Post(destination, body, timeout, webhook, configured, connector, kind, read_refusal, current())
        make = self._chain if configured else self._client_chain
        if configured:
            self._bulkheads.share(connector, kind)
        base = url_base or destination.configured_url if configured else None
        pacing = self._paces.of_delivery(
            base, destination.origin, rate, connector, kind, turn_patience, quotas
        )
        chain = Deferred.fromCoroutine(make(post, message_id, policy, min(patience, CHAIN_LIMIT), pacing))
        self._running.add(chain)
        try:
            with self._metrics.delivery(connector, kind):
                await chain
            if delivered is not None:
                delivered()
        except DeliveryFailed as failure:
            failure.destination = destination.origin
            raise
        finally:
            self._running.discard(chain)

    def degraded(self) -> dict[str, dict[str, Any]]:
        """Return the origins that are down or set up wrongly: see ``Circuits.degraded``."""
        return self._circuits.degraded()

    def waiting_for_turn(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the deliveries that wait for their turn within a quota: see ``Paces.waiting``."""
        return self._paces.waiting()

    def stop_waiting(self) -> None:
        """Cancel the deliveries that wait for a circuit or for their turn, now and from now on; others go on."""
        self._circuits.stop()
        self._paces.stop()

    async def close(self) -> None:
        """Cancel the deliveries under way and close the connections."""
        for chain in tuple(self._running):
            chain.cancel()
        await self._clients.close()

    def use_tls(self, policy: IPolicyForHTTPS, guarded_policy: IPolicyForHTTPS) -> None:
        """Verify certificates with these policies from now on; deliveries under way go on as they began.

        :param guarded_policy: for URLs that clients gave
        """
        self._clients.use_tls(policy, guarded_policy)

    async def _client_chain(
        self, post: Post, message_id: str, policy: RetryPolicy, patience: float, pacing: Pacing
    ) -> None:
        """Make a delivery to a client's URL, in a place of the bulkhead."""
        bulkhead = self._bulkheads.of(post.connector, post.kind)
        try:
            place = await bulkhead.enter(post.destination.origin)
        except BulkheadFull as full:
            now = self._wall_clock.now()
            text = "clients' URLs have all of their places"
            raise deferred("bulkhead_full", text, now, now, soon=full.soon) from None
        end: dict[str, Any] = {"answered": False}
        try:
            end = {"answered": True, "seconds": await self._chain(post, message_id, policy, patience, pacing)}
        except DeliveryFailed as failure:
            refused = isinstance(failure, DeliveryRefused) if failure.attempts else None
            end = {"answered": refused, "hung": failure.reason == "timeout"}
            raise
        finally:
            bulkhead.leave(place, **end)

    async def _chain(
        self, post: Post, message_id: str, policy: RetryPolicy, patience: float, pacing: Pacing
    ) -> float:
        """Make a delivery; returns the seconds of the attempt that succeeded."""
        start = self._clock.seconds()
        limit = CHAIN_LIMIT if post.configured else CLIENT_PATIENCE
        destination = post.destination
        url, channel = (destination.configured_url, "") if post.configured else (None, post.connector)
        deadline = start + patience
        with (
            self._circuits.of_delivery(destination.origin, url, message_id, deadline, channel) as circuits,
            self._failed.of_delivery(post.connector, post.kind) as may_go_on,
            pacing as pace,
        ):
            clients = self._clients.pair(destination.rules)
            client = clients.pooled
            fault: Fault | None = None
            attempts = tries = limits = 0
            first_failure = last_failure = 0.0
            while True:
                if (turn := pace.enter()) is not None:
                    await turn
                try:
                    await circuits.enter()
                except CircuitOpen:
                    if fault is None:
                        # It is down since the delivery came, which may have waited long.
                        last_failure = self._wall_clock.now()
                        first_failure = last_failure - (self._clock.seconds() - start)
                    raise given_up(
                        destination, fault, attempts, first_failure, last_failure, is_open=True
                    ) from None
                attempts, began = attempts + 1, self._clock.seconds()
                counts = not (circuits.probe and circuits.is_open)
                with self._metrics.attempt(post.connector, post.kind) as made:
                    fault = await attempt(post, client, self._clock, self._wall_clock, pace.end)
                    made.result = "ok" if fault is None else fault.cause
                judge(circuits, fault)
                if fault is not None and fault.limited and post.configured:
                    # It says nothing about the message, which has its turn again.
                    attempts, fault = attempts - 1, None
                    self._metrics.retried(post.connector, post.kind, "http_429")
                    continue
                limited = fault is not None and fault.limited
                limits = limits + 1 if limited else 0
                tries += counts and not limited
                if fault is None:
                    self.log.info(
                        "Delivered to {origin}, attempt {attempt}",
                        origin=destination.origin,
                        attempt=attempts,
                        log_every=True,
                    )
                    return float(self._clock.seconds() - began)
                last_failure = self._wall_clock.now()
                first_failure = last_failure if attempts == 1 else first_failure
                delay = pause(fault.retry_after, limits) if limited else self._delay(fault, tries, policy)
                over = delay is not None and self._clock.seconds() + delay - start > limit
                go_on = fault.passing and may_go_on(circuits.asking)
                if over or not go_on:
                    delay = None
                # In doubt, one without patience is let through at once.
                waits = go_on and (circuits.asking if patience else circuits.is_open)
                self.log.warn(
                    "Delivery to {origin} failed: {reason}{quoted}; attempt {attempt}, {next}",
                    origin=destination.origin,
                    reason=str(fault),
                    quoted=fault.quoted,
                    attempt=attempts,
                    next="the next when its circuit lets it" if waits else _next(delay),
                )
                if not waits:
                    if delay is None:
                        raise given_up(
                            destination,
                            fault,
                            attempts,
                            first_failure,
                            last_failure,
                            is_open=circuits.asking,
                        )
                    await circuits.pause(delay)
                self._metrics.retried(post.connector, post.kind, fault.cause)
                # After a fault of the connection the others of the pool are suspects too: the host may be gone.
                client = clients.pooled if fault.status is not None else clients.fresh

    def _delay(self, fault: Fault, tries: int, policy: RetryPolicy) -> float | None:
        """Return the seconds until the next attempt; None when there is none."""
        if not fault.passing or tries > policy.max_retries:
            return None
        return policy.delay(max(0, tries - 1), self._rng) if fault.retry_after is None else fault.retry_after


def _next(delay: float | None) -> str:
    return "the last for now" if delay is None else f"the next in {round(delay, 3)} s"
