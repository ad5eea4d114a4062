"""Steps of messages in a SQLite file.

Tested by tests/unit/state/test_journal.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from junebug_turn.state.journal import JournalEntries, shortened
from junebug_turn.state.sqlite.entries import STEPS, Entries, pack_key


class SqliteSteps(JournalEntries):
    """Steps of messages in a file.

    :param entries: returns the connector's entries as of now
    :param read: runs a function with a cursor, and returns its result
    :param write: runs a function with a cursor, and returns when it is on the disk
    """

    def __init__(
        self,
        entries: Callable[[], Entries],
        read: Callable[[Callable[[Any], Any]], Awaitable[Any]],
        write: Callable[[Callable[[Any], None]], Awaitable[None]],
    ) -> None:
        self._entries = entries
        self._read = read
        self._write = write

    async def append(self, lines: Mapping[str, bytes]) -> None:
        entries = self._entries()

        def write(cursor: Any) -> None:
            for message_id, more in lines.items():
                key = pack_key(message_id)
                before = entries.get(cursor, STEPS, key) or b""
                entries.put(cursor, STEPS, key, shortened(before + more))

        await self._write(write)

    async def fetch(self, message_id: str) -> bytes:
        entries = self._entries()
        found: bytes | None = await self._read(
            lambda cursor: entries.get(cursor, STEPS, pack_key(message_id))
        )
        return found or b""
