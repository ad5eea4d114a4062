"""The tables of a SQLite file, and files whose tables are of another version."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from junebug_turn.errors import ConfigError
from junebug_turn.state.factory import make_store
from junebug_turn.state.sqlite.schema import SCHEMA_VERSION, create_tables, version_of
from tests.support.store_harness import reactor


def test_tables(tmp_path: Path) -> None:
    """The tables are those of the files that exist; making them again changes nothing."""
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
        assert version_of(connection) == 0
        for _ in range(2):
            create_tables(connection)
            assert version_of(connection) == SCHEMA_VERSION == 2
            columns = connection.execute("SELECT name, type FROM pragma_table_info('entries')").fetchall()
            indexed = connection.execute("SELECT name FROM pragma_index_info('entries_expires')").fetchall()
            assert columns == [
                ("connector", "TEXT"),
                ("kind", "TEXT"),
                ("key", "BLOB"),
                ("value", "BLOB"),
                ("expires", "REAL"),
            ]
            assert indexed == [("expires",), ("connector",), ("kind",)]


@pytest.mark.parametrize(
    ("version", "origin"),
    [
        (SCHEMA_VERSION + 1, "from a newer version"),
        (SCHEMA_VERSION - 1, "not from a released version"),
        (-1, "not from a released version"),
    ],
)
def test_unknown_schema(tmp_path: Path, version: int, origin: str) -> None:
    """A file of a newer version, or of an unknown one, is refused at the start, with a line that says so, and is left
    as it is."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        create_tables(connection)
        connection.execute(f"PRAGMA user_version = {version}")
    content = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        make_store("sqlite", {"path": str(path)}, option="message_cache", connector="c", clock=reactor)
    (line,) = caught.value.lines
    assert line == (
        f"message_cache_config.path: {path} has schema version {version}, {origin} of this program; "
        f"this one knows {SCHEMA_VERSION}"
    )
    assert path.read_bytes() == content


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION - 1])
def test_unknown_schema_while_running(tmp_path: Path, version: int) -> None:
    """A file whose tables became those of another version after the check is not used; no transaction is left open."""
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(sqlite3.DatabaseError, match=f"schema version {version} is not {SCHEMA_VERSION}"):
            create_tables(connection)
        assert not connection.in_transaction
        assert version_of(connection) == version
