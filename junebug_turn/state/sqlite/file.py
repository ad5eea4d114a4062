"""SQLite file with one writer thread, whose writes share commits, and a reader thread that does not wait for it."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.errors import ConfigError
from junebug_turn.state.sqlite.batches import Batches
from junebug_turn.state.sqlite.room import Deletion, Room, is_full
from junebug_turn.state.sqlite.schema import SCHEMA_VERSION, create_tables, version_of

Row = tuple[str, str, bytes, bytes, float]
"""An entry: connector, kind, key, value and the time at which it expires."""

Write = Row | Callable[[Any], None]
"""A part of a commit: an entry, or a function that is called with the cursor of the writer's thread."""

Read = Callable[[Any], Any]
"""A function that is called with the cursor of the reader's thread."""

_DANGLING = "is a symbolic link to no file: make that file, or remove the link"

MAX_BYTES = 2 * 1024**3
"""The bound of a file's size, by default."""

MAX_ROWS = 500
"""Entries that one statement stores; SQLite allows 32,766 parameters."""


def check_file(path: Path, key: str) -> None:
    """Check that ``path``, if it exists, can be used; nothing is written.

    :raises ConfigError: it is no SQLite file, damaged, or of an unknown schema version
    """
    if not path.exists():
        if path.is_symlink():
            raise ConfigError(f"{key}: {path} {_DANGLING}")
        return
    try:
        # Not mode=ro: without its -wal file a database that was not closed could not be read.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=1)
        try:
            version = version_of(connection)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError(f"{key}: {path} can't be used: {error}") from None
    if version not in (0, SCHEMA_VERSION):
        origin = "from a newer version" if version > SCHEMA_VERSION else "not from a released version"
        raise ConfigError(
            f"{key}: {path} has schema version {version}, {origin} of this program; this one knows {SCHEMA_VERSION}"
        )


