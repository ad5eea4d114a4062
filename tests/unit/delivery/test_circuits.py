"""The circuits of many destinations, on a clock that the tests move."""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.delivery.circuit import DOUBT, FAILURES, PROOF
from junebug_turn.delivery.circuits import FORGET_AFTER, MAX_SHOWN, OF_CLIENTS, Circuits
from tests.support.clocks import wall_clock
from tests.unit.delivery.test_circuit import NO_PATIENCE, ORIGIN, SUSPECT_LIMIT, results


class Side:
    """Circuits with their clock."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        options["wall_clock"] = wall_clock(self.clock)
        self.circuits = Circuits(self.clock, lambda: 0.5, suspect_limit=SUSPECT_LIMIT, **options)
        self._names = count()

    def attempt(
        self,
        origin: str,
        outcome: str,
        url: str | None = None,
        message: str | None = None,
        channel: str = "",
    ) -> bool:
        """Make an attempt with this outcome; whether it was let through.

        :param message: None for another one than all before
        """
        message = message or f"another {next(self._names)}"
        with self.circuits.of_delivery(origin, url, message, NO_PATIENCE, channel) as circuits:
            entered = results(Deferred.fromCoroutine(circuits.enter()))
            if entered != [None]:
                return False
            if outcome == "answered":
                circuits.answered()
            elif outcome == "failed":
                circuits.failed("timeout", None)
            elif outcome == "not reached":
                circuits.failed("connection", None, reached=False)
            else:
                circuits.misconfigured(outcome)
        return True

    def fail(self, origin: str, outcome: str, url: str | None = None, channel: str = "") -> None:
        """Make so many attempts, none of them within the same moment, that a circuit opens."""
        for _ in range(FAILURES + PROOF):
            self.clock.advance(DOUBT)
            assert self.attempt(origin, outcome, url=url, channel=channel)

    def misconfigure(self, url: str, fault: str = "HTTP status 404") -> None:
        self.fail(ORIGIN, fault, url)


def test_origins_are_apart() -> None:
    """An origin that is down says nothing about another."""
    side = Side()
    side.fail(ORIGIN, "failed")
    assert not side.attempt(ORIGIN, "failed")
    assert side.attempt("http://other:80", "answered")


def test_clients_are_apart() -> None:
    """The URLs that the clients of a channel gave have circuits of their own, also at an origin that is configured."""
    side = Side()
    side.fail(ORIGIN, "failed", channel="a")
    assert not side.attempt(ORIGIN, "answered", channel="a")
    assert side.attempt(ORIGIN, "answered", channel="b")
    assert side.attempt(ORIGIN, "answered", url="http://host/")
    assert list(side.circuits.degraded()) == [f"{ORIGIN}{OF_CLIENTS}"]


def test_recovery_is_reported() -> None:
    """When a destination that was down has answered, that is reported, once, whatever its circuit is for; an answer of
    one that was not down is not."""
    recoveries: list[None] = []
    side = Side(recovered=lambda: recoveries.append(None))
    assert side.attempt(ORIGIN, "answered")
    cases: tuple[tuple[str, str | None, str], ...] = (
        ("failed", None, "a"),
        ("failed", ORIGIN + "/inbound", ""),
        ("HTTP status 404", ORIGIN + "/inbound", ""),
    )
    for number, (outcome, url, channel) in enumerate(cases):
        side.fail(ORIGIN, outcome, url, channel)
        assert len(recoveries) == number
        while not side.attempt(ORIGIN, "answered", url, channel=channel):
            side.clock.advance(1)
        assert side.attempt(ORIGIN, "answered", url, channel=channel)
        assert len(recoveries) == number + 1


def test_the_end_of_a_doubt_is_reported() -> None:
    """When a destination that was in doubt has answered, that is reported as well: what came meanwhile is put off."""
    recoveries: list[None] = []
    side = Side(recovered=lambda: recoveries.append(None))
    for _ in range(FAILURES):
        assert side.attempt(ORIGIN, "failed")
    assert not side.circuits.degraded()
    side.clock.advance(1)
    assert side.attempt(ORIGIN, "answered")
    assert len(recoveries) == 1


def test_clients_hide_no_configured_origin() -> None:
    """However many destinations of clients are down, a configured one that is down is among those that are shown."""
    side = Side()
    for origin in [*(f"http://host{number}:80" for number in range(MAX_SHOWN)), ORIGIN]:
        side.fail(origin, "failed", channel="" if origin == ORIGIN else "a")
    assert len(side.circuits.degraded()) == MAX_SHOWN
    assert ORIGIN in side.circuits.degraded()


def test_one_message() -> None:
    """One message opens neither circuit, with whatever answer and however often."""
    side = Side()
    for outcome in ("failed", "HTTP status 404") * 50:
        assert side.attempt(ORIGIN, outcome, url="http://host/", message="poison")
    assert side.attempt(ORIGIN, "answered", url="http://host/")
    assert side.circuits.degraded() == {}


def test_no_connection() -> None:
    """Where there is no connection the message can't be the cause: each attempt counts."""
    side = Side()
    for _ in range(FAILURES):
        assert side.attempt(ORIGIN, "not reached", message="m")
    assert not side.attempt(ORIGIN, "answered")


