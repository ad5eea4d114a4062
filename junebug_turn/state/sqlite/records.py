"""Records of a channel in a SQLite file: its statuses.  The counters are in memory, since they cover some seconds.

Tested by tests/unit/state/test_channel_records.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.logger import Logger

from junebug_turn.errors import UnreadableMessage
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import TransportStatus
from junebug_turn.state.channel_records import MAX_COMPONENTS, MemoryRecords
from junebug_turn.state.sqlite.entries import STATUS, Entries, pack_key

NEVER = 1e12
"""The time of expiry of an entry that has none."""

# By the index entries_expires, which has all three.
_STATUSES = "SELECT value FROM entries WHERE expires = ? AND connector = ? AND kind = ?"


class SqliteRecords(MemoryRecords):
    """Records whose statuses survive the process.

    :param read: runs a function with a cursor, and returns its result
    :param write: runs a function with a cursor, and returns when it is on the disk
    """

    log = Logger()

    def __init__(
        self,
        connector: str,
        read: Callable[[Callable[[Any], Any]], Awaitable[Any]],
        write: Callable[[Callable[[Any], None]], Awaitable[None]],
        window: float,
    ) -> None:
        super().__init__(window)
        self._connector = connector
        self._read = read
        self._write = write

    async def store_status(self, status: TransportStatus) -> None:
        entries, key = Entries(self._connector, 0.0, NEVER), pack_key(status.component)

        def write(cursor: Any) -> None:
            if entries.get(cursor, STATUS, key) is not None or len(self._rows(cursor)) < MAX_COMPONENTS:
                entries.put(cursor, STATUS, key, status.to_json())

        await self._write(write)

    async def fetch_statuses(self) -> Mapping[str, TransportStatus]:
        statuses: dict[str, TransportStatus] = {}
        for (value,) in await self._read(self._rows):
            try:
                status = TransportStatus.from_json(bytes(value), strictjson.loads_stored)
                statuses[status.component] = status
            except UnreadableMessage as error:
                self.log.warn("a status in the cache is left out: {error!s}", error=error)
        return statuses

    def _rows(self, cursor: Any) -> list[tuple[bytes]]:
        return list(cursor.execute(_STATUSES, (NEVER, self._connector, STATUS)).fetchall())
