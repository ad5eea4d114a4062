"""The promises of every message store; each test runs for each kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.task import Clock

from junebug_turn.errors import ConfigError
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.memory import MemoryStore
from junebug_turn.state.message_store import MessageStore, OutboundRecord
from junebug_turn.state.packing import MAX_EVENTS
from tests.support import strategies
from tests.support.store_harness import (
    STORES,
    MemoryStores,
    RedisStores,
    SqliteStores,
    Stores,
    event,
    in_thread,
    message,
    outbound,
    result,
)

DAY = 24 * 60 * 60

Make = Callable[..., MessageStore]


@pytest.fixture(params=list(STORES))
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    stores = STORES[request.param]()
    yield stores
    stores.stop()


@pytest.fixture
def make(stores: Stores) -> Make:
    """Makes and starts stores of one kind, which are stopped at the end."""
    return stores.make


@pytest.fixture
def advance(stores: Stores) -> Callable[[float], None]:
    """Lets time pass."""
    return stores.advance


@pytest.mark.parametrize("note", [None, "n"])
@in_thread
def test_trace_of_an_outbound_message(make: Make, note: Any) -> None:
    """The trace of an outbound message is kept with it."""
    store = make()
    stored = outbound("m1", "http://h/e", "token", note=note, traceparent="00-1-2-01 a=1")
    result(store.store_outbound(stored))
    assert result(store.fetch_outbound("m1")) == stored


@in_thread
def test_inbound(make: Make) -> None:
    """An inbound message is found again by its id, as it was."""
    store = make()
    stored = message(
        content="Molo ☺", helper_metadata={"a": [1, {"b": None}]}, group="g", session_event="new"
    )
    result(store.store_inbound(stored))
    assert result(store.fetch_inbound("m1")) == stored
    assert result(store.fetch_inbound("m2")) is None


@in_thread
def test_outbound(make: Make) -> None:
    """Of an outbound message its address, event URL and token are found again by its id."""
    store = make()
    result(store.store_outbound(outbound("m1", "http://h/e", "token")))
    result(store.store_outbound(outbound("m2")))
    assert result(store.fetch_outbound("m1")) == outbound("m1", "http://h/e", "token")
    assert result(store.fetch_outbound("m2")) == outbound("m2")
    assert result(store.fetch_outbound("m3")) is None


@in_thread
def test_settings(stores: Stores) -> None:
    """A connector's settings are shared by the stores of a place and survive them, where the kind keeps them; they have
    no expiry, and each connector has its own."""
    settings = stores.make().connector_settings()
    assert settings.kept is not isinstance(stores, MemoryStores)
    result(settings.store("paused", True))
    again, another = (
        stores.make(connector=name).connector_settings() for name in ("sms", "another connector")
    )
    if not isinstance(stores, RedisStores):  # its clock refuses keys that never expire
        stores.advance(100 * DAY)
    assert result(again.fetch("paused")) is (True if settings.kept else None)
    assert result(again.fetch("other")) is None
    assert result(another.fetch("paused")) is None
    result(settings.store("paused", None))
    assert result(again.fetch("paused")) is None


def _nested(depth: int) -> Any:
    value: Any = {}
    for level in range(depth - 1, 0, -1):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize("depth", [strictjson.MAX_DEPTH, strictjson.DEEPEST])
@in_thread
def test_deep_values(make: Make, depth: int) -> None:
    """What was accepted can be read: values as deep as any that an option lets in, in every kind of entry."""
    store = make()
    deep = _nested(depth - 1)
    metadata = {"helper_metadata": deep, "transport_metadata": deep, "routing_metadata": deep}
    stored, told = message("m1", **metadata), [event("m2", "e1", **metadata), event("m2", "e2", **metadata)]
    result(store.store_inbound(stored))
    assert result(store.fetch_inbound("m1")) == stored
    assert result(store.fetch_last_inbound(str(stored.from_addr))) == stored
    result(store.store_outbound(outbound("m2", "http://h/e", details={"to": "8110", "channel_data": deep})))
    found = result(store.fetch_outbound("m2"))
    assert found is not None
    assert found.event_url == "http://h/e"
    for each in told:
        result(store.store_event(each))
    assert sorted(result(store.fetch_events("m2")), key=lambda found: found.event_id) == told
    result(store.store_note("+27", _nested(depth)))
    assert result(store.fetch_note("+27")) == _nested(depth)


@pytest.mark.parametrize("note", ["", 0, ["x", None], {"a": "\u263a"}])
@in_thread
def test_note_of_an_outbound_message(make: Make, note: Any) -> None:
    """An application's own note about an outbound message is found again with it, whatever JSON value it is."""
    store = make()
    result(store.store_outbound(outbound("m1", "http://h/e", "token", note=note)))
    assert result(store.fetch_outbound("m1")) == outbound("m1", "http://h/e", "token", note=note)


