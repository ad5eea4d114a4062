"""Ordering against its promises, with any keys and any order of ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from junebug_turn.connectors.ordering import Ordering


async def rest(turn: Deferred[None]) -> None:
    await turn


class Work:
    """Pieces of work, each under way from its start until a test ends it."""

    def __init__(self) -> None:
        self.ordering = Ordering(rest)
        self.started: list[int] = []
        self.running: dict[int, Deferred[None]] = {}
        self.over: dict[int, Deferred[None]] = {}

    def add(self, number: int, key: str | None, at_once: bool = False) -> None:
        def work() -> Awaitable[None]:
            self.started.append(number)
            done: Deferred[None] = Deferred()
            if at_once:
                done.callback(None)
            else:
                self.running[number] = done
            return done

        self.over[number] = Deferred.fromCoroutine(self.ordering.run(key, work))
        self.over[number].addErrback(lambda failure: failure.trap(CancelledError, ZeroDivisionError))

    def end(self, number: int, fault: bool) -> None:
        done = self.running.pop(number)
        if fault:
            done.errback(ZeroDivisionError())
        else:
            done.callback(None)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans()), max_size=30),
    st.data(),
)
def test_any_order_of_ends(pieces: list[tuple[str | None, bool]], data: st.DataObject) -> None:
    """One key's work runs one after the other in the order it came, others' at once; no key is left over."""
    work = Work()
    keys = [key for key, _ in pieces]
    cancelled: set[int] = set()
    coming = list(enumerate(pieces))
    while coming or work.running:
        waiting = [number for number in work.over if number not in work.started and number not in cancelled]
        choices = ["come"] * bool(coming) + ["end"] * bool(work.running) + ["cancel"] * bool(waiting)
        match data.draw(st.sampled_from(choices)):
            case "come":
                number, (key, at_once) = coming.pop(0)
                work.add(number, key, at_once)
            case "end":
                work.end(data.draw(st.sampled_from(sorted(work.running))), data.draw(st.booleans()))
            case "cancel":
                number = data.draw(st.sampled_from(waiting))
                cancelled.add(number)
                work.over[number].cancel()
        under_way = [keys[number] for number in work.running if keys[number] is not None]
        assert len(under_way) == len(set(under_way)), "two of a key at once"
        for number in set(work.over) - set(work.started) - cancelled:
            assert keys[number] in under_way, "waits for nobody"
        assert len(work.ordering) == len(under_way)
    by_key = defaultdict(list)
    for number in work.started:
        by_key[keys[number]].append(number)
    for key, numbers in by_key.items():
        assert key is None or numbers == sorted(numbers)
    assert set(work.started) | cancelled == set(range(len(pieces)))
    assert len(work.ordering) == 0


def test_a_long_queue_of_quick_work() -> None:
    """Thousands that wait for one, and are over at once, don't pile up on the stack."""
    work = Work()
    work.add(0, "a")
    for number in range(1, 5000):
        work.add(number, "a", at_once=True)
    assert work.started == [0]
    work.end(0, False)
    assert work.started == list(range(5000))
    assert len(work.ordering) == 0


def test_a_turn_that_is_not_taken() -> None:
    """One that gives up although it was its turn lets the next one in."""
    work = Work()
    refused: list[Deferred[None]] = []

    async def rest_or_refuse(turn: Deferred[None]) -> None:
        await turn
        if not refused:
            refused.append(turn)
            raise CancelledError()

    work.ordering = Ordering(rest_or_refuse)
    for number in range(3):
        work.add(number, "a")
    work.end(0, False)
    assert work.started == [0, 2]
    work.end(2, False)
    assert len(work.ordering) == 0
