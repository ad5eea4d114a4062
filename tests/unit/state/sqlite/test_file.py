"""The SQLite file: commits, permissions, locks, and files that can't be used."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import capturedLogs, formatEvent

from junebug_turn.errors import CacheError, ConfigError
from junebug_turn.state.factory import make_store
from junebug_turn.state.sqlite.file import MAX_ROWS, Row, SqliteFile
from tests.support.store_harness import message, outbound, reactor
from tests.unit.state.sqlite.conftest import count_rows


@pytest_twisted.ensureDeferred
async def test_stored_means_committed(make: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a store is done others can read it from the file; those that come together share commits."""
    store = await make()
    await store.store_inbound(message("first"))
    before, commits = count_rows(path), []
    original = ConnectionPool.runInteraction

    def counted(*args: Any) -> Any:
        commits.append(args)
        return original(*args)

    monkeypatch.setattr(ConnectionPool, "runInteraction", counted)
    stored = [
        Deferred.fromCoroutine(store.store_outbound(outbound(f"m{n}"))).addCallback(
            lambda _: count_rows(path)
        )
        for n in range(100)
    ]
    assert await gatherResults(stored) == [before + 100] * 100
    assert len(commits) == 1


@pytest_twisted.ensureDeferred
async def test_private(make: Any, path: Path) -> None:
    """Nobody but its owner can read the file, nor what SQLite puts beside it; its folder is made."""
    umask = os.umask(0)
    try:
        store = await make()
        await store.store_inbound(message("m1"))
    finally:
        os.umask(umask)
    files = list(path.parent.iterdir())
    assert {file.name for file in files} >= {"cache.db", "cache.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest_twisted.ensureDeferred
async def test_rights_of_others_are_taken(make: Any, path: Path) -> None:
    """A file that is there and that others may read or write is its owner's alone from the start on, with what SQLite
    has beside it, and one warning each says so."""
    path.parent.mkdir(parents=True)
    for name in ("cache.db", "cache.db-wal"):
        (path.parent / name).touch()
        (path.parent / name).chmod(0o666)
    with capturedLogs() as events:
        store = await make()
        await store.store_inbound(message("m1"))
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    lines = [formatEvent(event) for event in events]
    assert f"Others could read or write {path} (mode 666): it is its owner's alone now" in lines


@pytest_twisted.ensureDeferred
async def test_a_link_to_no_file(path: Path, make: Any) -> None:
    """A symbolic link to a file that isn't there is not followed: the start is refused, and so is each operation where
    it came later.  One to a file that is there is."""
    os.makedirs(path.parent)
    target = path.with_name("elsewhere.db")
    os.symlink(target, path)
    with pytest.raises(ConfigError, match=r"^state_cache_config\.path: .* is a symbolic link to no file"):
        make_store("sqlite", {"path": str(path)}, option="state_cache", connector="c", clock=reactor)
    os.unlink(path)
    store = await make()
    os.symlink(target, path)
    with pytest.raises(CacheError):
        await store.store_inbound(message("m1"))
    assert "elsewhere.db" not in os.listdir(path.parent)
    assert "is a symbolic link to no file" in store.status()["fault"]
    os.close(os.open(target, os.O_CREAT, 0o600))
    await store.store_inbound(message("m1"))
    assert os.stat(target).st_size


@pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0" + b"x" * 4080])
def test_no_database(path: Path, content: bytes) -> None:
    """A file that is no database, or a damaged one, is refused at the start and left as it is."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^state_cache_config\.path: .* can't be used: "):
        make_store("sqlite", {"path": str(path)}, option="state_cache", connector="c", clock=reactor)
    assert path.read_bytes() == content


def row(key: str) -> Row:
    return ("sms", "i", key.encode(), b"value", 1e12)


def _damage(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


@pytest_twisted.ensureDeferred
async def test_damaged_later(make: Any, path: Path) -> None:
    """A file that is damaged while it is used fails operations with a clear word, and nothing else."""
    store = await make(remember_last=False, cache_timeout=5)
    await gatherResults([Deferred.fromCoroutine(store.store_inbound(message(f"m{n}"))) for n in range(500)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _damage(path)
    store = await make(remember_last=False)
    with pytest.raises(CacheError):
        await store.fetch_inbound("m1")
    status = store.status()
    assert status["ok"] is False
    assert "malformed" in status["fault"]


@pytest_twisted.ensureDeferred
async def test_disk_full(make: Any) -> None:
    """A full disk fails what stores, reading goes on; when there is room again storing does."""
    store = await make()
    await store.store_outbound(outbound("m1"))

    async def pages(most: int) -> None:
        # private: the limit holds for one connection, the store's own.
        await store._file.write(lambda cursor: cursor.execute(f"PRAGMA max_page_count = {most}"))

    await pages(1)
    large = message("m2", content="x" * 100_000)
    with pytest.raises(CacheError):
        await store.store_inbound(large)
    assert store.status() == {"ok": False, "fault": "database or disk is full", "failures": 1}
    assert await store.fetch_outbound("m1") is not None
    assert await store.fetch_inbound("m2") is None
    await pages(1_000_000)
    await store.store_inbound(large)
    assert await store.fetch_inbound("m2") == large


@pytest_twisted.ensureDeferred
async def test_no_place(make: Any, path: Path) -> None:
    """A folder that can't be made fails operations, until it can."""
    path.parent.parent.write_text("a file in the way")
    store = await make()
    with pytest.raises(CacheError):
        await store.store_inbound(message("m1"))
    path.parent.parent.unlink()
    await store.store_inbound(message("m1"))
    assert store.status()["ok"] is True


@pytest_twisted.ensureDeferred
async def test_locked(make: Any, path: Path) -> None:
    """Another process that keeps the file locked holds a store no longer than cache_timeout; reading goes on."""
    store = await make(cache_timeout=0.3)
    await store.store_inbound(message("m1"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = reactor.seconds()
    with pytest.raises(CacheError):
        await store.store_inbound(message("m2"))
    assert reactor.seconds() - began < 0.8
    assert await store.fetch_inbound("m1") is not None
    other.execute("ROLLBACK")
    other.close()
    await store.store_inbound(message("m2"))


def test_opened_by_several_at_once(tmp_path: Path) -> None:
    """A new file that several threads or processes open at the same moment is usable for each of them."""
    faults: list[Exception] = []

    def open_it(path: Path, together: threading.Barrier) -> None:
        connection = sqlite3.connect(path, timeout=5, isolation_level=None)
        together.wait()
        try:
            SqliteFile(None, path, 5).set_up(connection)
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
async def test_order(tmp_path: Path) -> None:
    """Entries and functions of one commit are done in the order of the calls; a fault undoes all of them."""
    file = SqliteFile(reactor, tmp_path / "x.db", 5)
    found: list[int] = []

    def look(cursor: Any) -> None:
        found.extend(cursor.execute("SELECT count(*) FROM entries").fetchone())

    many = [row(f"m{n}") for n in range(MAX_ROWS + 1)]
    works = [row("first"), look, *many, look]
    await gatherResults([file.write(work) for work in works])
    assert found == [1, MAX_ROWS + 2]

    def fail(cursor: Any) -> None:
        raise sqlite3.DataError("a fault")

    failed = [file.write(row("gone")), file.write(fail)]
    for waiting in failed:
        with pytest.raises(sqlite3.DataError, match="a fault"):
            await waiting
    await file.read(look)
    assert found[-1] == MAX_ROWS + 2
    await file.stop()


@pytest_twisted.ensureDeferred
async def test_read_faults_are_apart(tmp_path: Path) -> None:
    """Of reads that share a visit of the thread, one that fails fails alone."""
    file = SqliteFile(reactor, tmp_path / "x.db", 5)
    failing, other = file.read(lambda cursor: 1 / 0), file.read(lambda cursor: 2)
    with pytest.raises(ZeroDivisionError):
        await failing
    assert await other == 2
    await file.stop()
