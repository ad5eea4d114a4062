"""Health of the daemon, made of the state of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from junebug_turn.amqp.broker import Broker
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.state.message_store import MessageStore


class Vitals:
    """Reads the state of the parts.

    :param caches: connector -> its cache
    """

    log = Logger()

    def __init__(self, broker: Broker, deliverer: Deliverer, caches: Mapping[str, MessageStore]) -> None:
        self._broker = broker
        self._deliverer = deliverer
        self._caches = caches
        self._queues: Mapping[str, tuple[int, int]] = {}

    def health(self) -> Mapping[str, Mapping[str, Any]]:
        """The state of each component.

        amqp is well when it is connected, can publish and all consumers are live.  A destination or a cache that is
        down makes us not less healthy: nothing is lost, and starting us again would help nobody.
        """
        amqp = self._broker.status()
        well = amqp["connected"] and amqp["publishing"] and all(amqp["consumers"].values())
        degraded = self._deliverer.degraded()
        state = "degraded" if degraded else "ok"
        caches = {connector: cache.status() for connector, cache in self._caches.items()}
        cached = all(status["ok"] for status in caches.values())
        return {
            "amqp": {"ok": well, **amqp},
            "destinations": {"ok": True, "state": state, "origins": degraded},
            "cache": {"ok": True, "state": "ok" if cached else "degraded", "connectors": caches},
        }

    def queues(self) -> Mapping[str, tuple[int, int]]:
        """Queue -> messages that wait in it, consumers that it has, as they were counted last."""
        return self._queues

    async def count(self) -> None:
        """Ask the broker for the lengths of the queues."""
        try:
            self._queues = await self._broker.count_queues()
        except Exception as fault:
            # Old numbers would look like good news.
            self._queues = {}
            self.log.debug("The queues can't be counted: {reason}", reason=type(fault).__name__)
