"""The message store in a SQLite file: restarts, expiry, several processes, and foreign entries."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from junebug_turn.errors import CacheError, ConfigError, UnreadableEntry
from junebug_turn.messages.vumi import Message
from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import MessageStore
from junebug_turn.state.sqlite.entries import pack_key
from junebug_turn.state.sqlite.store import COUNT_INTERVAL, SWEEP_INTERVAL, SqliteStore
from junebug_turn.state.sqlite.sweep import SWEEP_SIZE
from tests.support.clocks import Wall
from tests.support.daemon import until
from tests.support.store_harness import ThreadedClock, event, message, outbound, reactor
from tests.unit.state.sqlite.conftest import count_rows

ROOT = Path(__file__).resolve().parents[4]


# What is on the disk


@pytest_twisted.ensureDeferred
async def test_survives_a_restart(make: Any) -> None:
    """Another store on the same file, as of the next process, has everything."""
    store = await make()
    await store.store_inbound(message("m1"))
    await store.store_outbound(outbound("m2", "http://h/e", "t"))
    await store.store_event(event("m2"))
    await store.stop()
    store = await make()
    assert await store.fetch_inbound("m1") is not None
    assert (await store.fetch_outbound("m2")).event_url == "http://h/e"
    assert len(await store.fetch_events("m2")) == 1


@pytest_twisted.ensureDeferred
async def test_expired_go_in_small_steps(make: Any, path: Path) -> None:
    """What has expired is deleted, a bounded number at a time, without anybody's asking for it."""
    clock = ThreadedClock()
    store = await make(clock, remember_last=False, timeout=10)
    expected = SWEEP_SIZE + 5
    await gatherResults(
        [Deferred.fromCoroutine(store.store_inbound(message(f"m{n}"))) for n in range(expected)]
    )
    assert count_rows(path) == expected
    clock.advance(10)
    await until(lambda: count_rows(path) == 5)
    # Another commit shows that no further step was under way.
    await store.store_inbound(message("new"))
    assert count_rows(path) == 6
    clock.advance(SWEEP_INTERVAL)
    await until(lambda: count_rows(path) == 1)


_WRITER = """
import sys
from twisted.internet import defer, reactor, task
from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.messages.vumi import Message, new_id

async def main(reactor):
    store = make_store("sqlite", {"path": sys.argv[1]}, option="state_cache", connector="sms", clock=reactor)
    await store.start()
    async def work(number):
        while True:
            message = Message(to_addr="1", from_addr="2", transport_name="t", transport_type="sms")
            await store.store_outbound(OutboundRecord(message.message_id, "1", "http://h/" + message.message_id))
            print(message.message_id, flush=True)
    await defer.gatherResults([defer.Deferred.fromCoroutine(work(n)) for n in range(20)])

task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor)))
"""


