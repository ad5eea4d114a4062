"""The tables of a SQLite file of entries, and how those of older versions become them."""

from __future__ import annotations

from sqlite3 import Connection, DatabaseError

from junebug_turn.state.sqlite.entries import pack_key

SCHEMA_VERSION = 2

# kind: i inbound, l the last inbound of an address, o outbound, e the events of a message, m menu
# The rows stand in the order of storing, and only the index has the keys, which come in no order: storing costs a
# quarter less than with the rows in the order of the keys.
_SCHEMA = (
    """CREATE TABLE entries (
        connector TEXT NOT NULL, kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY (key, kind, connector)
    )""",
    "CREATE INDEX entries_expires ON entries (expires, connector, kind)",
)

# Version 1 had the rows in the order of the keys, and an id as its text.
_FROM_VERSION_1 = (
    "ALTER TABLE entries RENAME TO entries_1",
    "DROP INDEX entries_expires",
    *_SCHEMA,
    """INSERT OR IGNORE INTO entries
        SELECT connector, kind, pack(key), CASE kind WHEN 'l' THEN pack(value) ELSE value END, expires
        FROM entries_1""",
    "DROP TABLE entries_1",
)

_MIGRATIONS = {0: _SCHEMA, 1: _FROM_VERSION_1}
"""What makes the tables of those of each older version; 0 is an empty file."""


def version_of(connection: Connection) -> int:
    """The version of the tables that are there; 0 where there are none."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: Connection) -> None:
    """See that the tables are those of this version.

    :raises sqlite3.Error: they can't be, or are of a newer version
    """
    if version_of(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        version = version_of(connection)
        if version > SCHEMA_VERSION:
            raise DatabaseError(f"schema version {version} is newer than {SCHEMA_VERSION}")
        if version < SCHEMA_VERSION:
            connection.create_function("pack", 1, _pack)
            for statement in _MIGRATIONS[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _pack(key: object) -> bytes | None:
    """The key of today for one of version 1; None, which is not taken over, for what was never one."""
    try:
        return pack_key(str(key, "utf-8", "surrogatepass"))  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
