"""A SQLite file with one writer, whose writes share commits, and readers that don't wait for it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from junebug_turn.errors import ConfigError

T = TypeVar("T")
Row = tuple[str, str, bytes, bytes, float]
"""An entry: connector, kind, key, value and the time at which it expires."""

Write = Row | Callable[[Any], None]
"""A part of a commit: an entry, or something that is given the cursor of the writer's thread."""

MAX_ROWS = 500
"""Entries that one statement stores; SQLite allows 32,766 parameters."""

SCHEMA_VERSION = 1

# kind: i inbound, l the last inbound of an address, o outbound, e the events of a message, m menu
_SCHEMA = (
    """CREATE TABLE entries (
        connector TEXT NOT NULL, kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY (connector, kind, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX entries_expires ON entries (expires)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def check_file(path: Path, key: str) -> None:
    """Look whether ``path``, if it is there, can be used; nothing is written.

    :raises ConfigError: it is no SQLite file, damaged, or from a newer version of this program
    """
    if not path.exists():
        return
    try:
        # Not mode=ro: without its -wal file a database that was not closed could not be read.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=1)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError(f"{key}: {path} can't be used: {error}") from None
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"{key}: {path} has schema version {version}, from a newer version of this program; "
            f"this one knows {SCHEMA_VERSION}"
        )


class _Pool(ConnectionPool):
    """adbapi's pool; the file, and its folder, are made where they are missing, for their owner only.

    What SQLite puts beside the file gets the file's mode.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__("sqlite3", str(path), **options)
        self._path = path

    def connect(self) -> Any:
        if not self._path.exists():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        return super().connect()


class SqliteFile:
    """A file of entries, shared by all that open it; it is opened at its first use.

    :param reactor: runs the threads
    :param wait: seconds to wait for another process that writes
    """

    def __init__(self, reactor: Any, path: Path, wait: float) -> None:
        self._wait = wait
        options: dict[str, Any] = {
            "timeout": wait,
            # Transactions begin where we say it.
            "isolation_level": None,
            # adbapi closes a connection in another thread than its own.
            "check_same_thread": False,
            "cp_min": 1,
            "cp_max": 1,
            "cp_reactor": reactor,
            "cp_openfun": self._opened,
            "cp_noisy": False,
        }
        self._writer = _Pool(path, **options)
        self._reader = _Pool(path, **options)
        self._next: dict[Deferred[None], Write] = {}
        self._committing: Deferred[None] | None = None

    def _opened(self, connection: Any) -> None:
        """Set up a connection, in its thread."""
        try:
            self._use_wal(connection)
            # A commit is on the disk when it returns, whatever ends then.
            connection.execute("PRAGMA synchronous = FULL")
            self._migrate(connection)
        except BaseException:
            # adbapi does not keep a connection whose set-up failed, and would not close it.
            connection.close()
            raise

    def _use_wal(self, connection: Any) -> None:
        """Turn the write-ahead log on; SQLite doesn't wait for others that do the same just now, so we do."""
        end = time.monotonic() + self._wait
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def _migrate(self, connection: Any) -> None:
        if self._version(connection) == SCHEMA_VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have been faster.
            version = self._version(connection)
            if version > SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"schema version {version} is newer than {SCHEMA_VERSION}")
            if version == 0:
                for statement in _SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @staticmethod
    def _version(connection: Any) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version)

    async def read(self, work: Callable[[Any], T]) -> T:
        """The result of ``work``, which is given a cursor, in the reader's thread."""
        return await self._reader.runInteraction(work)  # type: ignore[no-any-return]

    def write(self, work: Write) -> Deferred[None]:
        """Have ``work`` done in the next commit, in the order of the calls; fires when that is on the disk.

        What comes while a commit is under way shares the next one: its cost, mostly the disk's, is then that of
        all.  Cancelling withdraws what was not begun.
        """
        waiting: Deferred[None] = Deferred(self._withdraw)
        self._next[waiting] = work
        if self._committing is None:
            self._commit()
        return waiting

    def _withdraw(self, waiting: Deferred[None]) -> None:
        self._next.pop(waiting, None)

    def _commit(self) -> None:
        batch, self._next = self._next, {}
        works = list(batch.values())
        self._committing = self._writer.runInteraction(_write, works)
        self._committing.addBoth(self._committed, list(batch))

    def _committed(self, result: object, waiting: list[Deferred[None]]) -> None:
        self._committing = None
        if self._next:
            self._commit()
        for one in waiting:
            if one.called:
                # Cancelled after its commit had begun.
                continue
            # Each needs a failure of its own: one that is handled is emptied.
            if isinstance(result, Failure):
                one.errback(Failure(result.value))
            else:
                one.callback(None)

    async def stop(self) -> None:
        """Finish the commits that were asked for and close the file."""
        while self._committing is not None:
            done: Deferred[None] = Deferred()
            self._committing.chainDeferred(done)
            await done
        for pool in (self._writer, self._reader):
            pool.close()


def _write(cursor: Any, works: list[Write]) -> None:
    """Do all of ``works`` in one transaction.

    Entries go many to a statement, and a statement alone needs no words around it: each call of SQLite gives Python's
    lock away and waits up to 5 ms for it while the reactor works.
    """
    steps = list(_steps(works))
    if len(steps) == 1 and isinstance(works[0], tuple):
        steps[0](cursor)
        return
    # Immediate: a transaction that reads first and writes then could find that another process was faster.
    cursor.execute("BEGIN IMMEDIATE")
    for step in steps:
        step(cursor)
    cursor.execute("COMMIT")


def _steps(works: list[Write]) -> Iterator[Callable[[Any], None]]:
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
