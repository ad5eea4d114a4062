"""The cache in the process's own memory: fast, forgotten at its end, and not shared."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Self

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from junebug_turn import strictjson
from junebug_turn.caches.interface import Cache, Outbound
from junebug_turn.caches.store import SWEEP_INTERVAL, ExpiringStore, Key, pack_key, unpack_key
from junebug_turn.errors import ConfigError
from junebug_turn.menus import Choice, Menu
from junebug_turn.messages import Message, format_timestamp, parse_timestamp

DAY = 24 * 60 * 60.0

# An entry is the JSON array of a message's fields; the id is its key, and the time needs a form of its own.
_FIELDS = tuple(name for name in attrs.fields_dict(Message) if name not in ("message_id", "timestamp"))
_values = attrgetter(*_FIELDS)
_FROM_ADDR = 1 + _FIELDS.index("from_addr")


def _pack(message: Message) -> bytes:
    return strictjson.dumps([format_timestamp(message.timestamp), *_values(message)])


def _unpack(key: Key, packed: bytes) -> Message:
    timestamp, *values = strictjson.loads(packed)
    fields = dict(zip(_FIELDS, values, strict=True))
    return Message(message_id=unpack_key(key), timestamp=parse_timestamp(timestamp), **fields)


def _from_addr(packed: bytes) -> str | None:
    addr: str | None = strictjson.loads(packed)[_FROM_ADDR]
    return addr


class MemoryCache(Cache):
    """A cache of messages in memory.

    :param timeout: seconds for which a message is kept
    :param store_event_info: whether event URLs and tokens are kept
    :param max_entries: bound for inbound messages, for outbound ones and for menus, each
    :param by_address: whether the last message of an address can be fetched, which costs memory
    :param option: what the options' names begin with, for the warning of a full cache

    :ivar inbound: the inbound messages, with counters of hits, misses and evictions
    :ivar outbound: the same of the outbound ones
    :ivar menus: the same of the menus that wait for an answer
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        timeout: float = DAY,
        store_event_info: bool = True,
        max_entries: int = 1_000_000,
        by_address: bool = True,
        option: str = "state_cache",
    ) -> None:
        self._store_event_info = store_event_info
        self._by_address = by_address
        self._last: dict[str, Key] = {}
        hint = f"raise {option}_config.max_entries, or shorten {option}_config.timeout"
        self.inbound = ExpiringStore(
            clock,
            ttl=timeout,
            max_entries=max_entries,
            hint=hint,
            on_drop=self._forget_last if by_address else None,
        )
        self.outbound = ExpiringStore(clock, ttl=timeout, max_entries=max_entries, hint=hint)
        self.menus = ExpiringStore(clock, ttl=timeout, max_entries=max_entries, hint=hint)
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, option: str, connector: str, clock: IReactorTime
    ) -> Self:
        options = _options(config, option)
        return cls(clock, by_address=option == "message_cache", option=option, **options)

    async def start(self) -> None:
        # It only looks at the oldest entries, and has nobody to tell of a failure but the log.
        self._sweeping.start(SWEEP_INTERVAL, now=False)

    def stats(self) -> dict[str, tuple[int, int]]:
        stores = {"inbound": self.inbound, "outbound": self.outbound, "menus": self.menus}
        return {part: (len(store), store.evictions) for part, store in stores.items()}

    async def stop(self) -> None:
        if self._sweeping.running:
            self._sweeping.stop()
        self._last.clear()
        self.inbound.clear()
        self.outbound.clear()
        self.menus.clear()

    async def store_inbound(self, message: Message) -> None:
        key = pack_key(message.message_id)
        before = self.inbound.put(key, _pack(message))
        if not self._by_address:
            return
        if before is not None:
            if _from_addr(before) == message.from_addr:
                return
            self._forget_last(key, before)
        if message.from_addr is not None:
            self._last[message.from_addr] = key

    async def fetch_inbound(self, message_id: str) -> Message | None:
        return self._fetch_inbound(pack_key(message_id))

    async def fetch_last_inbound(self, from_addr: str) -> Message | None:
        key = self._last.get(from_addr)
        return None if key is None else self._fetch_inbound(key)

    def _fetch_inbound(self, key: Key) -> Message | None:
        packed = self.inbound.get(key)
        return None if packed is None else _unpack(key, packed)

    async def store_outbound(
        self, message: Message, event_url: str | None, event_auth_token: str | None
    ) -> None:
        event_info = (event_url, event_auth_token) if self._store_event_info else (None, None)
        self.outbound.put(pack_key(message.message_id), strictjson.dumps([message.to_addr, *event_info]))

    async def fetch_outbound(self, message_id: str) -> Outbound | None:
        packed = self.outbound.get(pack_key(message_id))
        return None if packed is None else Outbound(*strictjson.loads(packed))

    async def store_menu(self, address: str, menu: Menu | None) -> None:
        if menu is None:
            self.menus.remove(address)
        else:
            choices = [attrs.astuple(choice) for choice in menu.choices]
            self.menus.put(address, strictjson.dumps([menu.answered_by, choices]))

    async def fetch_menu(self, address: str) -> Menu | None:
        packed = self.menus.get(address)
        if packed is None:
            return None
        answered_by, choices = strictjson.loads(packed)
        return Menu(tuple(Choice(*choice) for choice in choices), answered_by)

    def _sweep(self) -> None:
        self.inbound.sweep()
        self.outbound.sweep()
        self.menus.sweep()

    def _forget_last(self, key: Key, packed: bytes) -> None:
        """Take ``key`` out of the index, if it is still the last one of its address."""
        addr = _from_addr(packed)
        if addr is not None and self._last.get(addr) == key:
            del self._last[addr]


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 10**9


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_CHECKS = {
    "timeout": (_is_seconds, "a number of seconds, greater than 0 and at most 10**9"),
    "store_event_info": (lambda value: isinstance(value, bool), "true or false"),
    "max_entries": (_is_count, "a whole number greater than 0"),
}


def _options(config: Mapping[str, Any], option: str) -> dict[str, Any]:
    """``config``, checked.

    :raises ConfigError: a line for each fault
    """
    lines = []
    for key, value in config.items():
        if key not in _CHECKS:
            lines.append(f"{option}_config.{key}: unknown option; known are {', '.join(_CHECKS)}")
        elif not _CHECKS[key][0](value):
            lines.append(f"{option}_config.{key}: must be {_CHECKS[key][1]}")
    if lines:
        raise ConfigError(*lines)
    return dict(config)
