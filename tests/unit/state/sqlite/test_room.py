"""The room of a SQLite file: its bound in bytes, its reserve, and what becomes of it on a full disk."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from junebug_turn.errors import CacheError
from junebug_turn.messages.vumi import new_id
from junebug_turn.state.sqlite import room
from junebug_turn.state.sqlite.room import RESERVE, Room
from tests.support.daemon import until
from tests.support.store_harness import outbound, reactor
from tools.servers.process import ROOT


def _has_disks() -> bool:
    """Whether a disk of any size can be made here, as root can."""
    if shutil.which("unshare") is None:
        return False
    made = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return made.returncode == 0


@pytest.mark.skipif(not _has_disks(), reason="no small disk can be mounted here")
def test_full_disk(tmp_path: Path) -> None:
    """A store that filled its disk stores again by itself when its entries have expired: deleting needs room too,
    and a reserve has it."""
    mount = f"mount -t tmpfs -o size=28m none {tmp_path} && exec {sys.executable}"
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} -m tests.support.full_disk {tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    stored = [int(line.split()[1]) for line in ran.stdout.splitlines()]
    assert len(stored) == 2
    assert min(stored) > 100


async def _store(store: Any, count: int) -> None:
    records = [outbound(new_id(), "http://h/" + "x" * 2000) for _ in range(count)]
    await gatherResults(
        [Deferred.fromCoroutine(store.store_outbound(each)) for each in records], consumeErrors=True
    )


def _size(path: Path) -> int:
    return path.stat().st_size


@pytest_twisted.ensureDeferred
async def test_reserve(make: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 MB beside the file are kept for the time when the disk is full.  While they are not there the file grows no
    more; they are made again as soon as there is room, and then it does."""
    monkeypatch.setattr(room, "PAUSE", 0.0)
    reserve = path.with_name("cache.db-reserve")
    store = await make(remember_last=False)
    await store.store_outbound(outbound("m1"))
    assert (RESERVE, stat.S_IMODE(os.stat(reserve).st_mode)) == (16 * 1024 * 1024, 0o600)
    assert _size(reserve) == RESERVE
    with monkeypatch.context() as patched:
        patched.setattr(Room, "_made", lambda _: False)
        os.unlink(reserve)
        # private: the end of the room shows only in a message that is refused.
        await until(lambda: store._file._room._tight)
        with pytest.raises(FirstError):
            await _store(store, 200)
    await until(reserve.exists)
    # private: the end of the room shows only in a message that is refused.
    await until(lambda: not store._file._room._tight)
    await _store(store, 200)


@pytest_twisted.ensureDeferred
async def test_bound_in_bytes(make: Any, path: Path) -> None:
    """A file takes no more than max_bytes: from 90 % on the oldest entries go, a warning says so, and /metrics has the
    bytes and the count."""
    bound = 2 * 1024 * 1024
    with capturedLogs() as events:
        store = await make(remember_last=False, max_bytes=bound)
        whole = store.stats().parts["file"]
        await _store(store, 400)
        end = reactor.seconds() + 60
        while not whole.evictions:
            assert reactor.seconds() < end
            await _store(store, 2)
            await deferLater(reactor, 0.2)
        assert 0 < whole.bytes <= bound
        assert _size(path) <= bound
    assert [event for event in events if "dropped before their time" in event["log_format"]]
    await _store(store, 20)


@pytest_twisted.ensureDeferred
async def test_never_over_its_bound(make: Any, path: Path) -> None:
    """What comes faster than old entries go is refused: the file is never larger than max_bytes."""
    bound = 1024 * 1024
    store = await make(remember_last=False, max_bytes=bound)
    with pytest.raises(FirstError) as fault:
        await _store(store, 1000)
    assert isinstance(fault.value.subFailure.value, CacheError)
    assert _size(path) <= bound
