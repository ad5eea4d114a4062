"""Operator events: which change is one, and which is not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from twisted.internet.task import Clock

from junebug_turn.daemon.operators.events import (
    BROKER_PATIENCE,
    CONSUMER_PATIENCE,
    PARKED_INTERVAL,
    OperatorEvents,
)


class Watched:
    """Parts of a daemon that a test changes, and the events that are sent of them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.connected = True
        self.consumers = {"sms.inbound": True, "sms.event": True}
        self.circuits: dict[str, Any] = {}
        self.parked: Counter[tuple[str, str, str]] = Counter()
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.events = OperatorEvents(
            self.clock,
            self,
            broker=lambda: {"connected": self.connected, "consumers": self.consumers},
            circuits=lambda: self.circuits,
            parked=self.take,
        )

    def take(self) -> Counter[tuple[str, str, str]]:
        parked, self.parked = self.parked, Counter()
        return parked

    def send(self, kind: str, text: str, *, minor: bool = False, **details: Any) -> None:
        assert text.endswith(".")
        self.sent.append((kind, text, details | {"minor": minor}))

    async def stop(self) -> None:
        self.sent.append(("end", ".", {}))

    def use_secrets(self, secrets: Any) -> None:
        raise NotImplementedError

    def use_tls(self, policy: Any) -> None:
        raise NotImplementedError

    def after(self, seconds: float) -> list[str]:
        """The kinds of events that are sent within so many seconds."""
        self.sent.clear()
        self.clock.pump([0.5] * int(seconds / 0.5))
        return [kind for kind, _, _ in self.sent]


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    watched.events.startService()
    return watched


def test_quiet(watched: Watched) -> None:
    """Where nothing changes there is no event."""
    assert watched.after(60) == []


def test_the_broker(watched: Watched) -> None:
    """The broker away and back is one event each, and none for each consumer; a short loss is none."""
    watched.connected = False
    watched.consumers = dict.fromkeys(watched.consumers, False)
    assert watched.after(BROKER_PATIENCE - 1) == []
    watched.connected = True
    assert watched.after(2) == []
    watched.connected = False
    assert watched.after(60) == ["broker_away"]
    watched.connected = True
    assert watched.after(1) == ["broker_back"]
    watched.consumers = dict.fromkeys(watched.consumers, True)
    assert watched.after(60) == []


def test_a_broker_that_is_not_there_at_the_start() -> None:
    """A broker that is away from the start is an event too."""
    watched = Watched()
    watched.connected = False
    watched.events.startService()
    assert watched.after(60) == ["broker_away"]


def test_a_consumer(watched: Watched) -> None:
    """A consumer that is lost while the broker is there is an event, and its return is one; one that is started again
    at once is none."""
    watched.consumers["sms.inbound"] = False
    assert watched.after(CONSUMER_PATIENCE - 1) == []
    watched.consumers["sms.inbound"] = True
    assert watched.after(2) == []
    watched.consumers["sms.inbound"] = False
    assert watched.after(60) == ["consumer_lost"]
    assert watched.sent[0][2]["queue"] == "sms.inbound"
    watched.consumers["sms.inbound"] = True
    assert watched.after(60) == ["consumer_back"]
    watched.consumers["new.inbound"] = False
    assert watched.after(60) == ["consumer_lost"]
    del watched.consumers["new.inbound"]
    assert watched.after(60) == []


def test_circuits(watched: Watched) -> None:
    """A circuit opened or closed is an event, with the destination and the fault; those of clients' URLs are minor."""
    watched.circuits = {"https://a:443": {"fault": "timeout"}, "https://b:443 (event_url)": {"fault": "dns"}}
    assert watched.after(60) == ["circuit_opened"] * 2
    found = {details["destination"]: details for _, _, details in watched.sent}
    assert (found["https://a:443"]["fault"], found["https://a:443"]["minor"]) == ("timeout", False)
    assert found["https://b:443 (event_url)"]["minor"]
    watched.circuits = {}
    assert watched.after(60) == ["circuit_closed"] * 2


def test_parked_messages(watched: Watched) -> None:
    """The first parked message is an event soon; those that follow are summed up, with their counts by connector and
    reason."""
    watched.parked["sms", "inbound", "http_status"] += 1
    assert watched.after(1) == ["messages_parked"]
    watched.parked["sms", "inbound", "http_status"] += 700
    watched.parked["ussd", "event", "error"] += 2
    assert watched.after(PARKED_INTERVAL - 2) == []
    assert watched.after(2) == ["messages_parked"]
    ((_, text, details),) = watched.sent
    assert details["count"] == 702
    assert {"connector": "ussd", "kind": "event", "reason": "error", "count": 2} in details["parked"]
    assert text.startswith("702 parked: 700 inbound of sms (http_status), 2 event of ussd (error).")
    assert watched.after(60) == []


def test_the_end(watched: Watched) -> None:
    """The end of the daemon is no event; messages that are parked meanwhile are."""
    watched.events.stop_looking()
    watched.connected = False
    watched.parked["sms", "inbound", "error"] += 1
    assert watched.after(60) == []
    watched.events.stopService()
    assert [kind for kind, _, _ in watched.sent] == ["messages_parked", "end"]
    assert not watched.clock.getDelayedCalls()