def test_misconfigured_url() -> None:
    """Several different messages in a row with an answer that blames the URL open the circuit of that URL alone, not
    what else is at its origin; but an origin that is down holds up the URL, too."""
    side = Side()
    side.misconfigure("http://host/wrong")
    assert not side.attempt(ORIGIN, "answered", url="http://host/wrong")
    assert side.attempt(ORIGIN, "answered", url="http://host/right")
    assert side.attempt(ORIGIN, "answered")
    assert side.circuits.degraded()[ORIGIN]["fault"] == "HTTP status 404"
    side.clock.advance(2)
    assert side.attempt(ORIGIN, "answered", url="http://host/wrong")
    assert side.circuits.degraded() == {}
    side.fail(ORIGIN, "failed")
    assert not side.attempt(ORIGIN, "answered", url="http://host/right")


def test_a_success_between() -> None:
    """A success of the URL interrupts the row of its failures; one of another URL at the origin does not."""
    side = Side()
    for _ in range(FAILURES - 1):
        side.attempt(ORIGIN, "HTTP status 404", url="http://host/")
        side.attempt(ORIGIN, "answered", url="http://host/other")
    side.attempt(ORIGIN, "answered", url="http://host/")
    for _ in range(FAILURES + PROOF - 1):
        side.clock.advance(DOUBT)
        assert side.attempt(ORIGIN, "HTTP status 404", url="http://host/")
    assert side.circuits.degraded() == {}
    side.clock.advance(DOUBT)
    side.attempt(ORIGIN, "HTTP status 404", url="http://host/")
    assert side.circuits.degraded() != {}


def test_what_an_operator_sees() -> None:
    """Open circuits are told by origin, with what is wrong and since when; nothing of the URL."""
    side = Side()
    side.misconfigure("http://host/path?key=s3cret", "HTTP status 401")
    assert side.circuits.degraded() == {
        ORIGIN: {"state": "degraded", "fault": "HTTP status 401", "since": "1970-01-01T00:16:41+00:00"}
    }


def test_healthy_origins_are_forgotten() -> None:
    """Only circuits that are in use or have failed are remembered."""
    side = Side()
    for number in range(100):
        side.attempt(f"http://host{number}:80", "answered")
    assert len(side.circuits) == 0
    side.attempt(ORIGIN, "failed")
    assert len(side.circuits) == 1
    side.attempt(ORIGIN, "answered")
    assert len(side.circuits) == 0


def test_bounded() -> None:
    """At most max_circuits circuits are remembered that are not in use, the ones that were used last."""
    side = Side(max_circuits=10)
    with side.circuits.of_delivery("http://used:80", None, "m", NO_PATIENCE):
        for number in range(100):
            side.fail(f"http://host{number}:80", "wrong", "http://x/")
            assert len(side.circuits) <= 12
    assert "http://host99:80" in side.circuits.degraded()
    assert len(side.circuits.degraded()) >= 8


def test_idle_origins_are_forgotten() -> None:
    """A place where nothing was sent to for an hour is forgotten, and no longer shown."""
    side = Side()
    side.misconfigure("http://host/")
    side.clock.advance(FORGET_AFTER - 1)
    assert len(side.circuits.degraded()) == 1
    side.clock.advance(2)
    assert side.circuits.degraded() == {}
    assert len(side.circuits) == 0
