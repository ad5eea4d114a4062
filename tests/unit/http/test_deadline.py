"""Deadlines of a connection's steps."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from junebug_turn.http.deadline import Deadline


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def passed() -> list[float]:
    return []


@pytest.fixture
def deadline(clock: Clock, passed: list[float]) -> Deadline:
    return Deadline(clock, 5, lambda: passed.append(clock.seconds()))


def test_passes_once(clock: Clock, deadline: Deadline, passed: list[float]) -> None:
    """A deadline passes at its time, also when it was set while the timer of an earlier one ran."""
    deadline.set(5)
    clock.advance(4)
    deadline.set(17)
    clock.pump([1] * 60)
    assert passed == [21]


def test_nearer(clock: Clock, deadline: Deadline, passed: list[float]) -> None:
    """A deadline that is nearer than the one before it takes its place."""
    deadline.set(5)
    deadline.set(2)
    clock.pump([0.5] * 20)
    assert passed == [2]


def test_cleared_and_ended(clock: Clock, deadline: Deadline, passed: list[float]) -> None:
    """A deadline that is cleared doesn't pass; one that has ended leaves no timer."""
    deadline.set(5)
    deadline.clear()
    clock.advance(60)
    deadline.set(5)
    deadline.end()
    assert clock.getDelayedCalls() == []
    assert passed == []
