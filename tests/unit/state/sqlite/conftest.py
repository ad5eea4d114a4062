"""Stores on one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import MessageStore
from tests.support.store_harness import CLOCKED_SQLITE, reactor


def count_rows(path: Path) -> int:
    """The rows that another connection sees in the file."""
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "folder" / "cache.db"


@pytest_twisted.async_yield_fixture
async def make(path: Path) -> AsyncIterator[Any]:
    """Makes and starts stores, which are stopped at the end."""
    stores: list[MessageStore] = []

    async def made(clock: Any = reactor, remember_last: bool = True, **config: Any) -> MessageStore:
        store = make_store(
            "sqlite" if clock is reactor else CLOCKED_SQLITE,
            {"path": str(path), **config},
            option="message_cache",
            connector="sms",
            clock=clock,
            remember_last=remember_last,
        )
        await store.start()
        stores.append(store)
        return store

    yield made
    for store in stores:
        await store.stop()