@in_thread
def test_kinds_are_apart(make: Make) -> None:
    """An inbound and an outbound message with the same id are two entries."""
    store = make()
    result(store.store_inbound(message("m1")))
    assert result(store.fetch_outbound("m1")) is None
    result(store.store_outbound(outbound("m2")))
    assert result(store.fetch_inbound("m2")) is None


@in_thread
def test_ids_are_exact(make: Make) -> None:
    """Ids that differ only in the case of their letters are different ids."""
    store = make()
    low, high = "ab" * 16, "AB" * 16
    result(store.store_inbound(message(low, content="low")))
    assert result(store.fetch_inbound(high)) is None
    result(store.store_inbound(message(high, content="high")))
    assert [getattr(result(store.fetch_inbound(x)), "content", None) for x in (low, high)] == ["low", "high"]


@pytest.mark.parametrize("kind", list(STORES))
@in_thread
def test_any_message(kind: str) -> None:
    """Whatever message comes is found again as it was."""
    stores = STORES[kind]()
    store = stores.make()

    @settings(max_examples=50)
    @given(strategies.messages)
    def check(stored: Message) -> None:
        result(store.store_inbound(stored))
        assert result(store.fetch_inbound(stored.message_id)) == stored
        if stored.from_addr is not None:
            last = result(store.fetch_last_inbound(stored.from_addr))
            # An id that has come before, from there, is not the last one.
            assert last is not None
            assert last.from_addr == stored.from_addr

    check()
    stores.stop()


@pytest.mark.parametrize("kind", list(STORES))
@in_thread
def test_any_event(kind: str) -> None:
    """Whatever event comes is found again as it was, once."""
    stores = STORES[kind]()
    store = stores.make()

    @settings(max_examples=30)
    @given(strategies.events)
    def check(stored: Event) -> None:
        for _ in range(2):
            result(store.store_event(stored))
        assert result(store.fetch_events(stored.user_message_id)).count(stored) == 1

    check()
    stores.stop()


@pytest.mark.parametrize("name", ["\ud800", "a:b", " ", "message"])
@in_thread
def test_odd_names(make: Make, name: str) -> None:
    """Half a surrogate pair, as JSON can have it, a separator or a word of the format do no harm as id or address."""
    store = make()
    result(store.store_inbound(message(name, name)))
    result(store.store_outbound(outbound(name)))
    result(store.store_event(event(name, name)))
    result(store.store_note(name, [name]))
    assert result(store.fetch_inbound(name)) is not None
    assert result(store.fetch_last_inbound(name)) is not None
    assert result(store.fetch_outbound(name)) == outbound(name)
    assert [stored.event_id for stored in result(store.fetch_events(name))] == [name]
    assert result(store.fetch_note(name)) == [name]


@pytest.mark.parametrize("note", ["", 0, False, [], {}, [None, [["\u263a", 1.5, {"a": [True]}]]]])
@in_thread
def test_note(make: Make, note: Any) -> None:
    """The note of an address is found again, whatever JSON value it is, until another takes its place or None does."""
    store = make()
    assert result(store.fetch_note("+27")) is None
    for value in ("before", note):
        result(store.store_note("+27", value))
    assert result(store.fetch_note("+27")) == note
    assert result(store.fetch_note("+28")) is None
    result(store.store_note("+27", None))
    assert result(store.fetch_note("+27")) is None


