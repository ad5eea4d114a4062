"""Entries of a SQLite file: the statements that the file's threads run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from junebug_turn.state import expiring, packing

INBOUND, LAST, OUTBOUND, EVENTS, NOTE, STATUS, STEPS, QUOTA, CLAIM, SETTING = (
    "i",
    "l",
    "o",
    "e",
    "m",
    "s",
    "t",
    "q",
    "r",
    "c",
)

DAMAGED = (ValueError, TypeError, IndexError)
"""The exceptions of ``packing`` for a value that it did not make."""

MOST_COUNTED = 200_000
"""Entries of a file that a count reads: a tenth of a second, in which the reader's thread does nothing else."""


@frozen
class Entries:
    """The entries of one connector at one time, for the thread of the file."""

    connector: str
    now: float
    expires: float

    def get(self, cursor: Any, kind: str, key: bytes) -> bytes | None:
        row = cursor.execute(
            "SELECT value FROM entries WHERE connector = ? AND kind = ? AND key = ? AND expires > ?",
            (self.connector, kind, key, self.now),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, cursor: Any, kind: str, key: bytes, value: bytes) -> None:
        cursor.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
            (self.connector, kind, key, value, self.expires),
        )

    def remove(self, cursor: Any, kind: str, key: bytes) -> None:
        cursor.execute(
            "DELETE FROM entries WHERE connector = ? AND kind = ? AND key = ?", (self.connector, kind, key)
        )

    def update_last(self, cursor: Any, key: bytes, before: bytes | None, from_addr: str | None) -> None:
        """Make the message ``key`` the last one of its address, unless it is ``before`` that came again."""
        if before is not None:
            try:
                former = packing.packed_from_addr(before)
            except DAMAGED:
                former = None
            if former is not None and self.get(cursor, LAST, pack_key(former)) == key:
                self.remove(cursor, LAST, pack_key(former))
                if former == from_addr:
                    self.put(cursor, LAST, pack_key(former), key)
            if former == from_addr:
                return
        if from_addr is not None:
            self.put(cursor, LAST, pack_key(from_addr), key)


_ID, _NAME = b"\0", b"\1"


def pack_key(name: str) -> bytes:
    """Return ``name`` as a key: that of an id, as nearly all are, is half as long."""
    key = expiring.pack_key(name)
    if isinstance(key, bytes):
        return _ID + key
    # A name from JSON can have half a surrogate pair, which is no UTF-8.
    return _NAME + key.encode("utf-8", "surrogatepass")


def unpack_key(key: bytes) -> str:
    """Return the name of which ``pack_key`` made ``key``."""
    return expiring.unpack_key(key[1:] if key[:1] == _ID else key[1:].decode("utf-8", "surrogatepass"))


def count_entries(cursor: Any, connector: str, now: float, kinds: Sequence[str]) -> list[int]:
    """Count the entries of each kind that have not expired; of a very large file those of its first part."""
    sums = ", ".join("coalesce(sum(kind = ?), 0)" for _ in kinds)
    # This index alone has all that the count needs, without the values.
    row = cursor.execute(
        f"SELECT {sums} FROM (SELECT connector, kind FROM entries INDEXED BY entries_expires "  # noqa: S608
        "WHERE expires > ? LIMIT ?) WHERE connector = ?",
        (*kinds, now, MOST_COUNTED, connector),
    ).fetchone()
    return list(row)
