"""The circuit breaker, on a clock that the tests move."""

from __future__ import annotations

from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from junebug_turn.delivery.backoff import MAX_LONG_BACKOFF, MAX_NOT_BEFORE, SHORT_OUTAGE
from junebug_turn.delivery.circuit import (
    DOUBT,
    FAILURES,
    HANGING,
    MAX_FAILED,
    PROBATION,
    PROOF,
    SUSPECT,
    Circuit,
    CircuitOpen,
)

ORIGIN = "http://host:80"
SUSPECT_LIMIT = 4
NO_PATIENCE = 0.0
PATIENCE = 10_000.0


class Bench:
    """A circuit with its clock; delays are three quarters of the longest."""

    def __init__(self, rng: float = 0.5) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.circuit = Circuit(self.clock, lambda: rng, ORIGIN, suspect_limit=SUSPECT_LIMIT)
        self._names = count()

    def enter(self, patience: float = NO_PATIENCE, message: str | None = None) -> list[Any]:
        """Its only item is whether it is the probe, or the exception; empty while it waits.

        :param message: None for another one than all before
        """
        deadline = self.clock.seconds() + patience
        return results(Deferred.fromCoroutine(self.circuit.enter(deadline, message or self._new_name())))

    def fail(self, probe: bool = False, message: str | None = None, **options: Any) -> None:
        self.circuit.failed(probe, "timeout", message or self._new_name(), **options)

    def _new_name(self) -> str:
        return f"another {next(self._names)}"

    def doubt(self) -> None:
        """Different messages fail in one moment."""
        for _ in range(FAILURES):
            assert self.enter() == [False]
        for _ in range(FAILURES):
            self.fail()

    def open(self, **options: Any) -> None:
        """Different messages fail, and then the probes."""
        while not self.circuit.is_open:
            entered = self.enter(PATIENCE)
            if not entered:
                self.clock.advance(DOUBT)
            self.fail(*entered, **options)

    def until_probe(self) -> float:
        """Let time go until an attempt is let through; the seconds."""
        start = self.clock.seconds()
        while (entered := self.enter()) != [True]:
            assert isinstance(entered[0], CircuitOpen)
            self.clock.advance(0.25)
        return self.clock.seconds() - start


def results(d: Deferred[Any]) -> list[Any]:
    found: list[Any] = []
    d.addBoth(lambda result: found.append(result.value if isinstance(result, Failure) else result))
    return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_five_in_a_row(bench: Bench) -> None:
    """Five different messages that fail in a row, and the probes after them, open a circuit; four and a success
    don't."""
    for outcome in (False,) * 4 + (True,) + (False,) * 4:
        assert bench.enter() == [False]
        bench.circuit.succeeded(False) if outcome else bench.fail()
    assert bench.enter(PATIENCE) == [False]
    bench.circuit.succeeded(False)
    assert not bench.circuit.is_open
    bench.open()
    assert bench.circuit.fault == "timeout"


def test_a_burst(bench: Bench) -> None:
    """However many messages fail in one moment, the circuit stays closed while a message that has not failed is
    taken: it is asked for within a moment, and all others go on."""
    poison = [bench.enter(message=f"poison {number}") for number in range(20)]
    assert poison == [[False]] * 20
    for number in range(20):
        bench.fail(message=f"poison {number}")
    again = [bench.enter(PATIENCE, f"poison {number}") for number in range(10)]
    fresh = [bench.enter(PATIENCE) for _ in range(10)]
    assert not any(again + fresh)
    bench.clock.advance(DOUBT)
    assert fresh[0] == [True]
    bench.circuit.succeeded(True)
    assert not bench.circuit.is_open
    while not all(again + fresh):
        bench.circuit.succeeded(False)
    assert not bench.circuit.is_open


def test_doubt(bench: Bench) -> None:
    """In doubt the probes begin one after the other, whether those before have an answer or not, and no more than a
    few are under way."""
    bench.doubt()
    waiting = [bench.enter(PATIENCE) for _ in range(SUSPECT_LIMIT + 2)]
    for number in range(SUSPECT_LIMIT):
        bench.clock.advance(DOUBT)
        assert [bool(entered) for entered in waiting].count(True) == number + 1
    bench.clock.advance(100)
    assert waiting[SUSPECT_LIMIT:] == [[], []]
    for _ in range(PROOF - 2):
        bench.fail(True)
        bench.clock.advance(DOUBT)
    assert all(waiting)
    assert not bench.circuit.is_open
    for _ in range(2):
        bench.fail(True)
    assert bench.circuit.is_open