class _Pool(ConnectionPool):
    """adbapi's pool; it makes the file and its folder where they are missing, for their owner only.

    From a file that is there the rights of others are taken.  SQLite gives its files beside this one the same mode.
    """

    log = Logger()

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__("sqlite3", str(path), **options)
        self._path = path

    def connect(self) -> Any:
        if not self._path.exists():
            self._make()
        for name in (self._path, Path(f"{self._path}-wal"), Path(f"{self._path}-shm")):
            self._protect(name)
        return super().connect()

    def _make(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            # A link to a file that isn't there is not followed: whoever made it chose the place.
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            if not self._path.exists():
                raise OSError(errno.ELOOP, f"{self._path} {_DANGLING}") from None

    def _protect(self, path: Path) -> None:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if not mode & 0o077:
                return
            path.chmod(mode & 0o700)
        except FileNotFoundError:
            return
        except OSError as fault:
            self.log.warn(
                "Others may read or write {path}, and their rights can't be taken: {reason}",
                path=str(path),
                reason=fault.strerror,
            )
        else:
            self.log.warn(
                "Others could read or write {path} (mode {mode}): it is its owner's alone now",
                path=str(path),
                mode=f"{mode:o}",
            )


class SqliteFile:
    """A file of entries, which several processes can share; it is opened at its first use.

    :param reactor: runs the threads
    :param wait: seconds to wait for another process that writes
    :param max_bytes: the bound of its size
    """

    def __init__(self, reactor: Any, path: Path, wait: float, max_bytes: int = MAX_BYTES) -> None:
        self._wait = wait
        self._room = Room(path, max_bytes)
        options: dict[str, Any] = {
            "timeout": wait,
            # Transactions begin where _write begins them.
            "isolation_level": None,
            # adbapi closes a connection in another thread than its own.
            "check_same_thread": False,
            "cp_min": 1,
            "cp_max": 1,
            "cp_reactor": reactor,
            "cp_openfun": self.set_up,
            "cp_noisy": False,
        }
        writer = _Pool(path, **options | {"cp_openfun": self._set_up_writer})
        self._writes: Batches[Write] = Batches(reactor, writer, wait, self._write)
        self._reads: Batches[Read] = Batches(reactor, _Pool(path, **options), wait, _read)

    def set_up(self, connection: Any) -> None:
        """Set up a connection, in its thread."""
        try:
            self._use_wal(connection)
            # A commit is on the disk when it returns, even if the machine fails then.
            connection.execute("PRAGMA synchronous = FULL")
            create_tables(connection)
        except BaseException:
            # adbapi does not keep a connection whose set-up failed, and would not close it.
            connection.close()
            raise

    def _set_up_writer(self, connection: Any) -> None:
        self.set_up(connection)
        self._room.set_up(connection)

    def make_room(self, delete: Callable[[Any], None]) -> Deferred[None]:
        """Delete entries, also where there is no room for anything else, and keep the reserve: see ``Room``."""

        def work(cursor: Any) -> None:
            delete(cursor)
            self._room.keep(cursor)

        return self.write(Deletion(work))

    def _write(self, cursor: Any, works: list[Write]) -> list[Any]:
        """Do all of ``works`` in one transaction; where there is no room for that, deletions in one of their own."""
        try:
            return _write(cursor, works)
        except sqlite3.OperationalError as fault:
            if not is_full(fault):
                raise
        _roll_back(cursor)
        self._room.give_up(cursor)
        deletions = [work for work in works if isinstance(work, Deletion)]
        if deletions:
            _write(cursor, deletions)
        others = [work for work in works if not isinstance(work, Deletion)]
        try:
            if others:
                _write(cursor, others)
        except sqlite3.OperationalError as fault:
            _roll_back(cursor)
            return [None if isinstance(work, Deletion) else Failure(fault) for work in works]
        return [None] * len(works)

    def _use_wal(self, connection: Any) -> None:
        """Turn the write-ahead log on; SQLite does not wait for a process that does the same just now, so this does."""
        end = time.monotonic() + self._wait
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def read(self, work: Read) -> Deferred[Any]:
        """Return the result of ``work``."""
        return self._reads.add(work)

    def write(self, work: Write) -> Deferred[None]:
        """Do ``work`` in the next commit, in the order of the calls; fires when the commit is on the disk.

        Cancelling withdraws work that was not begun.
        """
        return self._writes.add(work)

    async def stop(self) -> None:
        """Finish all work that was added, and close the file."""
        await self._writes.stop()
        await self._reads.stop()


def _read(cursor: Any, works: list[Read]) -> list[Any]:
    return [_result(work, cursor) for work in works]


def _result(work: Read, cursor: Any) -> Any:
    try:
        return work(cursor)
    except Exception:
        # A damaged page is the fault of the works that read it, and of no other.
        return Failure()


def _write(cursor: Any, works: Sequence[Write]) -> list[None]:
    """Do all of ``works`` in one transaction.

    A statement has many entries, and a single statement needs no BEGIN and COMMIT: each call of SQLite releases
    Python's lock, and waits up to 5 ms for it while the reactor works.
    """
    steps = list(_steps(works))
    if len(steps) == 1 and isinstance(works[0], tuple):
        steps[0](cursor)
        return [None] * len(works)
    # Immediate: a transaction that reads first fails at its first write where another process wrote in between.
    cursor.execute("BEGIN IMMEDIATE")
    for step in steps:
        step(cursor)
    cursor.execute("COMMIT")
    return [None] * len(works)


def _roll_back(cursor: Any) -> None:
    # SQLite has done so already after some faults.
    if cursor.connection.in_transaction:
        cursor.execute("ROLLBACK")


def _steps(works: Sequence[Write]) -> Iterator[Callable[[Any], None]]:
    rows: list[Row] = []
    for work in works:
        if isinstance(work, tuple):
            rows.append(work)
        if rows and (not isinstance(work, tuple) or len(rows) == MAX_ROWS):
            yield partial(_insert, rows=rows)
            rows = []
        if not isinstance(work, tuple):
            yield work
    if rows:
        yield partial(_insert, rows=rows)


def _insert(cursor: Any, rows: list[Row]) -> None:
    values = ",".join(["(?,?,?,?,?)"] * len(rows))
    cursor.execute(f"INSERT OR REPLACE INTO entries VALUES {values}", [*chain.from_iterable(rows)])  # noqa: S608
