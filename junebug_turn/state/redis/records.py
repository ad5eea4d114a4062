"""Records of a channel in a Redis, in Junebug's keys:

- ``<channel>:status``: a hash of the statuses, component -> vumi's JSON, without expiry
- ``<channel>:<name>:<number>``: a counter; the number is that of its window, the Unix seconds divided by its length

Tested by tests/unit/state/test_channel_records.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from junebug_turn.errors import CacheError, UnreadableMessage
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import TransportStatus
from junebug_turn.state.channel_records import COUNTED, MAX_COMPONENTS, ChannelRecords
from junebug_turn.state.redis import scripts

FLUSH_INTERVAL = 1.0
"""Seconds for which counts are gathered, so that a message costs no command."""


class RedisRecords(ChannelRecords):
    """Records in a Redis.

    :param clock: the reactor
    :param evaluate: runs a script: its text, the key, the arguments
    :param channel: the beginning of the keys, without the colon
    """

    log = Logger()

    def __init__(
        self, clock: Any, evaluate: Callable[..., Awaitable[Any]], channel: str, window: float, **options: Any
    ) -> None:
        super().__init__(window, **options)
        self._clock = clock
        self._evaluate = evaluate
        self._channel = channel
        self._counts: Counter[str] = Counter()
        self._flushing: IDelayedCall | None = None

    def count(self, name: str) -> None:
        self._counts[self._key(name, self._number())] += 1
        if self._flushing is None:
            self._flushing = self._clock.callLater(FLUSH_INTERVAL, self._flush_in_background)

    def stop(self) -> None:
        """Drop the counts that are not in Redis yet: a second's, of a number that nobody needs to be exact."""
        self._counts.clear()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    def _flush_in_background(self) -> None:
        self._flushing = None
        Deferred.fromCoroutine(self._flush())

    async def _flush(self) -> None:
        counts, self._counts = self._counts, Counter()
        ttl = math.ceil(2 * self._window)
        for key, number in counts.items():
            # Those that can't be stored are lost: the store's own warning says that it is away, or it is stopped.
            with suppress(CacheError, CancelledError):
                await self._evaluate(scripts.ADD_COUNT, key, number, ttl)

    async def fetch_rates(self) -> Mapping[str, float]:
        await self._flush()
        last = self._number() - 1
        found = await self._evaluate(scripts.FETCH_COUNTS, *(self._key(name, last) for name in COUNTED))
        return {name: int(count or 0) / self._window for name, count in zip(COUNTED, found, strict=True)}

    def _key(self, name: str, number: int) -> str:
        return f"{self._channel}:{name}:{number}"

    async def store_status(self, status: TransportStatus) -> None:
        key = f"{self._channel}:status"
        await self._evaluate(scripts.STORE_STATUS, key, status.component, status.to_json(), MAX_COMPONENTS)

    async def fetch_statuses(self) -> Mapping[str, TransportStatus]:
        fields = await self._evaluate(scripts.FETCH_STATUSES, f"{self._channel}:status")
        statuses: dict[str, TransportStatus] = {}
        for value in fields[1::2]:
            try:
                status = TransportStatus.from_json(value, strictjson.loads_stored)
                statuses[status.component] = status
            except UnreadableMessage as error:
                self.log.warn("a status in the cache is left out: {error!s}", error=error)
        return statuses
