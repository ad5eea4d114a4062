"""Bounded mapping in memory whose entries expire."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from struct import Struct
from typing import Any

from twisted.logger import Logger

SWEEP_INTERVAL = 1.0
"""Seconds between two sweeps, which drop expired entries of a map that is not used."""

SWEEP_SIZE = 2000
"""Entries that one sweep drops at most: some milliseconds of the reactor's time."""

WARN_INTERVAL = 60.0
"""Seconds between two warnings of a full map."""

OVERHEAD = 260
"""Bytes that an entry takes beside its key and value: two objects of bytes, its place in the mapping and its order."""

# The time of expiry stands in front of each value: a float object of its own would take 24 bytes more.
_DEADLINE = Struct("=d")

# Two for each new entry, so that expired entries go faster than new ones come.
_DROPPED_AT_ONCE = 2

Key = str | bytes


def pack_key(name: str) -> Key:
    """Return the 16 bytes of an id in 32 hexadecimal digits, as nearly all are; any other name as it is."""
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
    """Return the name of which ``pack_key`` made ``key``."""
    return key if isinstance(key, str) else key.hex()


class ExpiringMap:
    """Bytes by key, each for ``ttl`` seconds; at most ``max_entries``, and ``max_bytes`` of memory.

    The oldest are dropped first; an entry that alone is over ``max_bytes`` is not stored.

    All entries live equally long, so the order of storing is the order of expiry, and every operation costs
    the same however many entries there are.

    :param max_bytes: bound of ``size``
    :param on_drop: called with key and value of an entry that is dropped or removed
    :param hint: an operator's remedy for a full map, for the warning
    :param overhead: bytes that each entry takes elsewhere

    :ivar size: the memory of all entries in bytes, about
    :ivar evictions: how many entries were dropped before their time
    :ivar hits: how many lookups found an entry
    :ivar misses: how many lookups found none
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        *,
        ttl: float,
        max_entries: int,
        max_bytes: int,
        hint: str,
        on_drop: Callable[[Key, bytes], None] | None = None,
        overhead: int = 0,
    ) -> None:
        self._clock = clock
        self._ttl = ttl
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._overhead = OVERHEAD + overhead
        self._hint = hint
        self._on_drop = on_drop
        self._entries: OrderedDict[Key, bytes] = OrderedDict()
        self._warned_at: float | None = None
        self._evictions_logged = 0
        self.size = 0
        self.evictions = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def put(self, key: Key, value: bytes) -> bytes | None:
        """Store ``value``; return the former value of ``key``, if it has not expired."""
        now = self._clock.seconds()
        self._drop_expired(now, _DROPPED_AT_ONCE)
        old = self._take(key)
        entry = _DEADLINE.pack(now + self._ttl) + value
        size = self._size(key, entry)
        if size > self._max_bytes:
            self._evicted(1, now)
            if old is not None:
                self._dropped(key, old)
            return None
        dropped = 0
        while len(self._entries) >= self._max_entries or self.size + size > self._max_bytes:
            self._drop_oldest()
            dropped += 1
        self._entries[key] = entry
        self.size += size
        if dropped:
            self._evicted(dropped, now)
        if old is None:
            return None
        if _expired(old, now):
            self._dropped(key, old)
            return None
        return old[_DEADLINE.size :]

    def get(self, key: Key) -> bytes | None:
        """Return the value of ``key``, if it has not expired."""
        now = self._clock.seconds()
        self._drop_expired(now, _DROPPED_AT_ONCE)
        entry = self._entries.get(key)
        if entry is None or _expired(entry, now):
            self.misses += 1
            return None
        self.hits += 1
        return entry[_DEADLINE.size :]

    def remove(self, key: Key) -> None:
        """Remove ``key``, if it is there."""
        entry = self._take(key)
        if entry is not None:
            self._dropped(key, entry)

    def sweep(self) -> None:
        """Drop expired entries, at most ``SWEEP_SIZE``."""
        self._drop_expired(self._clock.seconds(), SWEEP_SIZE)

    def clear(self) -> None:
        """Remove everything, without calling ``on_drop``."""
        self._entries.clear()
        self.size = 0

    def _size(self, key: Key, entry: bytes) -> int:
        # A text has up to four bytes for each character.
        letters = len(key) if isinstance(key, bytes) or key.isascii() else 4 * len(key)
        return letters + len(entry) + self._overhead

    def _take(self, key: Key) -> bytes | None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= self._size(key, entry)
        return entry

    def _drop_expired(self, now: float, limit: int) -> None:
        entries = self._entries
        for _ in range(limit):
            if not entries or not _expired(entries[next(iter(entries))], now):
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        key, entry = self._entries.popitem(last=False)
        self.size -= self._size(key, entry)
        self._dropped(key, entry)

    def _dropped(self, key: Key, entry: bytes) -> None:
        if self._on_drop is not None:
            self._on_drop(key, entry[_DEADLINE.size :])

    def _evicted(self, count: int, now: float) -> None:
        self.evictions += count
        if self._warned_at is None or now - self._warned_at >= WARN_INTERVAL:
            self.log.warn(
                "Cache full at {entries} entries, {size} bytes: {dropped} of the oldest dropped before their time; "
                "{hint}",
                entries=len(self._entries),
                size=self.size,
                dropped=self.evictions - self._evictions_logged,
                hint=self._hint,
            )
            self._warned_at = now
            self._evictions_logged = self.evictions


def _expired(entry: bytes, now: float) -> bool:
    deadline: float = _DEADLINE.unpack_from(entry)[0]
    return now >= deadline
