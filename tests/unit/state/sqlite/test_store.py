"""The cache in a SQLite file: what is on the disk when, who can read it, and files that can't be used."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
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
from junebug_turn.state.sqlite.file import SqliteFile
from junebug_turn.state.sqlite.store import COUNT_INTERVAL, SWEEP_INTERVAL, SWEEP_SIZE
from tests.support.daemon import until
from tests.support.store_harness import ThreadedClock, reactor
from tests.unit.state.test_message_store import event, message, outbound

ROOT = Path(__file__).resolve().parents[4]


def count(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
    finally:
        connection.close()


# What is on the disk


@pytest_twisted.ensureDeferred
async def test_survives_a_restart(make: Any) -> None:
    """Another cache on the same file, as of the next process, has everything."""
    cache = await make()
    await cache.store_inbound(message("m1"))
    await cache.store_outbound(outbound("m2", "http://h/e", "t"))
    await cache.store_event(event("m2"))
    await cache.stop()
    cache = await make()
    assert await cache.fetch_inbound("m1") is not None
    assert (await cache.fetch_outbound("m2")).event_url == "http://h/e"
    assert len(await cache.fetch_events("m2")) == 1


@pytest_twisted.ensureDeferred
async def test_stored_means_committed(make: Any, path: Path) -> None:
    """When a store is done others can read it from the file; those that come together share commits."""
    cache = await make()
    await cache.store_inbound(message("first"))
    before, commits = count(path), []
    pool = cache._file._writes._pool
    original = pool.runInteraction

    def counted(*args: Any) -> Any:
        commits.append(args)
        return original(*args)

    pool.runInteraction = counted
    stored = [
        Deferred.fromCoroutine(cache.store_outbound(outbound(f"m{n}"))).addCallback(lambda _: count(path))
        for n in range(100)
    ]
    assert await gatherResults(stored) == [before + 100] * 100
    assert len(commits) == 1


@pytest_twisted.ensureDeferred
async def test_private(make: Any, path: Path) -> None:
    """Nobody but its owner can read the file, nor what SQLite puts beside it; its folder is made."""
    umask = os.umask(0)
    try:
        cache = await make()
        await cache.store_inbound(message("m1"))
    finally:
        os.umask(umask)
    files = list(path.parent.iterdir())
    assert {file.name for file in files} >= {"cache.db", "cache.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest_twisted.ensureDeferred
async def test_expired_go_in_small_steps(make: Any, path: Path) -> None:
    """What has expired is deleted, a bounded number at a time, without anybody's asking for it."""
    clock = ThreadedClock()
    cache = await make(clock, remember_last=False, timeout=10)
    expected = SWEEP_SIZE + 5
    await gatherResults(
        [Deferred.fromCoroutine(cache.store_inbound(message(f"m{n}"))) for n in range(expected)]
    )
    assert count(path) == expected
    clock.advance(10)
    await until(lambda: count(path) == 5)
    # Another commit shows that no further step was under way.
    await cache.store_inbound(message("new"))
    assert count(path) == 6
    clock.advance(SWEEP_INTERVAL)
    await until(lambda: count(path) == 1)


_WRITER = """
import sys
from twisted.internet import defer, reactor, task
from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.messages.vumi import Message, new_id

async def main(reactor):
    cache = make_store("sqlite", {"path": sys.argv[1]}, option="state_cache", connector="sms", clock=reactor)
    await cache.start()
    async def store(number):
        while True:
            message = Message(to_addr="1", from_addr="2", transport_name="t", transport_type="sms")
            await cache.store_outbound(OutboundRecord(message.message_id, "1", "http://h/" + message.message_id))
            print(message.message_id, flush=True)
    await defer.gatherResults([defer.Deferred.fromCoroutine(store(n)) for n in range(20)])

task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor)))
"""


