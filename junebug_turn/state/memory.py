"""Message store in the process's own memory: fast, lost at the process's end, and not shared."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Self, Unpack

import attrs
from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from junebug_turn.config import types
from junebug_turn.config.option import option
from junebug_turn.config.resolver import read_mapping
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state import packing
from junebug_turn.state.expiring import SWEEP_INTERVAL, ExpiringMap, Key, pack_key, unpack_key
from junebug_turn.state.journal import JournalEntries, shortened
from junebug_turn.state.message_store import MessageStore, OutboundRecord, StoreOptions
from junebug_turn.state.options import StoreConfig
from junebug_turn.telemetry.gauges import PartStats, StoreStats

MAX_BYTES = 128 * 1024 * 1024
"""Bytes of each kind of entries, by default: those of about 200,000 messages of a usual length."""

_LAST_OVERHEAD = 200
"""Bytes that the index of last messages takes for one: a text, and its place in a mapping."""

_LONGEST = 60
"""Characters of an address that stands in the index as it is."""


@frozen(kw_only=True)
class MemoryConfig(StoreConfig):
    """Options of the store in memory."""

    max_entries: int = option(
        types.whole(1, 10**9), "How many messages of each kind are kept; the oldest go first.", 1_000_000
    )
    max_bytes: int = option(
        types.whole(1024, 10**12),
        "How many bytes of memory the messages of each kind take at most; the oldest go first.",
        MAX_BYTES,
    )


class MemoryStore(MessageStore):
    """A message store in memory.

    :param max_entries: bound for inbound messages, for outbound ones, for messages with events, for notes and for
        messages with steps, each
    :param max_bytes: bound for the memory of each
    :param option: the prefix of the options' names, for the warning of a full store
    :param options: those of ``MessageStore``; ``remember_last`` costs memory

    :ivar inbound: the inbound messages, with counters of hits, misses and evictions
    :ivar outbound: the same for outbound messages
    :ivar events: the same for messages that have events
    :ivar notes: the same for notes
    :ivar steps: the same for messages whose steps are known
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        max_entries: int = 1_000_000,
        max_bytes: int = MAX_BYTES,
        option: str = "state_cache",
        **options: Unpack[StoreOptions],
    ) -> None:
        super().__init__(**options)
        self._last: dict[Key, Key] = {}
        settings: dict[str, Any] = {
            "ttl": self._timeout,
            "max_entries": max_entries,
            "max_bytes": max_bytes,
            "hint": f"raise max_entries or max_bytes of {option}_config, or shorten its timeout",
        }
        if self._remember_last:
            last: dict[str, Any] = {"on_drop": self._forget_last, "overhead": _LAST_OVERHEAD}
            self.inbound = ExpiringMap(clock, **last, **settings)
        else:
            self.inbound = ExpiringMap(clock, **settings)
        self.outbound = ExpiringMap(clock, **settings)
        self.events = ExpiringMap(clock, **settings)
        self.notes = ExpiringMap(clock, **settings)
        self.steps = ExpiringMap(clock, **settings)
        self._maps = (self.inbound, self.outbound, self.events, self.notes, self.steps)
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, option: str, connector: str, clock: Any, remember_last: bool
    ) -> Self:
        options = attrs.asdict(read_mapping(MemoryConfig, config, f"{option}_config."), recurse=False)
        return cls(clock, remember_last=remember_last, option=option, **options)

    async def start(self) -> None:
        # Its Deferred is dropped: nobody waits for it, and the log gets a failure.
        self._sweeping.start(SWEEP_INTERVAL, now=False)

    def stats(self) -> StoreStats:
        # The label of the notes is from the time when only Turn's menus were noted.
        parts = {
            "inbound": self.inbound,
            "outbound": self.outbound,
            "events": self.events,
            "menus": self.notes,
            "steps": self.steps,
        }
        return StoreStats(
            {
                name: PartStats(len(part), part.size, part.hits, part.misses, part.evictions)
                for name, part in parts.items()
            }
        )

    def journal_entries(self) -> MemorySteps:
        return MemorySteps(self.steps)

    async def stop(self) -> None:
        if self._sweeping.running:
            self._sweeping.stop()
        self._last.clear()
        for part in self._maps:
            part.clear()

    async def store_inbound(self, message: Message) -> None:
        key = pack_key(message.message_id)
        before = self.inbound.put(key, packing.pack_message(message))
        if not self._remember_last:
            return
        if before is not None:
            if packing.packed_from_addr(before) == message.from_addr:
                return
            self._forget_last(key, before)
        if message.from_addr is not None and key in self.inbound:
            self._last[_pack_address(message.from_addr)] = key

    async def fetch_inbound(self, message_id: str) -> Message | None:
        return self._fetch_inbound(pack_key(message_id))

    async def fetch_last_inbound(self, from_addr: str) -> Message | None:
        key = self._last.get(_pack_address(from_addr))
        if key is None:
            self.inbound.misses += 1
            return None
        return self._fetch_inbound(key)

    def _fetch_inbound(self, key: Key) -> Message | None:
        packed = self.inbound.get(key)
        return None if packed is None else packing.unpack_message(unpack_key(key), packed)

    async def store_outbound(self, record: OutboundRecord) -> None:
        self.outbound.put(pack_key(record.message_id), packing.pack_outbound(self._stored(record)))

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
        return None if packed is None else strictjson.loads_stored(packed)

    def _sweep(self) -> None:
        for part in self._maps:
            part.sweep()

    def _forget_last(self, key: Key, packed: bytes) -> None:
        """Take ``key`` out of the index, if it is still the last one of its address."""
        addr = packing.packed_from_addr(packed)
        if addr is not None and self._last.get(_pack_address(addr)) == key:
            del self._last[_pack_address(addr)]


class MemorySteps(JournalEntries):
    """Steps of messages in memory."""

    def __init__(self, steps: ExpiringMap) -> None:
        self._steps = steps

    async def append(self, lines: Mapping[str, bytes]) -> None:
        for message_id, more in lines.items():
            key = pack_key(message_id)
            self._steps.put(key, shortened((self._steps.get(key) or b"") + more))

    async def fetch(self, message_id: str) -> bytes:
        return self._steps.get(pack_key(message_id)) or b""


def _pack_address(addr: str) -> Key:
    """Return an address as a key of the index; a long one, which is nobody's, takes no more room than others."""
    return addr if len(addr) <= _LONGEST else sha256(addr.encode("utf-8", "surrogatepass")).digest()
