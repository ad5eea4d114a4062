"""Sender of events to the operators' URL, apart from all deliveries: nothing waits for it.

Tested by tests/integration/test_operator_events.py.
"""

from __future__ import annotations

import json
import socket
import uuid
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS

from junebug_turn.config import types
from junebug_turn.delivery.attempt import Post, attempt
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.http_client import Clients
from junebug_turn.delivery.signature import Webhook, signing_key
from junebug_turn.net.clocks import WALL_CLOCK
from junebug_turn.net.proxies import Proxies
from junebug_turn.net.tls import ClientTls
from junebug_turn.telemetry.metrics import Metrics

MAX_WAITING = 100
"""Events that wait to be sent; further ones are dropped."""

DELAYS = (1.0, 5.0, 25.0)
"""Seconds between the attempts at one event; after the last it is dropped."""

TIMEOUT = 10.0
"""Seconds of one attempt."""

STOP_LIMIT = 2.0
"""Seconds for the events that wait when the daemon stops."""


class Notifier:
    """Sender of events, one after the other.

    :param url: the operators' URL
    :param secrets: each signs the requests
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        url: str,
        secrets: str | tuple[str, ...] | None,
        *,
        proxies: Proxies,
        metrics: Metrics,
        delays: Sequence[float] = DELAYS,
    ) -> None:
        self._reactor = reactor
        self._destination = Destination.of(url, None)
        # Not those of the deliveries: their connections, circuits and limits are not for this.
        self._clients = Clients(reactor, ClientTls(), 1, proxies)
        self._metrics = metrics
        self._delays = delays
        self._waiting: deque[dict[str, Any]] = deque()
        self._sending: Deferred[None] | None = None
        self._failing = False
        self.use_secrets(secrets)

    def use_secrets(self, secrets: str | tuple[str, ...] | None) -> None:
        """Sign with these secrets from now on."""
        self._keys = tuple(signing_key(secret) for secret in types.each(secrets))

    def use_tls(self, policy: IPolicyForHTTPS) -> None:
        """Verify the certificate with this policy from now on."""
        self._clients.use_tls(policy, policy)

    def send(self, kind: str, text: str, *, minor: bool = False, **details: Any) -> None:
        """Send an event, after those that wait.

        :param text: for a person
        :param minor: whether it leaves half of the places to others
        """
        event = {
            "type": kind,
            "time": datetime.fromtimestamp(WALL_CLOCK.now(), UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "text": text,
            "details": details,
        }
        if len(self._waiting) >= (MAX_WAITING // 2 if minor else MAX_WAITING):
            self._metrics.operator_event("dropped")
            return
        self._waiting.append(event)
        if self._sending is None:
            sending = Deferred.fromCoroutine(self._send_all())
            sending.addErrback(self._failed)
            self._sending = None if sending.called else sending

    async def stop(self) -> None:
        """Send what waits, for a short time, and no more."""
        if self._sending is not None:
            # It has an errback, which logs what is no end of the time.
            await self._sending.addTimeout(STOP_LIMIT, self._reactor)
        for _ in range(len(self._waiting)):
            self._metrics.operator_event("dropped")
        self._waiting.clear()
        await self._clients.close()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("Fault in sending operator events", failure=failure)

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                sent = False
                try:
                    sent = await self._send(self._waiting.popleft())
                finally:
                    self._metrics.operator_event("sent" if sent else "dropped")
        finally:
            self._sending = None

    async def _send(self, event: dict[str, Any]) -> bool:
        """Make the attempts at one event; returns whether it was sent."""
        post = Post(
            destination=self._destination,
            body=json.dumps(event).encode(),
            timeout=TIMEOUT,
            webhook=Webhook(uuid.uuid4().hex, self._keys),
            configured=True,
            connector="",
            kind="operator",
        )
        for delay in (*self._delays, None):
            fault = await attempt(post, self._clients.pair(None).fresh, self._reactor)
            if fault is None:
                if self._failing:
                    self.log.info("operator_url takes events again")
                self._failing = False
                return True
            if not self._failing:
                self.log.warn(
                    "An operator event can't be sent to {origin}: {fault!s}; see operator_url",
                    origin=self._destination.origin,
                    fault=fault,
                )
            self._failing = True
            if delay is not None:
                await deferLater(self._reactor, delay)
        return False