def _told_until_killed(path: Path) -> list[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().split("\n")[:-1]
    process.wait()
    return told


@pytest_twisted.ensureDeferred
async def test_killed_under_load(make: Any, path: Path) -> None:
    """Of a process that is killed while it stores, all that it was told was stored is there."""
    told = _told_until_killed(path)
    cache = await make(remember_last=False)
    for message_id in told:
        found = await cache.fetch_outbound(message_id)
        assert found is not None
        assert found.event_url == f"http://h/{message_id}"


# Files that can't be used


@pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0" + b"x" * 4080])
def test_no_database(path: Path, content: bytes) -> None:
    """A file that is no database, or a damaged one, is refused at the start and left as it is."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^state_cache_config\.path: .* can't be used: "):
        make_store("sqlite", {"path": str(path)}, option="state_cache", connector="c", clock=reactor)
    assert path.read_bytes() == content


def _damage(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


@pytest_twisted.ensureDeferred
async def test_damaged_later(make: Any, path: Path) -> None:
    """A file that is damaged while it is used fails operations with a clear word, and nothing else."""
    cache = await make(remember_last=False, cache_timeout=5)
    await gatherResults([Deferred.fromCoroutine(cache.store_inbound(message(f"m{n}"))) for n in range(500)])
    await cache._file._writes._pool.runInteraction(
        lambda cursor: cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    )
    _damage(path)
    cache = await make(remember_last=False)
    with pytest.raises(CacheError):
        await cache.fetch_inbound("m1")
    status = cache.status()
    assert status["ok"] is False
    assert "malformed" in status["fault"]


@pytest_twisted.ensureDeferred
async def test_disk_full(make: Any) -> None:
    """A full disk fails what stores, reading goes on; when there is room again storing does."""
    cache = await make()
    await cache.store_outbound(outbound("m1"))

    async def pages(most: int) -> None:
        await cache._file._writes._pool.runInteraction(
            lambda cursor: cursor.execute(f"PRAGMA max_page_count = {most}")
        )

    await pages(1)
    large = message("m2", content="x" * 100_000)
    with pytest.raises(CacheError):
        await cache.store_inbound(large)
    assert cache.status() == {"ok": False, "fault": "database or disk is full", "failures": 1}
    assert await cache.fetch_outbound("m1") is not None
    assert await cache.fetch_inbound("m2") is None
    await pages(1_000_000)
    await cache.store_inbound(large)
    assert await cache.fetch_inbound("m2") == large


@pytest_twisted.ensureDeferred
async def test_no_place(make: Any, path: Path) -> None:
    """A folder that can't be made fails operations, until it can."""
    path.parent.parent.write_text("a file in the way")
    cache = await make()
    with pytest.raises(CacheError):
        await cache.store_inbound(message("m1"))
    path.parent.parent.unlink()
    await cache.store_inbound(message("m1"))
    assert cache.status()["ok"] is True


@pytest_twisted.ensureDeferred
async def test_locked(make: Any, path: Path) -> None:
    """Another process that keeps the file locked holds a store no longer than cache_timeout; reading goes on."""
    cache = await make(cache_timeout=0.3)
    await cache.store_inbound(message("m1"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = reactor.seconds()
    with pytest.raises(CacheError):
        await cache.store_inbound(message("m2"))
    assert reactor.seconds() - began < 0.8
    assert await cache.fetch_inbound("m1") is not None
    other.execute("ROLLBACK")
    other.close()
    await cache.store_inbound(message("m2"))


@pytest_twisted.ensureDeferred
async def test_foreign_values(make: Any, path: Path) -> None:
    """An entry that can't be read is an unknown inbound message; an outbound one is told apart from that."""
    cache = await make()
    await cache.store_inbound(message("m1"))
    connection = sqlite3.connect(path)
    for kind, key in (("i", "m1"), ("i", "m2"), ("o", "m1"), ("e", "m1"), ("m", "x")):
        value = b"x" if kind == "m" else b"[1]"
        connection.execute(
            "INSERT OR REPLACE INTO entries VALUES ('sms', ?, ?, ?, 1e12)", (kind, pack_key(key), value)
        )
    connection.commit()
    connection.close()
    assert await cache.fetch_inbound("m1") is None
    assert await cache.fetch_last_inbound("+27831234567") is None
    assert await cache.fetch_note("x") is None
    with pytest.raises(UnreadableEntry):
        await cache.fetch_outbound("m1")
    with pytest.raises(UnreadableEntry):
        await cache.fetch_events("m1")
    await cache.store_inbound(message("m2"))
    await cache.store_event(event("m1"))
    assert await cache.fetch_inbound("m2") is not None
    assert len(await cache.fetch_events("m1")) == 1


@pytest_twisted.ensureDeferred
async def test_two_processes(make: Any) -> None:
    """Two caches on one file, as of two processes, write at the same time and read what the other wrote."""
    one, other = await make(), await make()

    async def store(cache: MessageStore, name: str) -> None:
        for n in range(30):
            await cache.store_inbound(message(f"{name}{n}"))

    await gatherResults([Deferred.fromCoroutine(store(one, "a")), Deferred.fromCoroutine(store(other, "b"))])
    for n in range(30):
        assert isinstance(await one.fetch_inbound(f"b{n}"), Message)
        assert isinstance(await other.fetch_inbound(f"a{n}"), Message)


def test_path_is_required() -> None:
    """Without path there is no cache."""
    for config in ({}, {"path": ""}, {"path": 5}):
        with pytest.raises(ConfigError, match=r"^message_cache_config\.path: "):
            make_store("sqlite", config, option="message_cache", connector="c", clock=reactor)


def test_opened_by_several_at_once(tmp_path: Path) -> None:
    """A new file that several threads or processes open at the same moment is usable for each of them."""
    faults: list[Exception] = []

    def open_it(path: Path, together: threading.Barrier) -> None:
        connection = sqlite3.connect(path, timeout=5, isolation_level=None)
        together.wait()
        try:
            SqliteFile(None, path, 5)._opened(connection)
        except Exception as fault:
            faults.append(fault)
        finally:
            connection.close()

    for number in range(50):
        arguments = (tmp_path / str(number), threading.Barrier(4))
        threads = [threading.Thread(target=open_it, args=arguments) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []


@pytest_twisted.ensureDeferred
async def test_entries_are_counted(make: Any) -> None:
    """Once a minute the entries of the connector that have not expired are counted, for the metrics."""
    clock = ThreadedClock()
    cache = await make(clock, timeout=100)

    def entries() -> list[int | None]:
        return [part.entries for part in cache.stats().parts.values()]

    await until(lambda: entries() == [0, 0, 0], "the first counting")
    for number in range(3):
        await cache.store_inbound(message(f"m{number}", f"a{number}"))
    await cache.store_outbound(outbound("m1"))
    clock.advance(COUNT_INTERVAL)
    await until(lambda: entries() == [3, 1, 0], "the counting")
    clock.advance(COUNT_INTERVAL)
    await until(lambda: entries() == [0, 0, 0], "the next one")


@pytest_twisted.ensureDeferred
async def test_failures_are_counted(make: Any, path: Path) -> None:
    """Each operation that fails is counted, for the metrics."""
    cache = await make()
    await cache.store_inbound(message())
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE entries")
    connection.close()
    before = cache.stats().failures
    with pytest.raises(CacheError):
        await cache.fetch_inbound("m1")
    assert cache.stats().failures > before
