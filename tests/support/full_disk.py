"""A program that fills the disk of a SQLite store: it is run with a small disk of its own, and prints what happened.

    python -m tests.support.full_disk FOLDER

It stores outbound messages until there is no room, and again after all of them have expired.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, FirstError, gatherResults

from junebug_turn.errors import CacheError
from junebug_turn.messages.vumi import new_id
from junebug_turn.net.clocks import WallClock
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.state.sqlite.store import SWEEP_INTERVAL, SqliteStore


async def fill(store: SqliteStore) -> int:
    """Store until there is no room; the number of those that were stored."""
    stored = 0
    while True:
        records = [OutboundRecord(new_id(), "8110", "http://h/" + "x" * 8000) for _ in range(50)]
        writes = [Deferred.fromCoroutine(store.store_outbound(record)) for record in records]
        try:
            await gatherResults(writes, consumeErrors=True)
        except FirstError as fault:
            fault.subFailure.trap(CacheError)
            return stored
        stored += len(records)


async def run(reactor: Any, folder: str) -> None:
    ahead = 0.0

    def seconds() -> float:
        return float(reactor.seconds() + ahead)

    store = SqliteStore(
        reactor,
        connector="c",
        path=f"{folder}/cache.db",
        cache_timeout=30,
        timeout=10_000,
        wall_clock=WallClock(seconds, seconds),
    )
    await store.start()
    for _ in range(2):
        print("stored", await fill(store), flush=True)
        ahead += 20_000
        await task.deferLater(reactor, 2 * SWEEP_INTERVAL)
    await store.stop()


if __name__ == "__main__":
    task.react(run, sys.argv[1:])