def test_one_message(bench: Bench) -> None:
    """One message that a receiver refuses, however often, delays no other: it opens no circuit, and no limit stands
    before the others."""
    for _ in range(100):
        assert bench.enter(message="poison") == [False]
        bench.fail(message="poison")
    assert not bench.circuit.is_open
    for _ in range(50):
        assert bench.enter() == [False]
    assert bench.clock.getDelayedCalls() == []


def test_few_messages(bench: Bench) -> None:
    """Four messages that fail again and again, in any order, are not five."""
    for number in range(30):
        message = f"poison {number * 7 % (FAILURES - 1)}"
        assert bench.enter(message=message) == [False]
        bench.fail(message=message)
    assert not bench.circuit.is_open


def test_suspect(bench: Bench) -> None:
    """Where different messages failed in a row only a few attempts are made at once; a success lifts the limit."""
    for _ in range(SUSPECT_LIMIT + SUSPECT + 1):
        assert bench.enter() == [False]
    for _ in range(SUSPECT):
        bench.fail()
    assert isinstance(bench.enter()[0], CircuitOpen)
    patient = bench.enter(PATIENCE)
    assert patient == []
    bench.fail()
    assert patient == [False]
    assert isinstance(bench.enter()[0], CircuitOpen)
    bench.circuit.succeeded(False)
    for _ in range(20):
        assert bench.enter() == [False]
    assert bench.clock.getDelayedCalls() == []


def test_who_has_failed_asks_last(bench: Bench) -> None:
    """Who asks whether it is well again is not always the same message: those that have not failed go first, then
    they take turns."""
    bench.enter(message="poison")
    bench.fail(message="poison")
    bench.open()
    poison, first, second = (bench.enter(PATIENCE, name) for name in ("poison", "first", "second"))
    bench.clock.advance(1.5)
    assert (poison, first, second) == ([], [True], [])
    bench.fail(True, "first")
    first = bench.enter(PATIENCE, "first")
    bench.clock.advance(3)
    assert (poison, first, second) == ([], [], [True])
    bench.fail(True, "second")
    second = bench.enter(PATIENCE, "second")
    bench.clock.advance(6)
    assert (poison, first, second) == ([True], [], [])
    bench.fail(True, "poison")
    poison = bench.enter(PATIENCE, "poison")
    bench.clock.advance(12)
    assert (poison, first, second) == ([], [True], [])
    bench.circuit.succeeded(True)
    assert (poison, second) == ([False], [False])


def test_failed_messages_are_bounded(bench: Bench) -> None:
    """A circuit remembers only so many of the messages that have failed."""
    bench.open()
    for _ in range(2 * MAX_FAILED):
        bench.until_probe()
        bench.fail(True)
    # private: what is remembered shows in the memory only.
    assert len(bench.circuit._failed) == MAX_FAILED


def test_back_off(bench: Bench) -> None:
    """While it is open the delays between probes grow from 1 to 3 s, so that a destination that is back is found
    soon; after a quarter of an hour they get longer, up to 30 s."""
    bench.open()
    delays = []
    for _ in range(6):
        delays.append(bench.until_probe())
        bench.fail(True)
    assert delays == [1.5, 2.25, 2.25, 2.25, 2.25, 2.25]
    bench.until_probe()
    bench.clock.advance(SHORT_OUTAGE)
    bench.fail(True)
    assert bench.until_probe() == 22.5


def test_a_probe_that_hangs(bench: Bench) -> None:
    """A destination is asked at least every 5 s, also while a probe has no answer; but only few hang at once."""
    bench.open()
    bench.until_probe()
    for _ in range(SUSPECT_LIMIT - 1):
        assert bench.until_probe() == HANGING
    bench.clock.advance(100)
    assert isinstance(bench.enter()[0], CircuitOpen)
    bench.circuit.succeeded(True)
    assert not bench.circuit.is_open


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 20), st.floats(0, 1000))
def test_bounds_of_back_off(rng: float, failures: int, retry_after: float) -> None:
    """Every delay is from 1 to 60 s, whatever the chance and the destination say; to 30 s where it says nothing."""
    bench = Bench(rng)
    bench.open(not_before=retry_after)
    for _ in range(failures):
        bench.clock.advance(0.999)
        assert isinstance(bench.enter()[0], CircuitOpen)
        bench.clock.advance(max(MAX_LONG_BACKOFF, min(retry_after, MAX_NOT_BEFORE)))
        assert bench.enter() == [True]
        bench.fail(True, not_before=retry_after)