@in_thread
def test_default_timeout(make: Make, advance: Callable[[float], None]) -> None:
    """By default a message is known for 24 hours, and no longer."""
    store = make()
    result(store.store_inbound(message("m1")))
    result(store.store_outbound(outbound("m1", "http://h/e")))
    result(store.store_event(event("m1")))
    result(store.store_note("+27", []))
    advance(DAY)
    assert result(store.fetch_inbound("m1")) is None
    assert result(store.fetch_outbound("m1")) is None
    assert result(store.fetch_last_inbound("+27831234567")) is None
    assert result(store.fetch_events("m1")) == []
    assert result(store.fetch_note("+27")) is None
    result(store.store_inbound(message("m2")))
    result(store.store_outbound(outbound("m2", "http://h/e")))
    result(store.store_event(event("m2")))
    result(store.store_note("+27", []))
    advance(DAY - 60)
    assert result(store.fetch_inbound("m2")) is not None
    assert result(store.fetch_outbound("m2")) is not None
    assert result(store.fetch_last_inbound("+27831234567")) is not None
    assert result(store.fetch_events("m2")) != []
    assert result(store.fetch_note("+27")) is not None


@in_thread
def test_timeout(make: Make, advance: Callable[[float], None]) -> None:
    """The option timeout sets that time; a message that is stored again is known for that time anew."""
    store = make(timeout=1000)
    result(store.store_inbound(message("m1")))
    advance(600)
    result(store.store_inbound(message("m1", content="again")))
    result(store.store_inbound(message("m2")))
    advance(600)
    fetched = result(store.fetch_inbound("m1"))
    assert fetched is not None
    assert fetched.content == "again"
    advance(400)
    assert result(store.fetch_inbound("m2")) is None


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@in_thread
def test_siblings(kind: str) -> None:
    """A sibling is the store of another connector, ready as long as the first one is; it reads what that one's own
    store reads."""
    stores = STORES[kind]()
    try:
        store = stores.make(connector="a")
        sibling = store.sibling("b")
        stored = message("m1")
        result(sibling.store_inbound(stored))
        assert result(store.fetch_inbound("m1")) is None
        assert result(sibling.fetch_inbound("m1")) == result(stores.make(connector="b").fetch_inbound("m1"))
        assert result(sibling.fetch_inbound("m1")) == stored
    finally:
        stores.stop()


def test_no_siblings() -> None:
    """A store in memory has none."""
    with pytest.raises(ConfigError, match="MemoryStore"):
        MemoryStore(Clock()).sibling("b")


@in_thread
def test_connectors_are_apart(stores: Stores) -> None:
    """Two applications on one store have nothing in common."""
    one, other = stores.make(connector="one"), stores.make(connector="other")
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
    store = make(remember_last=False)
    ack, report = (
        event("m1", "e1"),
        event("m1", "e2", event_type="delivery_report", delivery_status="delivered"),
    )
    for one in (ack, report, ack, event("m2", "e3")):
        result(store.store_event(one))
    assert sorted(result(store.fetch_events("m1")), key=lambda one: one.event_id) == [ack, report]
    assert result(store.fetch_events("m3")) == []
    # An event makes no message known.
    assert result(store.fetch_outbound("m1")) is None
    result(store.store_outbound(outbound("m1", "http://h/e")))
    assert result(store.fetch_outbound("m1")) == outbound("m1", "http://h/e")
    assert len(result(store.fetch_events("m1"))) == 2


@in_thread
def test_events_without_end(make: Make) -> None:
    """Of one message the last 50 events are kept, and the message itself: a peer that sends more fills no store."""
    store = make(remember_last=False)
    result(store.store_outbound(outbound("m1", "http://h/e")))
    for number in range(MAX_EVENTS + 5):
        timestamp = datetime(2026, 1, 1, 0, 0, number % 60, number, tzinfo=UTC)
        result(store.store_event(event("m1", f"e{number}", timestamp=timestamp)))
    known = {each.event_id for each in result(store.fetch_events("m1"))}
    assert known == {f"e{number}" for number in range(5, MAX_EVENTS + 5)}
    assert result(store.fetch_outbound("m1")) == outbound("m1", "http://h/e")


