"""The promises of every cache, and those of the one in memory.

The first part runs for each kind of cache; only what a ``Side`` gives is used there.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from junebug_turn.errors import ConfigError
from junebug_turn.messages.vumi import Event, Message, new_id
from junebug_turn.state.expiring import (
    SWEEP_INTERVAL,
    SWEEP_SIZE,
    ExpiringMap,
    pack_key,
    unpack_key,
)
from junebug_turn.state.factory import make_store
from junebug_turn.state.memory import MemoryStore
from junebug_turn.state.message_store import MessageStore, OutboundRecord
from junebug_turn.state.packing import MAX_EVENTS
from junebug_turn.state.redis.store import RedisStore
from junebug_turn.state.sqlite.store import SqliteStore
from tests.support import strategies
from tests.support.store_harness import (
    SIDES,
    MemorySide,
    RedisSide,
    Side,
    SqliteSide,
    in_thread,
    reactor,
    result,
)

DAY = 24 * 60 * 60


def message(message_id: str = "m1", from_addr: str | None = "+27831234567", **fields: Any) -> Message:
    return Message(
        message_id=message_id,
        to_addr="8110",
        from_addr=from_addr,
        transport_name="sms",
        transport_type="sms",
        **fields,
    )


def outbound(
    message_id: str = "m1", event_url: str | None = None, token: str | None = None, **fields: Any
) -> OutboundRecord:
    return OutboundRecord(message_id, "8110", event_url, token, **fields)


Make = Callable[..., MessageStore]


def event(message_id: str = "m1", event_id: str = "e1", **fields: Any) -> Event:
    return Event(user_message_id=message_id, event_id=event_id, **{"event_type": "ack", **fields})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(SIDES))
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    side = SIDES[request.param]()
    yield side
    side.stop()


@pytest.fixture
def make(side: Side) -> Make:
    """Makes and starts caches of one kind, which are stopped at the end."""
    return side.make


@pytest.fixture
def advance(side: Side) -> Callable[[float], None]:
    """Lets time pass."""
    return side.advance


# Every implementation.


@in_thread
def test_inbound(make: Make) -> None:
    """An inbound message is found again by its id, as it was."""
    cache = make()
    stored = message(
        content="Molo ☺", helper_metadata={"a": [1, {"b": None}]}, group="g", session_event="new"
    )
    result(cache.store_inbound(stored))
    assert result(cache.fetch_inbound("m1")) == stored
    assert result(cache.fetch_inbound("m2")) is None


@in_thread
def test_outbound(make: Make) -> None:
    """Of an outbound message its address, event URL and token are found again by its id."""
    cache = make()
    result(cache.store_outbound(outbound("m1", "http://h/e", "token")))
    result(cache.store_outbound(outbound("m2")))
    assert result(cache.fetch_outbound("m1")) == outbound("m1", "http://h/e", "token")
    assert result(cache.fetch_outbound("m2")) == outbound("m2")
    assert result(cache.fetch_outbound("m3")) is None


@in_thread
def test_kinds_are_apart(make: Make) -> None:
    """An inbound and an outbound message with the same id are two entries."""
    cache = make()
    result(cache.store_inbound(message("m1")))
    assert result(cache.fetch_outbound("m1")) is None
    result(cache.store_outbound(outbound("m2")))
    assert result(cache.fetch_inbound("m2")) is None


@in_thread
def test_ids_are_exact(make: Make) -> None:
    """Ids that differ only in the case of their letters are different ids."""
    cache = make()
    low, high = "ab" * 16, "AB" * 16
    result(cache.store_inbound(message(low, content="low")))
    assert result(cache.fetch_inbound(high)) is None
    result(cache.store_inbound(message(high, content="high")))
    assert [getattr(result(cache.fetch_inbound(x)), "content", None) for x in (low, high)] == ["low", "high"]


@pytest.mark.parametrize("kind", list(SIDES))
@in_thread
def test_any_message(kind: str) -> None:
    """Whatever message comes is found again as it was."""
    side = SIDES[kind]()
    cache = side.make()

    @settings(max_examples=50)
    @given(strategies.messages)
    def check(stored: Message) -> None:
        result(cache.store_inbound(stored))
        assert result(cache.fetch_inbound(stored.message_id)) == stored
        if stored.from_addr is not None:
            last = result(cache.fetch_last_inbound(stored.from_addr))
            # An id that has come before, from there, is not the last one.
            assert last is not None
            assert last.from_addr == stored.from_addr

    check()
    side.stop()


@pytest.mark.parametrize("kind", list(SIDES))
@in_thread
def test_any_event(kind: str) -> None:
    """Whatever event comes is found again as it was, once."""
    side = SIDES[kind]()
    cache = side.make()

    @settings(max_examples=30)
    @given(strategies.events)
    def check(stored: Event) -> None:
        for _ in range(2):
            result(cache.store_event(stored))
        assert result(cache.fetch_events(stored.user_message_id)).count(stored) == 1

    check()
    side.stop()


@pytest.mark.parametrize("name", ["\ud800", "a:b", " ", "message"])
@in_thread
def test_odd_names(make: Make, name: str) -> None:
    """Half a surrogate pair, as JSON can have it, a separator or a word of the format do no harm as id or address."""
    cache = make()
    result(cache.store_inbound(message(name, name)))
    result(cache.store_outbound(outbound(name)))
    result(cache.store_event(event(name, name)))
    result(cache.store_note(name, [name]))
    assert result(cache.fetch_inbound(name)) is not None
    assert result(cache.fetch_last_inbound(name)) is not None
    assert result(cache.fetch_outbound(name)) == outbound(name)
    assert [stored.event_id for stored in result(cache.fetch_events(name))] == [name]
    assert result(cache.fetch_note(name)) == [name]


@pytest.mark.parametrize("note", ["", 0, False, [], {}, [None, [["\u263a", 1.5, {"a": [True]}]]]])
@in_thread
def test_note(make: Make, note: Any) -> None:
    """The note of an address is found again, whatever JSON value it is, until another takes its place or None does."""
    cache = make()
    assert result(cache.fetch_note("+27")) is None
    for value in ("before", note):
        result(cache.store_note("+27", value))
    assert result(cache.fetch_note("+27")) == note
    assert result(cache.fetch_note("+28")) is None
    result(cache.store_note("+27", None))
    assert result(cache.fetch_note("+27")) is None


@in_thread
def test_default_timeout(make: Make, advance: Callable[[float], None]) -> None:
    """By default a message is known for 24 hours, and no longer."""
    cache = make()
    result(cache.store_inbound(message("m1")))
    result(cache.store_outbound(outbound("m1", "http://h/e")))
    result(cache.store_event(event("m1")))
    result(cache.store_note("+27", []))
    advance(DAY)
    assert result(cache.fetch_inbound("m1")) is None
    assert result(cache.fetch_outbound("m1")) is None
    assert result(cache.fetch_last_inbound("+27831234567")) is None
    assert result(cache.fetch_events("m1")) == []
    assert result(cache.fetch_note("+27")) is None
    result(cache.store_inbound(message("m2")))
    result(cache.store_outbound(outbound("m2", "http://h/e")))
    result(cache.store_event(event("m2")))
    result(cache.store_note("+27", []))
    advance(DAY - 60)
    assert result(cache.fetch_inbound("m2")) is not None
    assert result(cache.fetch_outbound("m2")) is not None
    assert result(cache.fetch_last_inbound("+27831234567")) is not None
    assert result(cache.fetch_events("m2")) != []
    assert result(cache.fetch_note("+27")) is not None


@in_thread
def test_timeout(make: Make, advance: Callable[[float], None]) -> None:
    """The option timeout sets that time; a message that is stored again is known for that time anew."""
    cache = make(timeout=1000)
    result(cache.store_inbound(message("m1")))
    advance(600)
    result(cache.store_inbound(message("m1", content="again")))
    result(cache.store_inbound(message("m2")))
    advance(600)
    fetched = result(cache.fetch_inbound("m1"))
    assert fetched is not None
    assert fetched.content == "again"
    advance(400)
    assert result(cache.fetch_inbound("m2")) is None


@in_thread
def test_connectors_are_apart(side: Side) -> None:
    """Two applications on one store have nothing in common."""
    one, other = side.make(connector="one"), side.make(connector="other")
    result(one.store_inbound(message("m1")))
    result(one.store_outbound(outbound("m1")))
    result(one.store_note("x", []))
    result(one.store_event(event("m1")))
    assert result(other.fetch_inbound("m1")) is None
    assert result(other.fetch_last_inbound("+27831234567")) is None
    assert result(other.fetch_outbound("m1")) is None
    assert result(other.fetch_note("x")) is None
    assert result(other.fetch_events("m1")) == []


@in_thread
def test_events(make: Make) -> None:
    """The events of a message are found by its id, whether it is known or not; one that came twice is there once."""
    cache = make(remember_last=False)
    ack, report = (
        event("m1", "e1"),
        event("m1", "e2", event_type="delivery_report", delivery_status="delivered"),
    )
    for one in (ack, report, ack, event("m2", "e3")):
        result(cache.store_event(one))
    assert sorted(result(cache.fetch_events("m1")), key=lambda one: one.event_id) == [ack, report]
    assert result(cache.fetch_events("m3")) == []
    # An event makes no message known.
    assert result(cache.fetch_outbound("m1")) is None
    result(cache.store_outbound(outbound("m1", "http://h/e")))
    assert result(cache.fetch_outbound("m1")) == outbound("m1", "http://h/e")
    assert len(result(cache.fetch_events("m1"))) == 2


@in_thread
def test_healthy(make: Make) -> None:
    """A cache that works says so."""
    cache = make()
    result(cache.store_inbound(message("m1")))
    assert cache.status()["ok"] is True


@in_thread
def test_no_event_info(make: Make) -> None:
    """With store_event_info false neither event URL nor token is kept."""
    cache = make(store_event_info=False)
    result(cache.store_outbound(outbound("m1", "http://h/e", "token")))
    assert result(cache.fetch_outbound("m1")) == outbound("m1")


@in_thread
def test_last_inbound(make: Make) -> None:
    """The last inbound message of an address is the one that arrived last, whatever its timestamp."""
    cache = make()
    new, old = message("m1"), message("m2", timestamp=message().timestamp.replace(year=2015))
    result(cache.store_inbound(new))
    result(cache.store_inbound(message("m3", from_addr="other")))
    result(cache.store_inbound(old))
    assert result(cache.fetch_last_inbound("+27831234567")) == old
    assert result(cache.fetch_last_inbound("nobody")) is None


@in_thread
def test_last_inbound_again(make: Make) -> None:
    """An earlier message that the broker delivers again is not thereby the last of its address."""
    cache = make()
    for message_id in ("m1", "m2", "m1"):
        result(cache.store_inbound(message(message_id)))
    last = result(cache.fetch_last_inbound("+27831234567"))
    assert last is not None
    assert last.message_id == "m2"


@in_thread
def test_no_address(make: Make) -> None:
    """A message without from_addr is kept like any other."""
    cache = make()
    result(cache.store_inbound(message("m1", from_addr=None)))
    assert result(cache.fetch_inbound("m1")) is not None


class StoreMachine(RuleBasedStateMachine):
    """A cache against a model that is too simple to be wrong: lists, looked through from the start."""

    kind: ClassVar[type[Side]] = MemorySide
    TIMEOUT = 1000
    SIZE = 4

    ids = st.sampled_from(["a", "b", "c", "d", "e", "f", "0" * 32, "F" * 32])
    addrs = st.sampled_from(["x", "y", None])

    @initialize()
    def start(self) -> None:
        self.side = self.kind()
        self.now = 0.0
        self.size = self.SIZE if self.kind.bounded else 1000
        bound = {"max_entries": self.SIZE} if self.kind.bounded else {}
        self.cache = self.side.make(timeout=self.TIMEOUT, **bound)
        # (time, message) by age of the last storing; the last of each address
        self.inbound: list[tuple[float, Message]] = []
        self.outbound: list[tuple[float, tuple[str, str]]] = []
        self.events: list[tuple[float, tuple[str, dict[str, Event]]]] = []
        self.last: dict[str, str] = {}
        self.notes: list[tuple[float, tuple[str, Any]]] = []

    def teardown(self) -> None:
        if hasattr(self, "side"):
            self.side.stop()

    def expire(self) -> None:
        since = self.now - self.TIMEOUT
        self.inbound = [entry for entry in self.inbound if entry[0] > since][-self.size :]
        self.outbound = [entry for entry in self.outbound if entry[0] > since][-self.size :]
        self.events = [entry for entry in self.events if entry[0] > since][-self.size :]
        self.notes = [entry for entry in self.notes if entry[0] > since][-self.size :]
        # What is forgotten is not the last of its address any more, should it ever come again.
        known = {stored.message_id for _, stored in self.inbound}
        self.last = {addr: last for addr, last in self.last.items() if last in known}

    def read(self, message_id: str | None) -> None:
        """Where reading renews the time to live, do it for an inbound message."""
        if self.kind.refreshes:
            self.inbound = [
                (self.now if stored.message_id == message_id else time, stored)
                for time, stored in self.inbound
            ]

    def touch(self, message_id: str) -> None:
        """The same for an outbound message with its events, which live together there."""
        if self.kind.refreshes:
            self.outbound = [(self.now if e[0] == message_id else t, e) for t, e in self.outbound]
            self.events = [(self.now if e[0] == message_id else t, e) for t, e in self.events]

    @rule(message_id=ids, addr=addrs, content=st.integers(0, 9))
    def store_inbound(self, message_id: str, addr: str | None, content: int) -> None:
        stored = message(message_id, addr, content=str(content))
        result(self.cache.store_inbound(stored))
        before = [entry[1] for entry in self.inbound if entry[1].message_id == message_id]
        self.inbound = [entry for entry in self.inbound if entry[1].message_id != message_id]
        self.inbound.append((self.now, stored))
        if before and before[0].from_addr != addr:
            self.last = {other: last for other, last in self.last.items() if last != message_id}
        if addr is not None and (not before or before[0].from_addr != addr):
            self.last[addr] = message_id
        self.expire()

    @rule(message_id=ids, url=st.sampled_from(["http://a/", "http://b/"]))
    def store_outbound(self, message_id: str, url: str) -> None:
        result(self.cache.store_outbound(outbound(message_id, url, "t")))
        self.outbound = [entry for entry in self.outbound if entry[1][0] != message_id]
        self.outbound.append((self.now, (message_id, url)))
        self.touch(message_id)
        self.expire()

    @rule(message_id=ids, event_id=st.sampled_from(["1", "2", "3"]), reason=st.sampled_from(["r", "s"]))
    def store_event(self, message_id: str, event_id: str, reason: str) -> None:
        stored = event(message_id, event_id, event_type="nack", nack_reason=reason)
        result(self.cache.store_event(stored))
        before = dict(entry for _, entry in self.events).get(message_id, {})
        self.events = [entry for entry in self.events if entry[1][0] != message_id]
        self.events.append((self.now, (message_id, {**before, event_id: stored})))
        self.touch(message_id)
        self.expire()

    @rule(message_id=ids)
    def fetch_events(self, message_id: str) -> None:
        known = dict(entry for _, entry in self.events).get(message_id, {})
        assert {one.event_id: one for one in result(self.cache.fetch_events(message_id))} == known
        self.touch(message_id)

    @rule(addr=ids, note=st.none() | st.text(max_size=3) | st.integers(0, 1) | st.just([None, {"a": []}]))
    def store_note(self, addr: str, note: Any) -> None:
        result(self.cache.store_note(addr, note))
        self.notes = [entry for entry in self.notes if entry[1][0] != addr]
        if note is not None:
            self.notes.append((self.now, (addr, note)))
        self.expire()

    @rule(addr=ids)
    def fetch_note(self, addr: str) -> None:
        known = dict(entry for _, entry in self.notes)
        assert result(self.cache.fetch_note(addr)) == known.get(addr)

    # Steps that no sum of them comes near the timeout without reaching it: a server's own clock runs on.
    @rule(seconds=st.sampled_from([25, 100, 300, 975, 1000, 6000]))
    def advance(self, seconds: float) -> None:
        self.side.advance(seconds)
        self.now += seconds
        self.expire()

    @rule(message_id=ids)
    def fetch_inbound(self, message_id: str) -> None:
        known = {stored.message_id: stored for _, stored in self.inbound}
        assert result(self.cache.fetch_inbound(message_id)) == known.get(message_id)
        self.read(message_id)

    @rule(message_id=ids)
    def fetch_outbound(self, message_id: str) -> None:
        known = {name: outbound(name, url, "t") for _, (name, url) in self.outbound}
        assert result(self.cache.fetch_outbound(message_id)) == known.get(message_id)
        self.touch(message_id)

    @rule(addr=st.sampled_from(["x", "y"]))
    def fetch_last_inbound(self, addr: str) -> None:
        known = {stored.message_id: stored for _, stored in self.inbound}
        assert result(self.cache.fetch_last_inbound(addr)) == known.get(self.last.get(addr, ""))
        self.read(self.last.get(addr))

    @precondition(lambda self: isinstance(getattr(self, "cache", None), MemoryStore))
    @invariant()
    def bounded(self) -> None:
        assert isinstance(self.cache, MemoryStore)
        assert len(self.cache.inbound) <= self.SIZE
        assert len(self.cache.outbound) <= self.SIZE
        assert len(self.cache.events) <= self.SIZE
        # No address outlives its message.
        assert set(self.cache._last.values()) <= set(self.cache.inbound._entries)


class SqliteMachine(StoreMachine):
    kind = SqliteSide


class RedisMachine(StoreMachine):
    kind = RedisSide


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestMemory = StoreMachine.TestCase
SqliteMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestSqlite = SqliteMachine.TestCase
RedisMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestRedis = RedisMachine.TestCase


@in_thread
def test_stats(side: Side, make: Make) -> None:
    """Each cache counts what was asked for and found, and what was not, by part."""
    cache = make()
    result(cache.store_inbound(message("m1", "a1")))
    result(cache.store_outbound(outbound("m2")))
    for message_id in ("m1", "m1", "m2"):
        result(cache.fetch_inbound(message_id))
    result(cache.fetch_last_inbound("a1"))
    result(cache.fetch_last_inbound("a2"))
    result(cache.fetch_outbound("m2"))
    result(cache.fetch_note("a1"))
    parts = cache.stats().parts
    counted = {name: (part.hits, part.misses) for name, part in parts.items()}
    assert counted == {"inbound": (3, 2), "outbound": (1, 0), "menus": (0, 1)}
    assert cache.stats().failures == (None if side.bounded else 0)


# Memory's own.


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
    """A full cache drops its oldest messages, with their index, and counts them."""
    cache = MemoryStore(clock, max_entries=3, remember_last=True)
    for n in range(5):
        result(cache.store_inbound(message(f"m{n}", f"a{n}")))
    known = [result(cache.fetch_inbound(f"m{n}")) is not None for n in range(5)]
    assert known == [False, False, True, True, True]
    assert [result(cache.fetch_last_inbound(f"a{n}")) is not None for n in range(5)] == known
    assert (len(cache.inbound), cache.inbound.evictions, cache.outbound.evictions) == (3, 2, 0)
    assert (cache.inbound.hits, cache.inbound.misses) == (6, 4)
    # What is stored again takes no other's place.
    result(cache.store_inbound(message("m3")))
    assert cache.inbound.evictions == 2


def test_full_is_logged_once_a_minute(clock: Clock, warnings: list[str]) -> None:
    """A full cache warns once a minute at most, with the count since the last time and what to change."""
    cache = MemoryStore(clock, max_entries=1, option="state_cache")
    for n in range(100):
        result(cache.store_inbound(message(f"m{n}")))
    assert len(warnings) == 1
    clock.advance(59)
    result(cache.store_inbound(message("n1")))
    assert len(warnings) == 1
    clock.advance(1)
    result(cache.store_inbound(message("n2")))
    advice = "raise state_cache_config.max_entries, or shorten state_cache_config.timeout"
    assert warnings == [
        f"Cache full at 1 entries: {n} of the oldest dropped before their time; {advice}" for n in (1, 100)
    ]


def test_idle_cache_shrinks(clock: Clock) -> None:
    """A cache that nobody uses lets go of what has expired, a bounded number of entries at a time."""
    cache = MemoryStore(clock, timeout=10, remember_last=True)
    result(cache.start())
    for n in range(SWEEP_SIZE + 5):
        result(cache.store_inbound(message(f"m{n}", f"a{n}")))
        result(cache.store_outbound(outbound(f"m{n}")))
    clock.pump([SWEEP_INTERVAL] * int(9 / SWEEP_INTERVAL))
    assert len(cache.inbound) == SWEEP_SIZE + 5
    clock.advance(1)
    clock.advance(SWEEP_INTERVAL)
    assert 0 <= len(cache.inbound) <= 5
    clock.advance(SWEEP_INTERVAL)
    assert (len(cache.inbound), len(cache.outbound), len(cache._last)) == (0, 0, 0)
    assert (cache.inbound.evictions, cache.outbound.evictions) == (0, 0)
    result(cache.stop())


def test_use_drops_the_expired(clock: Clock) -> None:
    """Each operation drops a few expired entries, and only a few: none has to wait for many."""
    store = ExpiringMap(clock, ttl=10, max_entries=1000, hint="")
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


def test_expired_message_comes_again(clock: Clock) -> None:
    """A message that comes again from another address, after it expired, is no longer the last of the first."""
    cache = MemoryStore(clock, timeout=10, remember_last=True)
    for n in range(4):
        result(cache.store_inbound(message(f"m{n}", f"a{n}")))
    clock.advance(10)
    result(cache.store_inbound(message("m3", "other")))
    assert result(cache.fetch_last_inbound("a3")) is None
    assert result(cache.fetch_last_inbound("other")) is not None


def test_events_are_bounded(clock: Clock) -> None:
    """Of a message with very many events the last ones are kept."""
    cache = MemoryStore(clock)
    for n in range(MAX_EVENTS + 5):
        result(cache.store_event(event("m1", f"e{n}")))
    known = [stored.event_id for stored in result(cache.fetch_events("m1"))]
    assert known == [f"e{n}" for n in range(5, MAX_EVENTS + 5)]


@in_thread
def test_last_is_not_remembered(make: Make) -> None:
    """A store whose application does not ask for the last message of an address keeps no index of them."""
    cache = make(remember_last=False)
    result(cache.store_inbound(message()))
    assert result(cache.fetch_last_inbound("+27831234567")) is None


@pytest.mark.parametrize("remember_last", [False, True])
def test_entry_size(clock: Clock, remember_last: bool) -> None:
    """An inbound SMS of a usual length takes at most 700 bytes in all."""
    count = 20_000
    cache = MemoryStore(clock, remember_last=remember_last)
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
            result(cache.store_inbound(sms))
        size = (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
    assert size <= 700


def test_lookups_take_the_same_time(clock: Clock) -> None:
    """A lookup among 100,000 messages takes about as long as one among 1,000, not in any proportion to them."""
    cache = MemoryStore(clock, remember_last=True)
    ids = [new_id() for _ in range(100_000)]

    async def fill(start: int, end: int) -> None:
        for message_id in ids[start:end]:
            await cache.store_inbound(message(message_id, message_id))

    async def lookup() -> float:
        chosen = Random(1).sample(ids[: len(cache.inbound)], 300)
        rounds = []
        for _ in range(15):
            began = time.perf_counter()
            for message_id in chosen:
                await cache.fetch_inbound(message_id)
            rounds.append(time.perf_counter() - began)
        return min(rounds)

    result(fill(0, 1000))
    few = result(lookup())
    result(fill(1000, len(ids)))
    assert result(lookup()) < 5 * few


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


# make_store.


@pytest.mark.parametrize(
    "class_path",
    [
        "memory",
        "MemoryMessageCache",
        "vumi2.message_caches.MemoryMessageCache",
        "vumi2.applications.junebug_message_api.junebug_state_cache.InMemorySmppCache",
        "vumi2.applications.junebug_message_api.junebug_state_cache.MemoryJunebugStateCache",
        "junebug_turn.caches.memory.MemoryCache",
        "junebug_turn.state.memory.MemoryStore",
    ],
)
def test_class_paths(class_path: str, clock: Clock) -> None:
    """The class paths that existing files carry, and the short name, name the store in memory."""
    store = make_store(class_path, {}, option="state_cache", connector="sms", clock=clock)
    assert type(store) is MemoryStore


@pytest.mark.parametrize(
    ("class_path", "config", "store_class"),
    [
        ("junebug_turn.caches.redis.RedisCache", {"url": "redis://localhost"}, RedisStore),
        ("junebug_turn.caches.sqlite.SqliteCache", {"path": "var/none.db"}, SqliteStore),
    ],
)
def test_former_class_paths(class_path: str, config: dict[str, str], store_class: type) -> None:
    """The class paths from before the modules moved still name the stores in Redis and in a SQLite file."""
    store = make_store(class_path, config, option="state_cache", connector="sms", clock=reactor)
    assert type(store) is store_class


class OwnStore(MemoryStore):
    """A user's own, importable by its path."""


