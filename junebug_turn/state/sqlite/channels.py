"""Store of channels in a SQLite file, which may be that of the messages as well.

Tested by tests/unit/state/test_channel_store.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from junebug_turn.messages import strictjson
from junebug_turn.state.channel_store import (
    CHANNELS,
    DESTINATIONS,
    REFUSAL,
    ROUTERS,
    ChannelStore,
    Definition,
    Key,
)
from junebug_turn.state.failures import FailureMonitor
from junebug_turn.state.options import CACHE_TIMEOUT
from junebug_turn.state.sqlite.file import SqliteFile

_KINDS = {CHANNELS: "C", ROUTERS: "R", DESTINATIONS: "D"}
_NAMES = {kind: name for name, kind in _KINDS.items()}

_NEVER = 1e15
"""The time at which definitions expire, by which an index finds them among a million messages."""

_FETCH = "SELECT kind, connector, key, value FROM entries WHERE expires = ? AND kind IN ('C', 'R', 'D')"
_GET = "SELECT value FROM entries WHERE key = ? AND kind = ? AND connector = ?"
_PUT = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM entries WHERE key = ? AND kind = ? AND connector = ?"
_DELETE_DESTINATIONS = "DELETE FROM entries WHERE expires = ? AND kind = 'D' AND connector = ?"


class SqliteChannelStore(ChannelStore):
    """A store of channels in a SQLite file; a definition is an entry whose ``connector`` is its router.

    :param path: the file; it and its folder are made where they are missing
    :param cache_timeout: seconds that an operation may take
    """

    def __init__(self, reactor: Any, *, path: str, cache_timeout: float = CACHE_TIMEOUT) -> None:
        super().__init__()
        self._reactor = reactor
        self._path = Path(path)
        self._timeout = cache_timeout
        self._file: SqliteFile | None = None
        self._monitor = FailureMonitor(
            reactor,
            f"the store of channels, SQLite at {path},",
            cache_timeout,
            (sqlite3.Error, OSError),
            refusal=REFUSAL,
        )

    @property
    def _opened(self) -> SqliteFile:
        if self._file is None:
            self._file = SqliteFile(self._reactor, self._path, self._timeout)
        return self._file

    async def start(self) -> None:
        """Do nothing: the file is opened at its first use."""

    async def stop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.stop()

    def status(self) -> Mapping[str, Any]:
        fault = self._monitor.fault
        return {"ok": fault is None, "fault": fault, "failures": self._monitor.failures}

    async def replace(self, key: Key, before: Definition | None, properties: Mapping[str, Any]) -> bool:
        row, text = _row(key), strictjson.dumps(dict(properties))
        expected = None if before is None else before.text
        stored: list[bool] = []

        def write(cursor: Any) -> None:
            found = cursor.execute(_GET, row).fetchone()
            stored.append((None if found is None else bytes(found[0])) == expected)
            if stored[0]:
                name, kind, router = row
                cursor.execute(_PUT, (router, kind, name, text, _NEVER))

        await self._monitor.result(self._opened.write(write))
        return stored[0]

    async def remove(self, key: Key) -> None:
        def write(cursor: Any) -> None:
            cursor.execute(_DELETE, _row(key))
            if key.kind == ROUTERS:
                cursor.execute(_DELETE_DESTINATIONS, (_NEVER, key.id))

        await self._monitor.result(self._opened.write(write))

    async def _read(self, revision: str) -> tuple[str, Iterable[tuple[Key, bytes]]] | None:
        def read(cursor: Any) -> list[tuple[str, str, bytes, bytes]]:
            rows = cursor.execute(_FETCH, (_NEVER,)).fetchall()
            return sorted((kind, router, bytes(name), bytes(text)) for kind, router, name, text in rows)

        rows = await self._monitor.result(self._opened.read(read))
        new = sha256(repr(rows).encode()).hexdigest()
        if new == revision:
            return None
        return new, [(Key(_NAMES[kind], name.decode(), router), text) for kind, router, name, text in rows]


def _row(key: Key) -> tuple[bytes, str, str]:
    return key.id.encode(), _KINDS[key.kind], key.router
