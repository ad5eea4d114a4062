"""Status of channels, as the HTTP API shows it.

Tested by tests/integration/test_channels.py and tests/integration/test_transport_status.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from junebug_turn.amqp.broker import Broker
from junebug_turn.applications.junebug.status import channel_status
from junebug_turn.errors import CacheError
from junebug_turn.state.channel_records import ChannelRecords, MemoryRecords


@frozen
class ChannelStatus:
    """Status of channels: what their transports have told, the transports' side at the broker, and rates.

    :ivar records: returns the records of a channel
    """

    broker: Broker
    records: Callable[[str], ChannelRecords]

    async def of(self, channel: str) -> Mapping[str, Any]:
        """Return the status of a channel; while its records can't be read, without what they have."""
        consumers = await self.broker.count_consumers(f"{channel}.outbound")
        try:
            return await channel_status(channel, self.records(channel), consumers)
        except CacheError:
            return await channel_status(channel, MemoryRecords(1), consumers)