@in_thread
def test_healthy(make: Make) -> None:
    """A store that works says so."""
    store = make()
    result(store.store_inbound(message("m1")))
    assert store.status()["ok"] is True


@in_thread
def test_no_event_info(make: Make) -> None:
    """With store_event_info false neither event URL nor token is kept."""
    store = make(store_event_info=False)
    result(store.store_outbound(outbound("m1", "http://h/e", "token")))
    assert result(store.fetch_outbound("m1")) == outbound("m1")


@in_thread
def test_last_inbound(make: Make) -> None:
    """The last inbound message of an address is the one that arrived last, whatever its timestamp."""
    store = make()
    new, old = message("m1"), message("m2", timestamp=message().timestamp.replace(year=2015))
    result(store.store_inbound(new))
    result(store.store_inbound(message("m3", from_addr="other")))
    result(store.store_inbound(old))
    assert result(store.fetch_last_inbound("+27831234567")) == old
    assert result(store.fetch_last_inbound("nobody")) is None


@in_thread
def test_last_inbound_again(make: Make) -> None:
    """An earlier message that the broker delivers again is not thereby the last of its address."""
    store = make()
    for message_id in ("m1", "m2", "m1"):
        result(store.store_inbound(message(message_id)))
    last = result(store.fetch_last_inbound("+27831234567"))
    assert last is not None
    assert last.message_id == "m2"


@in_thread
def test_no_address(make: Make) -> None:
    """A message without from_addr is kept like any other."""
    store = make()
    result(store.store_inbound(message("m1", from_addr=None)))
    assert result(store.fetch_inbound("m1")) is not None


