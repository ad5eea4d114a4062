"""The runner of routers: it makes those that run the same as those that the store has.

Tested by tests/integration/test_routers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from junebug_turn.daemon.channels.patterns import read_pattern
from junebug_turn.daemon.channels.running import Parts, RunningRouter, Work
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.state.channel_store import DESTINATIONS, ROUTERS, Definition, Definitions, Key
from junebug_turn.telemetry.logging.channel_logs import ChannelLogs

FROM_ADDRESS = "from_address"
"""The one type of router that there is."""


@define(eq=False)
class RouterRunner:
    """Starts and stops routers as their definitions change, those of their destinations, and their channel's."""

    settings: ChannelsSettings
    parts: Parts
    logs: ChannelLogs
    _routers: dict[str, tuple[tuple[Any, ...], RunningRouter | None]] = field(factory=dict, init=False)

    log = Logger()

    def apply(self, definitions: Definitions, end: Callable[[Coroutine[Any, Any, None]], None]) -> list[Work]:
        """Run the routers of ``definitions``, and no other; returns what declares the queues that are new.

        :param end: waits for the end of a router
        """
        wanted = {
            key.id: (found, why_not(found, definitions), *destinations(key.id, definitions).values())
            for key, found in definitions.items()
            if key.kind == ROUTERS
        }
        for id in [id for id, (made_of, _) in self._routers.items() if wanted.get(id) != made_of]:
            _, running = self._routers.pop(id)
            if running is not None:
                end(running.stop())
            if id not in wanted:
                self.logs.remove(id)
        preparing: list[Work] = []
        for id in [id for id in wanted if id not in self._routers]:
            self.logs.add(id)
            made = self._run(id, definitions)
            self._routers[id] = (wanted[id], made)
            if made is not None:
                preparing.append((id, made.prepare))
        return preparing

    def faults(self, id: str) -> list[str]:
        """Return why some queues of a router can't be used; empty where it doesn't run."""
        _, running = self._routers.get(id, ((), None))
        return [] if running is None else running.faults()

    def _run(self, id: str, definitions: Definitions) -> RunningRouter | None:
        router = definitions[Key.of_router(id)]
        reason = why_not(router, definitions)
        options = self.settings.channel(channel_of(router.properties), {"mo_url": None})
        if reason is not None or options is None:
            self.log.error("router {id} can't run: {reason}", id=id, reason=reason, channel=id)
            return None
        patterns = {}
        for name, found in destinations(id, definitions).items():
            try:
                patterns[name] = read_pattern(found.properties)
            except ValueError as error:
                self.log.error(
                    "destination {name} gets no messages: {error}", name=name, error=error, channel=id
                )
        return RunningRouter(self.parts, id, options, patterns)


def why_not(router: Definition, definitions: Definitions) -> str | None:
    """Return why a router can't run; None where it can."""
    type, channel = router.properties.get("type"), channel_of(router.properties)
    if type != FROM_ADDRESS:
        return f"Invalid router type {str(type)[:100]}, must be one of: {FROM_ADDRESS}"
    found = definitions.get(Key.channel(channel))
    if found is None:
        return f"Channel {channel} does not exist"
    if found.properties.get("mo_url") or found.properties.get("amqp_queue"):
        return f"Channel {channel} already has a destination specified"
    return None


def channel_of(router: Mapping[str, Any]) -> str:
    """Return the id of the channel that a router's properties name; empty where they name none."""
    config = router.get("config")
    channel = config.get("channel") if isinstance(config, Mapping) else None
    return channel if isinstance(channel, str) else ""


def destinations(router: str, definitions: Definitions) -> dict[str, Definition]:
    """Return the destinations of a router, by their ids."""
    return {
        key.id: found
        for key, found in definitions.items()
        if key.kind == DESTINATIONS and key.router == router
    }
