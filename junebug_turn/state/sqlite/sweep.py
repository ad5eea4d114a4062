"""Deletion of the entries of a SQLite file that have expired, and of the oldest ones where the file is nearly full.

Tested by tests/unit/state/sqlite/test_store.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.logger import Logger

from junebug_turn.state.sqlite.room import used_bytes
from junebug_turn.telemetry.gauges import PartStats

SWEEP_SIZE = 500
"""Entries that one deletion takes at most, so that no commit waits long for it."""

_FULL = 0.9
"""The part of ``max_bytes`` from which on the oldest entries are dropped."""

_EVICTED = 4 * SWEEP_SIZE
"""Entries that are dropped at once: more than can come in a second."""

_DELETE_EXPIRED = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE expires <= ? LIMIT ?)"
# The order of the rows is that in which they were stored.
_DELETE_OLDEST = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries ORDER BY rowid LIMIT ?)"


class Sweep:
    """The periodic deletion from one file.

    :param max_bytes: the bound of the file's size

    :ivar stats: the size of the file's entries, and how many were dropped before their time
    """

    log = Logger()

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._evicted = self._warned = 0
        self.stats = PartStats(evictions=0)

    def delete(self, cursor: Any, expired: float) -> None:
        """Delete some of what has expired, in the thread of the file.

        :param expired: the latest time of expiry that is over
        """
        cursor.execute(_DELETE_EXPIRED, (expired, SWEEP_SIZE))
        self.stats.bytes = used_bytes(cursor)
        if self.stats.bytes > _FULL * self._max_bytes:
            cursor.execute(_DELETE_OLDEST, (_EVICTED,))
            self._evicted += cursor.rowcount

    def warn(self) -> None:
        """Count the entries that were dropped before their time, and log them."""
        self.stats.evictions = self._evicted
        if self._evicted > self._warned:
            self.log.warn(
                "Cache {path} full at {size} bytes: {dropped} of the oldest entries dropped before their time; raise "
                "max_bytes, or shorten its timeout",
                path=str(self._path),
                size=self.stats.bytes,
                dropped=self._evicted - self._warned,
            )
            self._warned = self._evicted