def test_retry_after(bench: Bench) -> None:
    """A destination that asks to be left alone is, for up to 60 s."""
    bench.open(not_before=30)
    assert bench.until_probe() == 30


def test_success_closes(bench: Bench) -> None:
    """A probe that succeeds closes the circuit; so does an earlier attempt that was still under way."""
    bench.open()
    bench.until_probe()
    bench.circuit.succeeded(True)
    assert not bench.circuit.is_open
    bench.open()
    bench.circuit.succeeded(False)
    assert bench.enter() == [False]


def test_probation(bench: Bench) -> None:
    """It takes five failures in a row again to open a circuit that has closed; when that happens before five
    successes, the back-off goes on where it was."""
    bench.open()
    for _ in range(4):
        bench.until_probe()
        bench.fail(True)
    bench.until_probe()
    bench.circuit.succeeded(True)
    for _ in range(PROBATION - 1):
        bench.circuit.succeeded(False)
    bench.open()
    assert bench.until_probe() == 2.25
    bench.circuit.succeeded(True)
    for _ in range(PROBATION):
        bench.circuit.succeeded(False)
    assert bench.circuit.healthy
    bench.open()
    assert bench.until_probe() == 1.5


def test_late_failures(bench: Bench) -> None:
    """Attempts that began before the circuit opened and fail afterwards don't lengthen the back-off."""
    bench.open()
    for _ in range(15):
        bench.fail()
    assert bench.until_probe() == 1.5


def test_who_waits_becomes_the_probe(bench: Bench) -> None:
    """The one that has waited longest becomes the probe when its time comes; after a failure the next does."""
    bench.open()
    first, second = bench.enter(PATIENCE), bench.enter(PATIENCE)
    bench.clock.advance(1.49)
    assert (first, second) == ([], [])
    bench.clock.advance(0.01)
    assert (first, second) == ([True], [])
    assert isinstance(bench.enter()[0], CircuitOpen)
    bench.fail(True)
    bench.clock.advance(3)
    assert second == [True]
    assert bench.clock.getDelayedCalls() == []


def test_not_all_at_once(bench: Bench) -> None:
    """When it closes those that wait go on in order, few at first; every success lets two more go."""
    bench.open()
    waiting = [bench.enter(PATIENCE) for _ in range(10)]
    bench.clock.advance(1.5)
    running = [1]
    while any(not entered for entered in waiting):
        bench.circuit.succeeded(len(running) == 1)
        running.append(sum(map(bool, waiting)))
        assert waiting[: running[-1]] == [[True]] + [[False]] * (running[-1] - 1)
    assert running == [1, 3, 5, 7, 9, 10]
    assert bench.clock.getDelayedCalls() == []


def test_nobody_is_left(bench: Bench) -> None:
    """After the circuit closed everyone who waits goes on, also when those before them fail or are cancelled."""
    bench.open()
    waiting = [bench.enter(PATIENCE) for _ in range(9)]
    bench.clock.advance(1.5)
    bench.circuit.succeeded(True)
    for _ in range(PROBATION):
        bench.circuit.released(False)
    assert waiting[:8] == [[True]] + [[False]] * 7
    bench.circuit.released(False)
    assert waiting[8] == [False]


def test_new_ones_do_not_overtake(bench: Bench) -> None:
    """Who can wait goes behind those that wait already; who can't passes."""
    bench.open()
    waiting = [bench.enter(PATIENCE) for _ in range(4)]
    bench.clock.advance(1.5)
    bench.circuit.succeeded(True)
    late = bench.enter(PATIENCE)
    assert bench.enter() == [False]
    assert (waiting[3], late) == ([], [])
    bench.circuit.succeeded(False)
    assert (waiting[3], late) == ([False], [False])


def test_patience(bench: Bench) -> None:
    """A wait is over after the time that there was for it."""
    bench.open()
    bench.enter(PATIENCE)
    short = bench.enter(5)
    bench.clock.advance(1.5)
    bench.clock.advance(3.49)
    assert short == []
    bench.clock.advance(0.01)
    assert isinstance(short[0], CircuitOpen)
    assert bench.clock.getDelayedCalls() == []


def test_cancelled(bench: Bench) -> None:
    """A wait that is cancelled is over, and its place goes to the next; a probe that is cancelled is made by the
    next one at once."""
    bench.open()
    first = Deferred.fromCoroutine(bench.circuit.enter(PATIENCE, "first"))
    second, third = bench.enter(PATIENCE), bench.enter(PATIENCE)
    gone = results(first)
    first.cancel()
    assert isinstance(gone[0], CancelledError)
    bench.clock.advance(1.5)
    assert second == [True]
    bench.circuit.released(True)
    bench.clock.advance(0)
    assert third == [True]


