"""The cache in the process's own memory: fast, forgotten at its end, and not shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state import checks, packing
from junebug_turn.state.checks import DAY
from junebug_turn.state.expiring import SWEEP_INTERVAL, ExpiringMap, Key, pack_key, unpack_key
from junebug_turn.state.message_store import MessageStore, OutboundRecord
from junebug_turn.telemetry.gauges import PartStats, StoreStats


class MemoryStore(MessageStore):
    """A cache of messages in memory.

    :param timeout: seconds for which a message is kept
    :param store_event_info: whether event URLs and tokens are kept
    :param max_entries: bound for inbound messages, for outbound ones, for messages with events and for notes, each
    :param remember_last: whether the last message of an address can be fetched, which costs memory
    :param option: what the options' names begin with, for the warning of a full cache

    :ivar inbound: the inbound messages, with counters of hits, misses and evictions
    :ivar outbound: the same of the outbound ones
    :ivar events: the same of the messages that events have come for
    :ivar notes: the same of the notes, which the metrics call menus
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        timeout: float = DAY,
        store_event_info: bool = True,
        max_entries: int = 1_000_000,
        remember_last: bool = False,
        option: str = "state_cache",
    ) -> None:
        self._store_event_info = store_event_info
        self._remember_last = remember_last
        self._last: dict[str, Key] = {}
        hint = f"raise {option}_config.max_entries, or shorten {option}_config.timeout"
        self.inbound = ExpiringMap(
            clock,
            ttl=timeout,
            max_entries=max_entries,
            hint=hint,
            on_drop=self._forget_last if remember_last else None,
        )
        self.outbound = ExpiringMap(clock, ttl=timeout, max_entries=max_entries, hint=hint)
        self.events = ExpiringMap(clock, ttl=timeout, max_entries=max_entries, hint=hint)
        self.notes = ExpiringMap(clock, ttl=timeout, max_entries=max_entries, hint=hint)
        self._stores = (self.inbound, self.outbound, self.events, self.notes)
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        option: str,
        connector: str,
        clock: IReactorTime,
        remember_last: bool = False,
    ) -> Self:
        options = checks.read_options(config, option, _CHECKS)
        return cls(clock, remember_last=remember_last, option=option, **options)

    async def start(self) -> None:
        # It only looks at the oldest entries, and has nobody to tell of a failure but the log.
        self._sweeping.start(SWEEP_INTERVAL, now=False)

    def stats(self) -> StoreStats:
        stores = {"inbound": self.inbound, "outbound": self.outbound, "menus": self.notes}
        return StoreStats(
            {
                part: PartStats(len(store), store.hits, store.misses, store.evictions)
                for part, store in stores.items()
            }
        )

    async def stop(self) -> None:
        if self._sweeping.running:
            self._sweeping.stop()
        self._last.clear()
        for store in self._stores:
            store.clear()

    async def store_inbound(self, message: Message) -> None:
        key = pack_key(message.message_id)
        before = self.inbound.put(key, packing.pack_message(message))
        if not self._remember_last:
            return
        if before is not None:
            if packing.packed_from_addr(before) == message.from_addr:
                return
            self._forget_last(key, before)
        if message.from_addr is not None:
            self._last[message.from_addr] = key

    async def fetch_inbound(self, message_id: str) -> Message | None:
        return self._fetch_inbound(pack_key(message_id))

    async def fetch_last_inbound(self, from_addr: str) -> Message | None:
        key = self._last.get(from_addr)
        if key is None:
            self.inbound.misses += 1
            return None
        return self._fetch_inbound(key)

    def _fetch_inbound(self, key: Key) -> Message | None:
        packed = self.inbound.get(key)
        return None if packed is None else packing.unpack_message(unpack_key(key), packed)

    async def store_outbound(self, record: OutboundRecord) -> None:
        if not self._store_event_info:
            record = record.without_event_info()
        self.outbound.put(pack_key(record.message_id), packing.pack_outbound(record))

    async def fetch_outbound(self, message_id: str) -> OutboundRecord | None:
        packed = self.outbound.get(pack_key(message_id))
        return None if packed is None else packing.unpack_outbound(message_id, packed)

    async def store_event(self, event: Event) -> None:
        key = pack_key(event.user_message_id)
        self.events.put(key, packing.add_event(self.events.get(key), event))

    async def fetch_events(self, message_id: str) -> list[Event]:
        packed = self.events.get(pack_key(message_id))
        return [] if packed is None else packing.unpack_events(message_id, packed)

    async def store_note(self, address: str, value: Any) -> None:
        if value is None:
            self.notes.remove(address)
        else:
            self.notes.put(address, strictjson.dumps(value))

    async def fetch_note(self, address: str) -> Any:
        packed = self.notes.get(address)
        return None if packed is None else strictjson.loads(packed)

    def _sweep(self) -> None:
        for store in self._stores:
            store.sweep()

    def _forget_last(self, key: Key, packed: bytes) -> None:
        """Take ``key`` out of the index, if it is still the last one of its address."""
        addr = packing.packed_from_addr(packed)
        if addr is not None and self._last.get(addr) == key:
            del self._last[addr]


_CHECKS = {
    "timeout": checks.seconds,
    "store_event_info": checks.boolean,
    "max_entries": checks.count,
}
