"""Pausing of connectors: their inbound messages and events wait in their queues until an operator resumes them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from junebug_turn.amqp.broker import Broker
from junebug_turn.errors import CacheError
from junebug_turn.state.connector_settings import ConnectorSettings

FOLLOW_INTERVAL = 5.0
"""Seconds between two looks at the stores, for what other processes have paused or resumed."""

FOLLOWED_AT_ONCE = 100
"""Connectors that are looked at then, at most."""

KINDS = ("inbound", "event")
SETTING = "paused"


class Pausing:
    """Pauses and resumes connectors, and remembers in their stores which are paused.

    A store that several processes share has all of them pause.  What can't be stored now is stored later.

    :param connectors: returns the names of all connectors
    :param settings: returns the settings of a connector
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        broker: Broker,
        connectors: Callable[[], Collection[str]],
        settings: Callable[[str], ConnectorSettings],
    ) -> None:
        self._broker = broker
        self._connectors = connectors
        self._settings = settings
        self._paused: set[str] = set()
        # As the stores had it last.
        self._stored: dict[str, bool] = {}
        self._unstored: set[str] = set()
        self._orders = 0
        self._next = 0
        self._following = LoopingCall(lambda: Deferred.fromCoroutine(self._follow()))
        self._following.clock = clock

    def is_paused(self, connector: str) -> bool:
        """Tell whether a connector is paused."""
        return connector in self._paused

    async def start(self) -> None:
        """Pause what was paused when the process before ended; then follow the stores."""
        looks = [Deferred.fromCoroutine(self._look(name)) for name in self._connectors()]
        await gatherResults(looks)
        self._following.start(FOLLOW_INTERVAL, now=False)

    def stop(self) -> None:
        """Follow the stores no more."""
        if self._following.running:
            self._following.stop()

    async def pause(self, connector: str, paused: bool) -> bool:
        """Pause a connector, or resume it; returns whether its store has it, so that it outlives the process."""
        self._orders += 1
        self._apply(connector, paused)
        self._unstored.add(connector)
        await self._store(connector)
        return connector not in self._unstored and self._settings(connector).kept

    async def _follow(self) -> None:
        names = list(self._connectors())
        some = names[self._next : self._next + FOLLOWED_AT_ONCE]
        self._next = self._next + len(some) if self._next + len(some) < len(names) else 0
        for name in some:
            await self._look(name)

    async def _look(self, connector: str) -> None:
        """Do what the store of a connector says, where that is new."""
        if connector in self._unstored:
            await self._store(connector)
            return
        settings = self._settings(connector)
        if not settings.kept:
            return
        orders = self._orders
        try:
            stored = await settings.fetch(SETTING) is True
        except CacheError:
            return  # the store's monitor has logged it
        # An order that came meanwhile is newer than the answer.
        if orders != self._orders or stored == self._stored.get(connector, False):
            return
        self._stored[connector] = stored
        if stored != self.is_paused(connector):
            self._apply(connector, stored)

    async def _store(self, connector: str) -> None:
        paused = self.is_paused(connector)
        try:
            await self._settings(connector).store(SETTING, True if paused else None)
        except CacheError:
            return  # the store's monitor has logged it
        self._stored[connector] = paused
        if paused == self.is_paused(connector):
            self._unstored.discard(connector)

    def _apply(self, connector: str, paused: bool) -> None:
        if paused == self.is_paused(connector):
            return
        (self._paused.add if paused else self._paused.discard)(connector)
        if paused:
            text = (
                "Paused {connector}: its inbound messages and events wait in their queues until it is resumed"
            )
            self.log.warn(text, connector=connector, log_every=True)
        else:
            self.log.info("Resumed {connector}", connector=connector, log_every=True)
        switching = Deferred.fromCoroutine(
            self._broker.pause([f"{connector}.{kind}" for kind in KINDS], paused)
        )
        switching.addErrback(
            lambda failure: self.log.failure(
                "could not pause or resume {connector}", failure, connector=connector
            )
        )
