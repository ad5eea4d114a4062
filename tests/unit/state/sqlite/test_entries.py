"""The entries of a SQLite file: keys, the index of the last messages, and their number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given

from junebug_turn.messages.vumi import new_id
from junebug_turn.state import packing
from junebug_turn.state.sqlite.entries import (
    INBOUND,
    LAST,
    NOTE,
    OUTBOUND,
    Entries,
    count_entries,
    pack_key,
    unpack_key,
)
from junebug_turn.state.sqlite.schema import create_tables
from tests.support.store_harness import message

KEY = pack_key("m1")


@pytest.fixture
def cursor() -> Iterator[sqlite3.Cursor]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create_tables(connection)
    yield connection.cursor()
    connection.close()


def entries(now: float = 0, connector: str = "sms") -> Entries:
    return Entries(connector, now, now + 10)


@given(st.text(max_size=40) | st.just("\ud800") | st.uuids().map(lambda uuid: uuid.hex))
def test_keys(name: str) -> None:
    """A key tells its name, so that no two names share one."""
    assert unpack_key(pack_key(name)) == name


def test_written_keys() -> None:
    """The keys are those of existing files: 17 bytes for a usual id, and any other name as it is."""
    assert pack_key("ab" * 16) == b"\0" + b"\xab" * 16
    assert len(pack_key(new_id())) == 17
    assert pack_key("+27831234567") == b"\1+27831234567"


def test_put_and_get(cursor: sqlite3.Cursor) -> None:
    """An entry is found by its connector, kind and key until it expires, and is gone when it was removed."""
    entries().put(cursor, INBOUND, KEY, b"value")
    assert entries(9).get(cursor, INBOUND, KEY) == b"value"
    assert entries(10).get(cursor, INBOUND, KEY) is None
    assert entries().get(cursor, OUTBOUND, KEY) is None
    assert entries(connector="other").get(cursor, INBOUND, KEY) is None
    entries(connector="other").remove(cursor, INBOUND, KEY)
    assert entries().get(cursor, INBOUND, KEY) == b"value"
    entries().remove(cursor, INBOUND, KEY)
    assert entries().get(cursor, INBOUND, KEY) is None


def last(cursor: sqlite3.Cursor, address: str, now: float = 0) -> bytes | None:
    return entries(now).get(cursor, LAST, pack_key(address))


def test_last_of_an_address(cursor: sqlite3.Cursor) -> None:
    """A new message is the last one of its address; one without address is the last one of none."""
    entries().update_last(cursor, KEY, None, "a")
    assert last(cursor, "a") == KEY
    entries().update_last(cursor, pack_key("m2"), None, "a")
    assert last(cursor, "a") == pack_key("m2")
    entries().update_last(cursor, pack_key("m3"), None, None)
    assert last(cursor, "a") == pack_key("m2")


def test_last_that_comes_again(cursor: sqlite3.Cursor) -> None:
    """A message that comes again does not become the last one; if it is, its time begins anew."""
    before = packing.pack_message(message("m1", "a"))
    entries().update_last(cursor, KEY, None, "a")
    entries(5).update_last(cursor, KEY, before, "a")
    assert last(cursor, "a", 14) == KEY
    entries(5).update_last(cursor, pack_key("m2"), None, "a")
    entries(5).update_last(cursor, KEY, before, "a")
    assert last(cursor, "a", 5) == pack_key("m2")


def test_last_that_comes_from_another_address(cursor: sqlite3.Cursor) -> None:
    """A message that comes again from another address is the last one of that, and no more of the first."""
    entries().update_last(cursor, KEY, None, "a")
    entries().update_last(cursor, KEY, packing.pack_message(message("m1", "a")), "b")
    assert (last(cursor, "a"), last(cursor, "b")) == (None, KEY)


def test_last_after_a_damaged_one(cursor: sqlite3.Cursor) -> None:
    """A message in whose place a foreign value stood is a new one."""
    entries().update_last(cursor, KEY, b"[1]", "a")
    assert last(cursor, "a") == KEY


def test_count(cursor: sqlite3.Cursor) -> None:
    """The entries of each kind of one connector are counted that have not expired."""
    for number in range(3):
        entries(number).put(cursor, INBOUND, pack_key(f"m{number}"), b"")
    entries(5).put(cursor, NOTE, KEY, b"")
    entries(5, "other").put(cursor, INBOUND, KEY, b"")
    kinds = [INBOUND, OUTBOUND, NOTE]
    assert count_entries(cursor, "sms", 0, kinds) == [3, 0, 1]
    assert count_entries(cursor, "sms", 11, kinds) == [1, 0, 1]
    assert count_entries(cursor, "none", 0, kinds) == [0, 0, 0]