not_a_class = object()


def test_own_class(clock: Clock) -> None:
    """A subclass of MessageStore of the user's own works by its path."""
    path = f"{__name__}.OwnStore"
    cache = make_store(path, {"timeout": 5}, option="state_cache", connector="sms", clock=clock)
    assert type(cache) is OwnStore


@pytest.mark.parametrize(
    "class_path",
    [
        "",
        "x",
        ".x",
        "x.",
        "no.such.Module",
        "junebug_turn.state.factory.Nothing",
        f"{__name__}.not_a_class",
        "os.path.join",
        "str",
    ],
)
def test_no_such_class(class_path: str, clock: Clock) -> None:
    """What can't be imported or is no cache is one line that names the option."""
    with pytest.raises(ConfigError) as caught:
        make_store(class_path, {}, option="message_cache", connector="sms", clock=clock)
    (line,) = caught.value.lines
    assert line.startswith("message_cache_class: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("timeout", value) for value in (0, -1, True, "5", None, float("nan"), float("inf"), 10**400)],
        *[("max_entries", value) for value in (0, -1, True, 1.5, "5", None)],
        *[("store_event_info", value) for value in (0, "false", None)],
        ("timout", 5),
    ],
)
def test_bad_options(key: str, value: Any, clock: Clock) -> None:
    """An unknown option or a wrong value is one line that names it."""
    with pytest.raises(ConfigError) as caught:
        make_store("memory", {key: value}, option="state_cache", connector="sms", clock=clock)
    (line,) = caught.value.lines
    assert line.startswith(f"state_cache_config.{key}: ")


def test_every_fault_is_told(clock: Clock) -> None:
    """Each of several faults has its line."""
    with pytest.raises(ConfigError) as caught:
        make_store(
            "memory",
            {"a": 1, "timeout": 0},
            option="message_cache",
            connector="sms",
            clock=clock,
        )
    assert [line.partition(":")[0] for line in caught.value.lines] == [
        "message_cache_config.a",
        "message_cache_config.timeout",
    ]


def test_options_are_a_mapping(clock: Clock) -> None:
    """Options that are no mapping are one line that says so."""
    with pytest.raises(ConfigError, match="state_cache_config: must be a mapping"):
        make_store("memory", [], option="state_cache", connector="sms", clock=clock)


def test_repr_has_no_token() -> None:
    """An outbound entry in a log or a traceback shows neither event URL nor token."""
    assert repr(OutboundRecord("m1", "8110", "http://h/?s3cret", "s3cret", {"event_url": "s3cret"})) == (
        "OutboundRecord(message_id='m1', to_addr='8110')"
    )
