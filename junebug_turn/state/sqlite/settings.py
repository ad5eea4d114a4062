"""Settings of a connector in a SQLite file: entries without expiry.

Tested by tests/unit/state/test_message_store.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from junebug_turn.messages import strictjson
from junebug_turn.state.connector_settings import ConnectorSettings
from junebug_turn.state.sqlite.entries import SETTING, Entries, pack_key
from junebug_turn.state.sqlite.records import NEVER


class SqliteSettings(ConnectorSettings):
    """Settings in a file.

    :param read: runs a function with a cursor, and returns its result
    :param write: runs a function with a cursor, and returns when it is on the disk
    """

    kept = True

    def __init__(
        self,
        connector: str,
        read: Callable[[Callable[[Any], Any]], Awaitable[Any]],
        write: Callable[[Callable[[Any], None]], Awaitable[None]],
    ) -> None:
        self._entries = Entries(connector, 0.0, NEVER)
        self._read = read
        self._write = write

    async def fetch(self, name: str) -> Any:
        packed = await self._read(lambda cursor: self._entries.get(cursor, SETTING, pack_key(name)))
        try:
            return None if packed is None else strictjson.loads_stored(packed)
        except ValueError:
            return None

    async def store(self, name: str, value: Any) -> None:
        def write(cursor: Any) -> None:
            if value is None:
                self._entries.remove(cursor, SETTING, pack_key(name))
            else:
                self._entries.put(cursor, SETTING, pack_key(name), strictjson.dumps(value))

        await self._write(write)
