"""The steps of messages: noted, written together, kept with the messages of each kind of store, and bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.errors import CacheError
from junebug_turn.state import journal
from junebug_turn.state.journal import (
    ACCEPTED,
    AT_ONCE,
    DELIVERED,
    MAX_BYTES,
    PUBLISHED,
    RECEIVED,
    WRITE_INTERVAL,
    JournalEntries,
    Journals,
    Step,
    read_steps,
)
from tests.support.application_harness import done
from tests.support.clocks import Wall
from tests.support.store_harness import STORES, Stores, in_thread, result

DAY = 24 * 60 * 60


class Entries(JournalEntries):
    """Steps in memory, with the operations that were made, and a Deferred or exception for the next one."""

    def __init__(self) -> None:
        self.operations: list[Mapping[str, bytes]] = []
        self.next: Any = None

    def journal_entries(self) -> JournalEntries:
        return self

    async def append(self, lines: Mapping[str, bytes]) -> None:
        self.operations.append(lines)
        end, self.next = self.next, None
        if isinstance(end, Exception):
            raise end
        if end is not None:
            await end

    async def fetch(self, message_id: str) -> bytes:
        return b"".join(lines.get(message_id, b"") for lines in self.operations)

    @property
    def steps(self) -> list[tuple[str, str]]:
        return [
            (message_id, step.name)
            for lines in self.operations
            for message_id, found in lines.items()
            for step in read_steps(found)
        ]


class Bench:
    def __init__(self) -> None:
        self.clock, self.entries = Clock(), Entries()
        self.wall = Wall(self.clock)
        self.journals = Journals(self.clock, self.wall)
        self.journal = self.journals.of(self.entries)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_steps_are_written_together(bench: Bench) -> None:
    """A step costs no operation of the store: those of a second are written by one."""
    bench.journal.note("m1", ACCEPTED)
    bench.journal.note("m2", ACCEPTED)
    bench.journal.note("m1", PUBLISHED, {"a": 1})
    assert bench.entries.operations == []
    bench.clock.advance(WRITE_INTERVAL)
    assert len(bench.entries.operations) == 1
    assert bench.entries.steps == [("m1", ACCEPTED), ("m1", PUBLISHED), ("m2", ACCEPTED)]
    bench.journal.note("m2", PUBLISHED)
    bench.clock.advance(WRITE_INTERVAL)
    assert bench.entries.steps[3:] == [("m2", PUBLISHED)]
    assert bench.clock.getDelayedCalls() == []


def test_a_step_has_its_time_and_its_details(bench: Bench) -> None:
    """A step is known with its time, to the millisecond, and with its details."""
    bench.wall.ahead = 1_700_000_000.1234
    bench.journal.note("m", RECEIVED)
    bench.journal.note("m", DELIVERED, {"origin": "https://h:443", "event_id": "☺"})
    done(bench.journals.write())
    assert read_steps(done(bench.entries.fetch("m"))) == [
        Step(1_700_000_000.123, RECEIVED),
        Step(1_700_000_000.123, DELIVERED, {"origin": "https://h:443", "event_id": "☺"}),
    ]


def test_steps_wait_for_a_slow_store(bench: Bench) -> None:
    """What is noted while the store writes is written after that, and not beside it."""
    slow: Deferred[None] = Deferred()
    bench.entries.next = slow
    bench.journal.note("m", RECEIVED)
    bench.clock.advance(WRITE_INTERVAL)
    bench.journal.note("m", DELIVERED)
    bench.clock.advance(WRITE_INTERVAL)
    end = Deferred.fromCoroutine(bench.journals.write())
    assert bench.entries.steps == [("m", RECEIVED)]
    slow.callback(None)
    assert end.called
    assert bench.entries.steps == [("m", RECEIVED), ("m", DELIVERED)]
    bench.clock.advance(WRITE_INTERVAL)
    assert bench.clock.getDelayedCalls() == []


def test_a_store_that_is_away_keeps_no_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that the store doesn't take are given up, and so are those of more messages than can wait."""
    monkeypatch.setattr(journal, "MAX_WAITING", AT_ONCE + 1)
    bench.entries.next = CacheError("away")
    for number in range(AT_ONCE + 2):
        bench.journal.note(f"m{number}", RECEIVED)
    bench.clock.advance(WRITE_INTERVAL)
    assert [len(lines) for lines in bench.entries.operations] == [AT_ONCE, 1]


@pytest.mark.parametrize(
    "line", [b"", b"x", b"[1]", b"[]", b'["a","b"]', b'[1,"a",2]', b'[1,"a",{},{}]', b"\xff"]
)
def test_lines_that_are_no_steps(line: bytes) -> None:
    """A line that is no step is left out; the others are there, in the order of their times."""
    assert read_steps(b'[2,"b"]\n' + line + b'\n[1,"a"]\n') == [Step(1, "a"), Step(2, "b")]


@pytest.fixture(params=list(STORES))
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    stores = STORES[request.param]()
    yield stores
    stores.stop()


@in_thread
def test_steps_are_kept_where_the_messages_are(stores: Stores) -> None:
    """Each store keeps the steps of a message, those of each connector apart, until they expire."""
    ours, theirs = stores.make(timeout=DAY), stores.make(connector="other", timeout=DAY)
    entries = ours.journal_entries()
    half = "\ud83d"
    result(entries.append({"m1": b"a\n", "m2": b"b\n", half: b"h\n"}))
    result(ours.journal_entries().append({"m1": b"c\n"}))
    result(theirs.journal_entries().append({"m1": b"d\n"}))
    assert [result(entries.fetch(each)) for each in ("m1", "m2", half, "m3")] == [
        b"a\nc\n",
        b"b\n",
        b"h\n",
        b"",
    ]
    assert result(theirs.journal_entries().fetch("m1")) == b"d\n"
    stores.advance(DAY)
    assert result(entries.fetch("m1")) == b""


@in_thread
def test_the_last_steps_are_kept(stores: Stores) -> None:
    """A message that is tried for days takes no more room than another: its last steps are known."""
    entries = stores.make().journal_entries()
    lines = [b"%d %s\n" % (number, b"x" * 100) for number in range(200)]
    for start in range(0, 200, 50):
        result(entries.append({"m": b"".join(lines[start : start + 50])}))
    found = result(entries.fetch("m"))
    assert MAX_BYTES // 4 < len(found) <= MAX_BYTES
    assert found.splitlines(True) == lines[-len(found.splitlines()) :]


@in_thread
def test_a_store_without_steps() -> None:
    """A user's own store has no steps, and need not know of them."""
    entries = JournalEntries()
    result(entries.append({"m": b"a\n"}))
    assert result(entries.fetch("m")) == b""
