"""The message store in memory: its bounds, its size and its speed."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from random import Random

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from junebug_turn.messages.vumi import Message, new_id
from junebug_turn.state.expiring import (
    SWEEP_INTERVAL,
    SWEEP_SIZE,
)
from junebug_turn.state.memory import MemoryStore
from tests.support.store_harness import (
    message,
    outbound,
    result,
)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    events: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            events.append(str(formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


def test_oldest_go_first(clock: Clock, warnings: list[str]) -> None:
    """A full store drops its oldest messages, with their index, and counts them."""
    store = MemoryStore(clock, max_entries=3, remember_last=True)
    for n in range(5):
        result(store.store_inbound(message(f"m{n}", f"a{n}")))
    known = [result(store.fetch_inbound(f"m{n}")) is not None for n in range(5)]
    assert known == [False, False, True, True, True]
    assert [result(store.fetch_last_inbound(f"a{n}")) is not None for n in range(5)] == known
    assert (len(store.inbound), store.inbound.evictions, store.outbound.evictions) == (3, 2, 0)
    assert (store.inbound.hits, store.inbound.misses) == (6, 4)
    # What is stored again takes no other's place.
    result(store.store_inbound(message("m3")))
    assert store.inbound.evictions == 2


def test_full_is_logged_once_a_minute(clock: Clock, warnings: list[str]) -> None:
    """A full store warns once a minute at most, with the count since the last time and what to change."""
    store = MemoryStore(clock, max_entries=1, option="state_cache")
    for n in range(100):
        result(store.store_inbound(message(f"m{n}")))
    assert len(warnings) == 1
    clock.advance(59)
    result(store.store_inbound(message("n1")))
    assert len(warnings) == 1
    clock.advance(1)
    result(store.store_inbound(message("n2")))
    advice = "raise max_entries or max_bytes of state_cache_config, or shorten its timeout"
    assert warnings == [
        f"Cache full at 1 entries, {size} bytes: {n} of the oldest dropped before their time; {advice}"
        for n, size in ((1, 378), (100, 378))
    ]


@pytest.mark.parametrize("length", [10, 1000, 30_000])
@pytest.mark.parametrize("remember_last", [False, True])
def test_bound_in_bytes(clock: Clock, length: int, remember_last: bool, warnings: list[str]) -> None:
    """What clients and peers send takes no more memory than max_bytes for each kind, however large it is; what is
    counted, and shown in /metrics, is what it takes, and one warning says so."""
    bound = 2_000_000
    store = MemoryStore(clock, max_bytes=bound, remember_last=remember_last)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(4 * bound // (length + 500)):
            text = f"{n:07}".ljust(length, "x")
            result(store.store_outbound(outbound(new_id(), f"http://h/{text}", text)))
            result(store.store_inbound(message(new_id(), from_addr=text)))
            result(store.store_note(text, [text]))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    parts = store.stats().parts
    sizes = [parts[name].bytes or 0 for name in ("inbound", "outbound", "menus")]
    assert all(0.9 * bound - 2 * length < size <= bound for size in sizes)
    assert taken < 1.25 * sum(sizes)
    assert len(warnings) == 3
    # private: an address that is left over shows in its memory only.
    assert len(store._last) <= len(store.inbound)


def test_a_message_over_the_bound_is_no_last_one(clock: Clock) -> None:
    """A message that is too large for the store leaves nothing of it in the index of last messages."""
    store = MemoryStore(clock, max_bytes=10_000, remember_last=True)
    result(store.store_inbound(message("m1", "a" * 20_000)))
    # private: an address that is left over shows in its memory only.
    assert (len(store.inbound), len(store._last)) == (0, 0)


def test_idle_cache_shrinks(clock: Clock) -> None:
    """A store that nobody uses lets go of what has expired, a bounded number of entries at a time."""
    store = MemoryStore(clock, timeout=10, remember_last=True)
    result(store.start())
    for n in range(SWEEP_SIZE + 5):
        result(store.store_inbound(message(f"m{n}", f"a{n}")))
        result(store.store_outbound(outbound(f"m{n}")))
    clock.pump([SWEEP_INTERVAL] * int(9 / SWEEP_INTERVAL))
    assert len(store.inbound) == SWEEP_SIZE + 5
    clock.advance(1)
    clock.advance(SWEEP_INTERVAL)
    assert 0 <= len(store.inbound) <= 5
    clock.advance(SWEEP_INTERVAL)
    # private: an address that is left over shows in its memory only.
    assert (len(store.inbound), len(store.outbound), len(store._last)) == (0, 0, 0)
    assert (store.inbound.evictions, store.outbound.evictions) == (0, 0)
    result(store.stop())


def test_expired_message_comes_again(clock: Clock) -> None:
    """A message that comes again from another address, after it expired, is no longer the last of the first."""
    store = MemoryStore(clock, timeout=10, remember_last=True)
    for n in range(4):
        result(store.store_inbound(message(f"m{n}", f"a{n}")))
    clock.advance(10)
    result(store.store_inbound(message("m3", "other")))
    assert result(store.fetch_last_inbound("a3")) is None
    assert result(store.fetch_last_inbound("other")) is not None


@pytest.mark.parametrize("remember_last", [False, True])
def test_entry_size(clock: Clock, remember_last: bool) -> None:
    """An inbound SMS of a usual length takes at most 700 bytes in all."""
    count = 20_000
    store = MemoryStore(clock, remember_last=remember_last)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(count):
            sms = Message(
                to_addr="+27820001001",
                from_addr=f"+2783{n:07}",
                transport_name="sms_transport_smpp",
                transport_type="sms",
                content="Hello world, this is an SMS of about a hundred letters, as people write to a helpline, again",
                provider="mtn",
                routing_metadata={"endpoint_name": "default"},
                helper_metadata={"session_event": None},
            )
            result(store.store_inbound(sms))
        size = (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
    assert size <= 700


def test_lookups_take_the_same_time(clock: Clock) -> None:
    """A lookup among 100,000 messages takes about as long as one among 1,000, not in any proportion to them."""
    store = MemoryStore(clock, remember_last=True)
    ids = [new_id() for _ in range(100_000)]

    async def fill(start: int, end: int) -> None:
        for message_id in ids[start:end]:
            await store.store_inbound(message(message_id, message_id))

    async def lookup() -> float:
        chosen = Random(1).sample(ids[: len(store.inbound)], 300)
        rounds = []
        for _ in range(15):
            began = time.perf_counter()
            for message_id in chosen:
                await store.fetch_inbound(message_id)
            rounds.append(time.perf_counter() - began)
        return min(rounds)

    result(fill(0, 1000))
    few = result(lookup())
    result(fill(1000, len(ids)))
    assert result(lookup()) < 5 * few