class StoreMachine(RuleBasedStateMachine):
    """A store against a model that is too simple to be wrong: lists, looked through from the start."""

    kind: ClassVar[type[Stores]] = MemoryStores
    TIMEOUT = 1000
    SIZE = 4

    ids = st.sampled_from(["a", "b", "c", "d", "e", "f", "0" * 32, "F" * 32])
    addrs = st.sampled_from(["x", "y", None])

    @initialize()
    def start(self) -> None:
        self.stores = self.kind()
        self.now = 0.0
        self.size = self.SIZE if self.kind.bounded else 1000
        bound = {"max_entries": self.SIZE} if self.kind.bounded else {}
        self.store = self.stores.make(timeout=self.TIMEOUT, **bound)
        # (time, message) by age of the last storing; the last of each address
        self.inbound: list[tuple[float, Message]] = []
        self.outbound: list[tuple[float, tuple[str, str]]] = []
        self.events: list[tuple[float, tuple[str, dict[str, Event]]]] = []
        self.last: dict[str, str] = {}
        self.notes: list[tuple[float, tuple[str, Any]]] = []

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            self.stores.stop()

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
        result(self.store.store_inbound(stored))
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
        result(self.store.store_outbound(outbound(message_id, url, "t")))
        self.outbound = [entry for entry in self.outbound if entry[1][0] != message_id]
        self.outbound.append((self.now, (message_id, url)))
        self.touch(message_id)
        self.expire()

    @rule(message_id=ids, event_id=st.sampled_from(["1", "2", "3"]), reason=st.sampled_from(["r", "s"]))
    def store_event(self, message_id: str, event_id: str, reason: str) -> None:
        stored = event(message_id, event_id, event_type="nack", nack_reason=reason)
        result(self.store.store_event(stored))
        before = dict(entry for _, entry in self.events).get(message_id, {})
        self.events = [entry for entry in self.events if entry[1][0] != message_id]
        self.events.append((self.now, (message_id, {**before, event_id: stored})))
        self.touch(message_id)
        self.expire()

    @rule(message_id=ids)
    def fetch_events(self, message_id: str) -> None:
        known = dict(entry for _, entry in self.events).get(message_id, {})
        assert {one.event_id: one for one in result(self.store.fetch_events(message_id))} == known
        self.touch(message_id)

    @rule(addr=ids, note=st.none() | st.text(max_size=3) | st.integers(0, 1) | st.just([None, {"a": []}]))
    def store_note(self, addr: str, note: Any) -> None:
        result(self.store.store_note(addr, note))
        self.notes = [entry for entry in self.notes if entry[1][0] != addr]
        if note is not None:
            self.notes.append((self.now, (addr, note)))
        self.expire()

    @rule(addr=ids)
    def fetch_note(self, addr: str) -> None:
        known = dict(entry for _, entry in self.notes)
        assert result(self.store.fetch_note(addr)) == known.get(addr)

    # Steps that no sum of them comes near the timeout without reaching it: a server's own clock runs on.
    @rule(seconds=st.sampled_from([25, 100, 300, 975, 1000, 6000]))
    def advance(self, seconds: float) -> None:
        self.stores.advance(seconds)
        self.now += seconds
        self.expire()

    @rule(message_id=ids)
    def fetch_inbound(self, message_id: str) -> None:
        known = {stored.message_id: stored for _, stored in self.inbound}
        assert result(self.store.fetch_inbound(message_id)) == known.get(message_id)
        self.read(message_id)

    @rule(message_id=ids)
    def fetch_outbound(self, message_id: str) -> None:
        known = {name: outbound(name, url, "t") for _, (name, url) in self.outbound}
        assert result(self.store.fetch_outbound(message_id)) == known.get(message_id)
        self.touch(message_id)

    @rule(addr=st.sampled_from(["x", "y"]))
    def fetch_last_inbound(self, addr: str) -> None:
        known = {stored.message_id: stored for _, stored in self.inbound}
        assert result(self.store.fetch_last_inbound(addr)) == known.get(self.last.get(addr, ""))
        self.read(self.last.get(addr))

    @precondition(lambda self: isinstance(getattr(self, "store", None), MemoryStore))
    @invariant()
    def bounded(self) -> None:
        assert isinstance(self.store, MemoryStore)
        assert len(self.store.inbound) <= self.SIZE
        assert len(self.store.outbound) <= self.SIZE
        assert len(self.store.events) <= self.SIZE
        # private: no address outlives its message, which shows in the memory only.
        assert set(self.store._last.values()) <= set(self.store.inbound._entries)


class SqliteMachine(StoreMachine):
    kind = SqliteStores


class RedisMachine(StoreMachine):
    kind = RedisStores


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestMemory = StoreMachine.TestCase
SqliteMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestSqlite = SqliteMachine.TestCase
RedisMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestRedis = RedisMachine.TestCase


@in_thread
def test_stats(stores: Stores, make: Make) -> None:
    """Each store counts what was asked for and found, and what was not, by part."""
    store = make()
    result(store.store_inbound(message("m1", "a1")))
    result(store.store_outbound(outbound("m2")))
    for message_id in ("m1", "m1", "m2"):
        result(store.fetch_inbound(message_id))
    result(store.fetch_last_inbound("a1"))
    result(store.fetch_last_inbound("a2"))
    result(store.fetch_outbound("m2"))
    result(store.fetch_note("a1"))
    parts = store.stats().parts
    counted = {name: (parts[name].hits, parts[name].misses) for name in ("inbound", "outbound", "menus")}
    assert counted == {"inbound": (3, 2), "outbound": (1, 0), "menus": (0, 1)}
    assert store.stats().failures == (None if stores.bounded else 0)


@in_thread
def test_last_is_not_remembered(make: Make) -> None:
    """A store whose application does not ask for the last message of an address keeps no index of them."""
    store = make(remember_last=False)
    result(store.store_inbound(message()))
    assert result(store.fetch_last_inbound("+27831234567")) is None


def test_repr_has_no_token() -> None:
    """An outbound entry in a log or a traceback shows neither address, event URL nor token."""
    assert repr(OutboundRecord("m1", "8110", "http://h/?s3cret", "s3cret", {"event_url": "s3cret"})) == (
        "OutboundRecord(message_id='m1')"
    )