def test_pause(bench: Bench) -> None:
    """The delay between two attempts is over when the circuit opens."""
    paused = results(Deferred.fromCoroutine(bench.circuit.pause(16)))
    over = results(Deferred.fromCoroutine(bench.circuit.pause(1)))
    bench.clock.advance(1)
    assert (paused, over) == ([], [None])
    bench.open()
    assert paused == [None]
    assert bench.clock.getDelayedCalls() == []


def test_stop(bench: Bench) -> None:
    """After stop nobody waits any more."""
    bench.open()
    waiting = bench.enter(PATIENCE)
    bench.circuit.stop()
    assert isinstance(waiting[0], CancelledError)
    assert isinstance(bench.enter(PATIENCE)[0], CancelledError)
    assert bench.clock.getDelayedCalls() == []


@given(st.data())
def test_any_order(data: st.DataObject) -> None:
    """Whatever happens in whatever order: it opens only when five different messages, and as many probes, have failed
    since the last success; no more than a few probes are under way, nobody waits for ever, no call of the clock is
    left."""
    bench = Bench(data.draw(st.floats(0, 1, exclude_max=True)))
    running: list[tuple[bool, str]] = []
    waiting: list[tuple[list[Any], str]] = []
    failed: set[str] = set()
    proof = 0
    names = st.sampled_from([f"message {number}" for number in range(FAILURES + 2)])
    for step in data.draw(
        st.lists(st.sampled_from(["enter", "wait", "ok", "fail", "leave", "time"]), max_size=60)
    ):
        if step in ("enter", "wait"):
            message = data.draw(names)
            waiting.append((bench.enter(PATIENCE if step == "wait" else NO_PATIENCE, message), message))
        elif step == "time":
            bench.clock.advance(data.draw(st.floats(0, 61)))
        elif running:
            probe, message = running.pop(data.draw(st.integers(0, len(running) - 1)))
            if step == "ok":
                failed.clear()
                proof = 0
                bench.circuit.succeeded(probe)
            elif step == "fail":
                failed.add(message)
                proof += probe
                bench.fail(probe, message)
            else:
                bench.circuit.released(probe)
        assert bench.circuit.is_open is (len(failed) >= FAILURES and proof >= PROOF)
        running += [
            (entered[0], name) for entered, name in waiting if entered and entered[0] in (True, False)
        ]
        waiting = [(entered, name) for entered, name in waiting if not entered]
        assert [probe for probe, _ in running].count(True) <= SUSPECT_LIMIT
        if len(failed) < FAILURES:
            assert running or not waiting
    while running or waiting:
        if running:
            bench.circuit.succeeded(running.pop()[0])
        bench.clock.advance(MAX_NOT_BEFORE)
        running += [(entered[0], name) for entered, name in waiting if entered]
        waiting = [(entered, name) for entered, name in waiting if not entered]
    assert bench.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("outage", "promise"), [(25, 10), (300, 10), (900, 10), (1800, 60)])
def test_recovery(outage: float, promise: float) -> None:
    """When a destination answers again, all that was put off, and comes back every 5 s, is under way within 10 s after
    outages up to 15 minutes, and within 60 s after longer ones; until then it was asked at least every 5 s in the first
    five minutes, and never by many at once."""
    bench = Bench(rng=0.999)
    over = bench.clock.seconds() + outage
    asked: list[float] = []
    delivered: list[float] = []

    def come(name: str) -> None:
        """Let a message come without patience, as an event does; it comes back after 5 s until it is delivered."""
        entered = bench.enter(message=name)
        if isinstance(entered[0], CircuitOpen):
            bench.clock.callLater(5, come, name)
        elif bench.clock.seconds() >= over:
            bench.circuit.succeeded(entered[0])
            delivered.append(bench.clock.seconds())
        else:
            asked.append(bench.clock.seconds())
            bench.circuit.failed(entered[0], "HTTP status 503", name)
            bench.clock.callLater(5, come, name)

    for number in range(30):
        bench.clock.callLater(number * 0.25, come, f"m{number}")
    while bench.clock.seconds() < over + promise:
        bench.clock.advance(0.25)
    assert len(delivered) == 30
    assert max(delivered) - over <= promise
    begun = over - outage
    early = [begun, *(moment for moment in asked if moment < begun + 300), min(over, begun + 300)]
    assert max(later - earlier for earlier, later in pairwise(early)) <= 5
    assert len(asked) < 30 + outage
