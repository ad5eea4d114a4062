"""Schema of a SQLite file of entries."""

from __future__ import annotations

from sqlite3 import Connection, DatabaseError

SCHEMA_VERSION = 2

# kind: i inbound, l the last inbound of an address, o outbound, e the events of a message, m a note (a menu), s the
# status of a transport's component, t the steps of a message, q the calls within a quota, r the claim of a request, c a
# setting of the connector
# The rows stand in the order of storing, and only the index has the keys, which come in no order: storing costs a
# quarter less than with the rows in the order of the keys.
_SCHEMA = (
    """CREATE TABLE entries (
        connector TEXT NOT NULL, kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY (key, kind, connector)
    )""",
    "CREATE INDEX entries_expires ON entries (expires, connector, kind)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def version_of(connection: Connection) -> int:
    """Return the version of the tables that are there; 0 where there are none."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def create_tables(connection: Connection) -> None:
    """Create the tables in an empty file.

    :raises sqlite3.Error: they can't be created, or those that are there are of another version
    """
    if version_of(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        version = version_of(connection)
        if version not in (0, SCHEMA_VERSION):
            raise DatabaseError(f"schema version {version} is not {SCHEMA_VERSION}")
        if version == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
