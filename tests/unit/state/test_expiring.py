"""The bounded mapping in memory whose entries expire, and its keys."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from twisted.internet.task import Clock

from junebug_turn.state.expiring import (
    ExpiringMap,
    Key,
    pack_key,
    unpack_key,
)
from tests.support.store_harness import (
    message,
)


@pytest.fixture
def dropped() -> list[tuple[Key, bytes]]:
    return []


@pytest.fixture
def entries(clock: Clock, dropped: list[tuple[Key, bytes]]) -> ExpiringMap:
    """Two entries at most, for ten seconds each."""
    return ExpiringMap(
        clock,
        ttl=10,
        max_entries=2,
        max_bytes=10_000,
        hint="",
        on_drop=lambda key, value: dropped.append((key, value)),
    )


def test_expiry(clock: Clock, entries: ExpiringMap, dropped: list[tuple[Key, bytes]]) -> None:
    """An entry is found until its time is over; a value that is put again has its whole time, and the former one is
    returned unless it expired."""
    assert entries.put("a", b"1") is None
    clock.advance(9)
    assert entries.put("a", b"2") == b"1"
    clock.advance(9)
    assert entries.get("a") == b"2"
    clock.advance(1)
    assert entries.get("a") is None
    assert entries.put("a", b"3") is None
    assert dropped == [("a", b"2")]
    assert (entries.hits, entries.misses, entries.evictions) == (1, 1, 0)


def test_bound(entries: ExpiringMap, dropped: list[tuple[Key, bytes]]) -> None:
    """A full map drops its oldest entry for a new one, and none for a new value of a key that it has."""
    for key in ("a", "b", "a", "c"):
        entries.put(key, b"")
    assert dropped == [("b", b"")]
    assert (len(entries), entries.evictions) == (2, 1)


def test_bound_in_bytes(clock: Clock, dropped: list[tuple[Key, bytes]]) -> None:
    """However large the entries are, together they take no more bytes than the bound; the oldest are dropped first."""
    store = ExpiringMap(
        clock,
        ttl=10,
        max_entries=1000,
        max_bytes=20_000,
        hint="",
        on_drop=lambda key, value: dropped.append((key, value)),
    )
    for n in range(30):
        store.put(f"m{n}", bytes(3000))
        assert store.size <= 20_000
    assert [store.get(f"m{n}") is not None for n in range(23, 30)] == [False] + [True] * 6
    assert (len(dropped), store.evictions) == (24, 24)
    # A larger value of a key that it has drops others too, and never itself.
    store.put("m29", bytes(15_000))
    assert (len(store), len(store.get("m29") or b"")) == (2, 15_000)
    store.clear()
    assert store.size == 0


def test_an_entry_over_the_bound(clock: Clock, dropped: list[tuple[Key, bytes]]) -> None:
    """An entry that alone is over the bound is not stored, takes the place of its former value, and drops no other."""
    store = ExpiringMap(
        clock, ttl=10, max_entries=10, max_bytes=10_000, hint="", on_drop=lambda *each: dropped.append(each)
    )
    store.put("a", b"1")
    store.put("b", b"2")
    assert store.put("a", bytes(10_000)) is None
    assert (store.get("a"), store.get("b"), dropped, store.evictions) == (None, b"2", [("a", b"1")], 1)
    assert "a" not in store


@given(st.lists(st.tuples(st.sampled_from("abcé"), st.integers(0, 3000), st.booleans())))
def test_size_is_that_of_the_entries(steps: list[tuple[str, int, bool]]) -> None:
    """The size that is counted is always that of the entries that are there, whatever was put, removed and dropped."""
    clock = Clock()
    store = ExpiringMap(clock, ttl=3, max_entries=3, max_bytes=5000, hint="")
    for key, length, removes in steps:
        if removes:
            store.remove(key)
        else:
            store.put(key, bytes(length))
        clock.advance(1)
        # private: the entries' own sizes are what the sum is held against.
        assert store.size == sum(store._size(*entry) for entry in store._entries.items()) <= 5000


def test_removal(entries: ExpiringMap, dropped: list[tuple[Key, bytes]]) -> None:
    """A removed entry is gone and reported; clearing reports nothing."""
    entries.put("a", b"1")
    entries.put("b", b"2")
    entries.remove("a")
    entries.remove("none")
    assert dropped == [("a", b"1")]
    entries.clear()
    assert (len(entries), dropped) == (0, [("a", b"1")])


def test_use_drops_the_expired(clock: Clock) -> None:
    """Each operation drops a few expired entries, and only a few: none has to wait for many."""
    store = ExpiringMap(clock, ttl=10, max_entries=1000, max_bytes=10**6, hint="")
    for n in range(100):
        store.put(str(n), b"")
    clock.advance(10)
    sizes = []
    for n in range(3):
        store.put(f"new{n}", b"")
        sizes.append(len(store))
    assert sizes == [99, 98, 97]
    store.get("x")
    assert len(store) == 95


@given(
    st.text(max_size=40)
    | st.uuids().map(lambda uuid: uuid.hex)
    | st.text("0123456789abcdefAF ", min_size=32, max_size=32)
)
def test_keys(name: str) -> None:
    """A key tells its name, so that no two names share one."""
    assert unpack_key(pack_key(name)) == name


def test_uuid_keys_are_short() -> None:
    """The key of a usual message id is 16 bytes."""
    assert len(pack_key(message().message_id.replace("m1", "ab" * 16))) == 16
