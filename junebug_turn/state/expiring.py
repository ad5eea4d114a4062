"""A bounded mapping in memory whose entries expire."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from struct import Struct
from typing import Any

from twisted.logger import Logger

SWEEP_INTERVAL = 1.0
"""Seconds between two looks at the entries of a store that nobody uses."""

SWEEP_SIZE = 2000
"""Entries that one look removes at most: some milliseconds of the reactor's time."""

WARN_INTERVAL = 60.0
"""Seconds between two warnings of a full store."""

# In front of each value stands the time of its expiry: a float object of its own would cost 24 bytes more.
_DEADLINE = Struct("=d")

# Two for each one that comes: so what has expired goes faster than new entries come.
_DROPPED_AT_ONCE = 2

Key = str | bytes


def pack_key(name: str) -> Key:
    """The 16 bytes of an id in 32 hexadecimal digits, as nearly all are; any other name as it is."""
    if len(name) == 32 and name.isascii():
        try:
            key = bytes.fromhex(name)
        except ValueError:
            return name
        # fromhex also reads capitals and blanks, which are other names.
        if key.hex() == name:
            return key
    return name


def unpack_key(key: Key) -> str:
    """The name that ``pack_key`` made ``key`` of."""
    return key if isinstance(key, str) else key.hex()


class ExpiringMap:
    """Bytes by key, each kept for ``ttl`` seconds; at most ``max_entries``, the oldest go first.

    All entries live equally long, so the order of storing is the order of expiry, and every operation costs
    the same however many entries there are.

    :param on_drop: called with key and value of an entry that expired or had to go
    :param hint: what an operator can do about a full store

    :ivar evictions: how many entries had to go before their time
    :ivar hits: how many were asked for and found
    :ivar misses: how many were asked for in vain
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        *,
        ttl: float,
        max_entries: int,
        hint: str,
        on_drop: Callable[[Key, bytes], None] | None = None,
    ) -> None:
        self._clock = clock
        self._ttl = ttl
        self._max_entries = max_entries
        self._hint = hint
        self._on_drop = on_drop
        self._entries: OrderedDict[Key, bytes] = OrderedDict()
        self._warned: float | None = None
        self._evictions_told = 0
        self.evictions = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: Key, value: bytes) -> bytes | None:
        """Store ``value``; returns the one that stood there, if it has not expired."""
        now = self._clock.seconds()
        self._drop_expired(now, _DROPPED_AT_ONCE)
        old = self._entries.pop(key, None)
        if old is None and len(self._entries) >= self._max_entries:
            self._evict(now)
        self._entries[key] = _DEADLINE.pack(now + self._ttl) + value
        if old is None:
            return None
        if _expired(old, now):
            self._dropped(key, old)
            return None
        return old[_DEADLINE.size :]

    def get(self, key: Key) -> bytes | None:
        """The value of ``key``, if it has not expired."""
        now = self._clock.seconds()
        self._drop_expired(now, _DROPPED_AT_ONCE)
        entry = self._entries.get(key)
        if entry is None or _expired(entry, now):
            self.misses += 1
            return None
        self.hits += 1
        return entry[_DEADLINE.size :]

    def remove(self, key: Key) -> None:
        """Forget ``key``, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._dropped(key, entry)

    def sweep(self) -> None:
        """Remove expired entries, at most ``SWEEP_SIZE``."""
        self._drop_expired(self._clock.seconds(), SWEEP_SIZE)

    def clear(self) -> None:
        """Forget everything, without a word to ``on_drop``."""
        self._entries.clear()

    def _drop_expired(self, now: float, limit: int) -> None:
        entries = self._entries
        for _ in range(limit):
            if not entries or not _expired(entries[next(iter(entries))], now):
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._dropped(*self._entries.popitem(last=False))

    def _dropped(self, key: Key, entry: bytes) -> None:
        if self._on_drop is not None:
            self._on_drop(key, entry[_DEADLINE.size :])

    def _evict(self, now: float) -> None:
        self._drop_oldest()
        self.evictions += 1
        if self._warned is None or now - self._warned >= WARN_INTERVAL:
            self.log.warn(
                "Cache full at {max_entries} entries: {dropped} of the oldest dropped before their time; {hint}",
                max_entries=self._max_entries,
                dropped=self.evictions - self._evictions_told,
                hint=self._hint,
            )
            self._warned = now
            self._evictions_told = self.evictions


def _expired(entry: bytes, now: float) -> bool:
    deadline: float = _DEADLINE.unpack_from(entry)[0]
    return now >= deadline
