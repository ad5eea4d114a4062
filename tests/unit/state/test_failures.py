"""Timeouts and failures of a store outside of the process's memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from junebug_turn.errors import CacheError
from junebug_turn.state.failures import FailureMonitor
from tests.support.store_harness import result


class Fault(Exception):
    """A fault of the store."""


@pytest.fixture
def monitor(clock: Clock) -> FailureMonitor:
    return FailureMonitor(clock, "Store at x", 2.0, (Fault,))


def test_result(monitor: FailureMonitor, lines: list[str]) -> None:
    """The result of an operation that succeeds is handed on, and logged nowhere."""
    assert result(monitor.result(succeed("found"))) == "found"
    assert (monitor.fault, monitor.failures, lines) == (None, 0, [])


def test_faults(monitor: FailureMonitor, lines: list[str]) -> None:
    """A fault of the store is a CacheError whose cause it is; a row of them is logged once, and its end too."""
    for number in range(3):
        with pytest.raises(CacheError) as caught:
            result(monitor.result(fail(Fault(f"away\n {number}"))))
        assert isinstance(caught.value.__cause__, Fault)
        assert (monitor.fault, monitor.failures) == (f"away {number}", number + 1)
    assert lines == ["warn Store at x fails: away 0"]
    result(monitor.result(succeed(None)))
    assert (monitor.fault, monitor.failures) == (None, 3)
    assert lines[1:] == ["info Store at x works again (3 failures so far)"]


@pytest.mark.parametrize(("text", "shown"), [("", "Fault"), ("x" * 300, "x" * 200)])
def test_fault_s_text(monitor: FailureMonitor, text: str, shown: str) -> None:
    """A fault is shown as one line of at most 200 characters, or by its type where it has no text."""
    with pytest.raises(CacheError):
        result(monitor.result(fail(Fault(text))))
    assert monitor.fault == shown


def test_other_exceptions(monitor: FailureMonitor) -> None:
    """An exception that is no fault of the store is handed on, and counted nowhere."""
    with pytest.raises(ZeroDivisionError):
        result(monitor.result(fail(ZeroDivisionError())))
    assert (monitor.fault, monitor.failures) == (None, 0)


def test_timeout(monitor: FailureMonitor, clock: Clock) -> None:
    """Work that takes longer than the timeout is cancelled and counts as a fault."""
    cancelled: list[Any] = []
    hanging: Deferred[None] = Deferred(cancelled.append)

    async def work() -> None:
        await hanging

    done = Deferred.fromCoroutine(monitor.run(work()))
    clock.advance(1.9)
    assert cancelled == []
    clock.advance(0.1)
    assert cancelled == [hanging]
    with pytest.raises(CacheError):
        result(done)
    assert (monitor.fault, monitor.failures) == ("no answer within 2 s", 1)


def test_remedies(clock: Clock, lines: list[str]) -> None:
    """A fault that somebody has to mend is shown with the remedy, and logged once also where others came before it."""
    monitor = FailureMonitor(
        clock, "Store", 2.0, (Fault,), lambda fault: "buy disks" if "full" in str(fault) else None
    )
    for text in ("away", "full", "away", "full"):
        with pytest.raises(CacheError):
            result(monitor.result(fail(Fault(text))))
    assert monitor.fault == "full; buy disks"
    assert lines == ["warn Store fails: away", "warn Store fails: full; buy disks"]
