"""Status of channels, as the HTTP API shows it.

Tested by tests/integration/test_channels.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.logger import Logger

from junebug_turn.amqp.broker import Broker

RATES = (
    "inbound_message_rate",
    "outbound_message_rate",
    "submitted_event_rate",
    "rejected_event_rate",
    "delivery_succeeded_rate",
    "delivery_failed_rate",
    "delivery_pending_rate",
)

_WORST_FIRST = ("down", "degraded", "ok")


class ChannelStatus:
    """Status of channels: the transport's side, seen at the broker."""

    log = Logger()

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def of(self, channel: str) -> Mapping[str, Any]:
        """Return the status of a channel: its components, the worst of them, and its rates."""
        components: dict[str, Mapping[str, Any]] = {}
        consumers = await self._broker.count_consumers(f"{channel}.outbound")
        if consumers is not None:
            components["transport"] = transport(channel, consumers)
        return {
            "status": worst(str(each["status"]) for each in components.values()),
            "components": components,
            **dict.fromkeys(RATES, 0),
        }


def transport(channel: str, consumers: int) -> Mapping[str, Any]:
    """Return the component for the transport, by the number of consumers of the channel's outbound queue."""
    up = consumers > 0
    return {
        "channel_id": channel,
        "component": "transport",
        "status": "ok" if up else "down",
        "type": "consuming" if up else "not_consuming",
        "message": f"{channel}.outbound is consumed"
        if up
        else f"nobody consumes {channel}.outbound: start the transport of this channel",
        "details": {"consumers": consumers},
    }


def worst(statuses: Iterable[str]) -> str | None:
    """Return the worst of some statuses; None where there is none."""
    found = set(statuses)
    return next((status for status in _WORST_FIRST if status in found), None)
