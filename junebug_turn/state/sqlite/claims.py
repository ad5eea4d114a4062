"""Claims of requests in a SQLite file.

Tested by tests/unit/state/test_claims.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any

from junebug_turn.config.types import DAY
from junebug_turn.errors import UnreadableEntry
from junebug_turn.net.clocks import WallClock
from junebug_turn.state.claims import Claim, Claims
from junebug_turn.state.sqlite.entries import CLAIM, Entries


class SqliteClaims(Claims):
    """Claims in a SQLite file, which processes of one machine share.

    :param write: runs a function with a cursor, and returns when its effects are on the disk
    :param wall_clock: tells when a claim expires
    """

    def __init__(
        self, connector: str, write: Callable[[Callable[[Any], None]], Awaitable[None]], wall_clock: WallClock
    ) -> None:
        self._connector = connector
        self._write = write
        self._wall_clock = wall_clock

    async def claim(self, key: bytes, claim: Claim, seconds: float, awaited: str = "") -> Claim | None:
        entries, name, packed = self._entries(seconds), sha256(key).digest(), claim.to_json()
        found: Claim | None = None

        def write(cursor: Any) -> None:
            nonlocal found
            found = _get(entries, cursor, name)
            if found is None or not found.withstands(claim, awaited):
                found = None
                entries.put(cursor, CLAIM, name, packed)

        await self._write(write)
        return found

    async def update(self, claims: Mapping[bytes, Claim], seconds: float) -> None:
        entries = self._entries(seconds)
        rows = [(sha256(key).digest(), claim.owner, claim.to_json()) for key, claim in claims.items()]

        def write(cursor: Any) -> None:
            for name, owner, packed in rows:
                found = _get(entries, cursor, name)
                if found is None or found.owner == owner:
                    entries.put(cursor, CLAIM, name, packed)

        await self._write(write)

    async def remove(self, key: bytes, owner: str) -> None:
        entries, name = self._entries(0.0), sha256(key).digest()

        def write(cursor: Any) -> None:
            found = _get(entries, cursor, name)
            if found is not None and found.owner == owner:
                entries.remove(cursor, CLAIM, name)

        await self._write(write)

    def _entries(self, seconds: float) -> Entries:
        # As for all entries: a jump of the wall clock ends no claim.
        return Entries(self._connector, self._wall_clock.expired(DAY), self._wall_clock.now() + seconds)


def _get(entries: Entries, cursor: Any, name: bytes) -> Claim | None:
    packed = entries.get(cursor, CLAIM, name)
    try:
        return None if packed is None else Claim.from_json(packed)
    except UnreadableEntry:
        return None
