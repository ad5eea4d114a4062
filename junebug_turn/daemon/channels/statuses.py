"""The consumers of the statuses that the transports of channels publish: one for each channel of the store.

Tested by tests/integration/test_transport_status.py.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from twisted.logger import Logger

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.part import BrokerPart
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.applications.junebug.status import TransportStatuses
from junebug_turn.daemon.channels.running import STOP_TIMEOUT, Parts, Work
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.errors import DeliveryRefused, InvalidBody
from junebug_turn.state.channel_store import Definition


class StatusConsumers:
    """The consumers; a channel has one also where it has no application, as one of a router."""

    log = Logger()

    def __init__(self, parts: Parts, settings: ChannelsSettings) -> None:
        self._parts = parts
        self._settings = settings
        self._running: dict[str, tuple[Definition, BrokerPart, TransportStatuses]] = {}

    def apply(
        self, channels: Mapping[str, Definition], end: Callable[[Coroutine[Any, Any, None]], None]
    ) -> list[Work]:
        """Consume the statuses of these channels, and of no other; returns what declares the queues that are new.

        :param channels: id -> definition
        :param end: waits for the end of a consumer
        """
        for id in self._running.keys() - channels.keys():
            end(self._running.pop(id)[1].stop(STOP_TIMEOUT))
        preparing: list[Work] = []
        for id, definition in channels.items():
            running = self._running.get(id)
            if running is not None and running[0] is definition:
                continue
            options = self._options(id, definition)
            if running is None:
                part = BrokerPart(self._parts.broker)
                store = self._parts.messages.sibling(id)
                services = self._parts.services(options, store, cast(Broker, part), id)
                statuses = TransportStatuses(options, services)
                preparing.append((id, part.prepare))
            else:
                _, part, statuses = running
                statuses.use(options)
            self._running[id] = definition, part, statuses
        return preparing

    def faults(self, id: str) -> list[str]:
        """Return why the queue of a channel's statuses can't be used; empty where it can, or there is none."""
        return self._running[id][1].faults() if id in self._running else []

    def renew(self) -> None:
        """Sign with the secret of the settings from now on."""
        for id, (definition, _, statuses) in self._running.items():
            statuses.use(self._options(id, definition))

    def _options(self, id: str, definition: Definition) -> JunebugOptions:
        try:
            return self._settings.statuses(id, definition.properties)
        except (InvalidBody, DeliveryRefused) as error:
            self.log.error(
                "The statuses of channel {id} are not delivered: {error}", id=id, error=error, channel=id
            )
            return self._settings.statuses(id, {})
