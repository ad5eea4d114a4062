"""The paces of all configured URL bases, on a clock that the tests move."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from junebug_turn.delivery.paces import DeliveryPace, Paces
from junebug_turn.delivery.rate import DeliveryRate
from junebug_turn.errors import DeliveryDeferred
from tests.support.clocks import wall_clock
from tests.unit.delivery.test_pacing import Answer, answer

RATE = DeliveryRate(1, 600)


class Side:
    """Paces with their clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.paces = Paces(self.clock, wall_clock(self.clock))
        self.stack = ExitStack()

    def delivery(
        self, url: str | None, kind: str = "inbound", rate: DeliveryRate | None = RATE, patience: float = 60
    ) -> DeliveryPace:
        return self.stack.enter_context(self.paces.of_delivery(url, "http://h:80", rate, "c", kind, patience))


def failure_of(turn: Deferred[None] | None) -> Any:
    assert turn is not None
    failures: list[Any] = []
    turn.addErrback(failures.append)
    (failure,) = failures
    return failure.value


def test_each_url_has_its_own() -> None:
    """Deliveries to one URL base share a quota; those to another, and those without one, know nothing of it."""
    side = Side()
    assert side.delivery("http://h/a").enter() is None
    assert side.delivery("http://h/a", "event", None).enter() is not None
    assert side.delivery("http://h/b").enter() is None
    for _ in range(5):
        unpaced = side.delivery(None)
        assert unpaced.enter() is None
        unpaced.end(None)
    assert len(side.paces) == 2
    assert side.paces.waiting() == {"c": {"event": {"count": 1, "oldest": 0}}}


def test_its_turn_does_not_come() -> None:
    """A delivery whose turn doesn't come in time is deferred, since the time when it came."""
    side = Side()
    side.delivery("http://h/").enter()
    turn = side.delivery("http://h/", patience=60).enter()
    side.clock.advance(60)
    error = failure_of(turn)
    assert isinstance(error, DeliveryDeferred)
    assert (error.reason, error.first_failure, error.last_failure) == ("rate_limited", 1_000_000, 1_000_060)


def test_the_end_of_a_delivery() -> None:
    """A delivery that ends without its call gives its turn back; one that made it has used it."""
    side = Side()
    for _ in range(3):
        with side.stack:
            assert side.delivery("http://h/").enter() is None
    with side.stack:
        made = side.delivery("http://h/")
        assert made.enter() is None
        made.end(answer())
    assert side.delivery("http://h/").enter() is not None


def test_forgotten() -> None:
    """A pace without anything to heed is forgotten with its last delivery; one that has a quota to heed is not."""
    side = Side()
    for response, count in ((Answer(), 0), (Answer(429), 1)):
        with side.stack:
            delivery = side.delivery("http://h/", rate=None)
            delivery.enter()
            delivery.end(response)  # type: ignore[arg-type]
        assert len(side.paces) == count


def test_stop() -> None:
    """stop cancels what waits, now and from now on."""
    side = Side()
    side.delivery("http://h/").enter()
    waiting = side.delivery("http://h/").enter()
    side.paces.stop()
    assert isinstance(failure_of(waiting), CancelledError)
    side.delivery("http://h/new").enter()
    with pytest.raises(CancelledError):
        raise failure_of(side.delivery("http://h/new").enter())
