"""Room for a SQLite file: the bound of its size, and a reserve on the disk for the time when that is full."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

RESERVE = 16 * 1024 * 1024
"""Bytes of the reserve: those that a write-ahead log has before it goes into the file, and of one large commit."""

PAUSE = 60.0
"""Seconds after the reserve was given up before it is made again: what frees room has it to itself until then."""

_MARGIN = 4 * 1024 * 1024
"""Bytes that the disk must have beside the reserve before that is made again."""


@frozen(eq=False)
class Deletion:
    """A write that makes room: it is done by itself where the others of its commit find none."""

    delete: Callable[[Any], None]

    def __call__(self, cursor: Any) -> None:
        self.delete(cursor)


def is_full(fault: Exception) -> bool:
    """Tell whether SQLite had no room for a write: on the disk, or within the bound of the file."""
    return (
        isinstance(fault, sqlite3.OperationalError) and fault.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
    )


class Room:
    """Room for one SQLite file, for its writer's thread.

    Deleting needs room too, since it is written to the log before it is done.  So a file beside this one has a reserve,
    which is given up when the disk is full.  From then on the file grows no more and uses the pages again that
    deleting frees, until the disk has room for the reserve.

    :param path: the SQLite file; the reserve is ``{path}-reserve``
    :param max_bytes: the bound of the file's size
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._reserve = path.with_name(f"{path.name}-reserve")
        self._max_bytes = max_bytes
        self._tight: bool | None = None
        self._not_before = 0.0

    def set_up(self, connection: Any) -> None:
        """Set the bound for a connection."""
        self._tight = None
        self.keep(connection)

    def keep(self, cursor: Any) -> None:
        """Make the reserve where it is missing, and have the file grow only while it is there."""
        tight = not self._reserve.exists() and (time.monotonic() < self._not_before or not self._made())
        if tight is not self._tight:
            self._tight = tight
            (page_size,) = cursor.execute("PRAGMA page_size").fetchone()
            # SQLite takes no bound below the present size for any other than this size.
            cursor.execute(f"PRAGMA max_page_count = {1 if tight else self._max_bytes // page_size}")

    def give_up(self, cursor: Any) -> None:
        """Give the reserve up, and move into the file what stands in its log.

        :raises sqlite3.Error: there is no room for that either
        """
        self._reserve.unlink(missing_ok=True)
        self._not_before = time.monotonic() + PAUSE
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.keep(cursor)

    def _made(self) -> bool:
        try:
            disk = os.statvfs(self._reserve.parent)
            if disk.f_bavail * disk.f_frsize < RESERVE + _MARGIN:
                return False
            file = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return True  # another process was faster
        except OSError:
            return False
        try:
            with os.fdopen(file, "wb") as reserve:
                _fill(reserve)
        except OSError:
            with suppress(OSError):
                self._reserve.unlink()
            return False
        return True


def _fill(reserve: Any) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(reserve.fileno(), 0, RESERVE)
    else:
        reserve.write(bytes(RESERVE))


def used_bytes(cursor: Any) -> int:
    """Return the bytes of a file that its entries take; the rest of it is used again."""
    names = ("page_size", "page_count", "freelist_count")
    page_size, pages, free = (cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * page_size)