def _stored_until_killed(path: Path) -> list[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    stored = [process.stdout.readline().strip() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    stored += process.stdout.read().split("\n")[:-1]
    process.wait()
    return stored


@pytest_twisted.ensureDeferred
async def test_killed_under_load(make: Any, path: Path) -> None:
    """Of a process that is killed while it stores, every entry that it had stored is there."""
    stored = _stored_until_killed(path)
    store = await make(remember_last=False)
    for message_id in stored:
        found = await store.fetch_outbound(message_id)
        assert found is not None
        assert found.event_url == f"http://h/{message_id}"


# Foreign entries, several processes and metrics


@pytest_twisted.ensureDeferred
async def test_foreign_values(make: Any, path: Path) -> None:
    """An entry that can't be read is an unknown inbound message; an outbound one is told apart from that."""
    store = await make()
    await store.store_inbound(message("m1"))
    connection = sqlite3.connect(path)
    for kind, key in (("i", "m1"), ("i", "m2"), ("o", "m1"), ("e", "m1"), ("m", "x")):
        value = b"x" if kind == "m" else b"[1]"
        connection.execute(
            "INSERT OR REPLACE INTO entries VALUES ('sms', ?, ?, ?, 1e12)", (kind, pack_key(key), value)
        )
    connection.commit()
    connection.close()
    assert await store.fetch_inbound("m1") is None
    assert await store.fetch_last_inbound("+27831234567") is None
    assert await store.fetch_note("x") is None
    with pytest.raises(UnreadableEntry):
        await store.fetch_outbound("m1")
    with pytest.raises(UnreadableEntry):
        await store.fetch_events("m1")
    await store.store_inbound(message("m2"))
    await store.store_event(event("m1"))
    assert await store.fetch_inbound("m2") is not None
    assert len(await store.fetch_events("m1")) == 1


@pytest_twisted.ensureDeferred
async def test_two_processes(make: Any) -> None:
    """Two stores on one file, as of two processes, write at the same time and read what the other wrote."""
    one, other = await make(), await make()

    async def work(store: MessageStore, name: str) -> None:
        for n in range(30):
            await store.store_inbound(message(f"{name}{n}"))

    await gatherResults([Deferred.fromCoroutine(work(one, "a")), Deferred.fromCoroutine(work(other, "b"))])
    for n in range(30):
        assert isinstance(await one.fetch_inbound(f"b{n}"), Message)
        assert isinstance(await other.fetch_inbound(f"a{n}"), Message)


def test_path_is_required() -> None:
    """Without path there is no store."""
    for config in ({}, {"path": ""}, {"path": 5}):
        with pytest.raises(ConfigError, match=r"^message_cache_config\.path: "):
            make_store("sqlite", config, option="message_cache", connector="c", clock=reactor)


@pytest_twisted.ensureDeferred
async def test_entries_are_counted(make: Any) -> None:
    """Once a minute the entries of the connector that have not expired are counted, for the metrics."""
    clock = ThreadedClock()
    store = await make(clock, timeout=100)

    def entries() -> list[int | None]:
        parts = store.stats().parts
        return [parts[name].entries for name in ("inbound", "outbound", "menus")]

    await until(lambda: entries() == [0, 0, 0], "the first counting")
    for number in range(3):
        await store.store_inbound(message(f"m{number}", f"a{number}"))
    await store.store_outbound(outbound("m1"))
    clock.advance(COUNT_INTERVAL)
    await until(lambda: entries() == [3, 1, 0], "the counting")
    clock.advance(COUNT_INTERVAL)
    await until(lambda: entries() == [0, 0, 0], "the next one")


@pytest_twisted.ensureDeferred
async def test_failures_are_counted(make: Any, path: Path) -> None:
    """Each operation that fails is counted, for the metrics."""
    store = await make()
    await store.store_inbound(message())
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE entries")
    connection.close()
    before = store.stats().failures
    with pytest.raises(CacheError):
        await store.fetch_inbound("m1")
    assert store.stats().failures > before


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 365 * 86400.0])
@pytest_twisted.ensureDeferred
async def test_the_wall_clock_is_set(path: Path, jump: float) -> None:
    """When the wall clock is set, forward by whatever, no entry is lost before its time; what is stored then has its
    whole time, too, also for a process that starts later."""
    clock = ThreadedClock()
    wall = Wall(clock)

    async def started() -> SqliteStore:
        store = SqliteStore(clock, connector="sms", path=str(path), wall_clock=wall, timeout=1000)
        await store.start()
        return store

    store = await started()
    await store.store_inbound(message("before"))
    clock.advance(500)
    wall.ahead += jump
    await store.store_inbound(message("after"))
    clock.advance(499)
    for _ in range(3):
        clock.advance(0)
        assert await store.fetch_inbound("before") is not None
    assert await store.fetch_inbound("after") is not None
    await store.stop()
    wall = Wall(clock, wall.ahead)
    store = await started()
    assert await store.fetch_inbound("after") is not None
    clock.advance(1001)
    assert await store.fetch_inbound("after") is None
    await store.stop()
