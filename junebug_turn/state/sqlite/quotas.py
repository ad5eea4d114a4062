"""Counts of calls in a SQLite file: an entry of no connector for each quota, with its slots as JSON.

Tested by tests/unit/state/test_quota_slots.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from junebug_turn.messages import strictjson
from junebug_turn.state.quota_slots import Slots, kept_for, take
from junebug_turn.state.sqlite.entries import QUOTA, Entries, pack_key


class SqliteQuotas:
    """Counts of calls which all processes with the same file have together.

    :param write: runs a function with a cursor, and returns when it is on the disk
    :param now: the Unix time
    """

    def __init__(
        self, write: Callable[[Callable[[Any], None]], Awaitable[None]], now: Callable[[], float]
    ) -> None:
        self._write = write
        self._now = now

    async def take_calls(self, quota: str, calls: int, seconds: float, wanted: int) -> tuple[int, float]:
        key = pack_key(quota)
        result = 0, 0.0

        def work(cursor: Any) -> None:
            nonlocal result
            now = self._now()
            entries = Entries("", now, now + kept_for(seconds))
            before = _slots(entries.get(cursor, QUOTA, key))
            slots, taken, wait = take(before, now, calls, seconds, wanted)
            result = taken, wait
            entries.put(cursor, QUOTA, key, strictjson.dumps(list(slots.items())))

        await self._write(work)
        return result


def _slots(packed: bytes | None) -> Slots:
    try:
        return {} if packed is None else {int(slot): int(count) for slot, count in strictjson.loads(packed)}
    except (ValueError, TypeError, OverflowError):
        # A foreign value: the other writes of the commit must not fail for it.
        return {}
