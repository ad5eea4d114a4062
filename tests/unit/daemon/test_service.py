"""The daemon's order of start and stop, with parts that record what is asked of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from junebug_turn.daemon.drain import Drain
from junebug_turn.daemon.service import Daemon
from junebug_turn.daemon.settings import load
from junebug_turn.http.listening import ListenAddress
from junebug_turn.state.journal import Journals
from tests.support.configurations import TURN

STARTED = [
    "middleware.setup",
    "store.start",
    "pausing.start",
    "broker.startService",
    "deferred.start",
    "counts.startService",
]
DRAINING = ["site.close_connections"]
ASKED_TO_STOP = [
    "deferred.stop",
    "counts.stopService",
    "pausing.stop",
    "broker.stop_consuming",
    "deliverer.stop_waiting",
    "site.drain",
]
CLOSED = ["deliverer.close", "store.stop", "middleware.teardown_middleware", "broker.stopService"]


class Part:
    """Stands in for any part of a daemon: notes each call, and ends it as a test wants."""

    def __init__(self, name: str, calls: list[str], ends: dict[str, Any]) -> None:
        self._name, self._calls, self._ends = name, calls, ends

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*_: Any) -> Any:
            self._calls.append(f"{self._name}.{name}")
            end = self._ends.get(f"{self._name}.{name}")
            if isinstance(end, Exception):
                raise end
            return succeed(None) if end is None else end

        return call


class Bench:
    """A daemon of such parts.

    :ivar calls: the calls of its parts, in order
    :ivar ends: part and call -> the exception that it raises, or the Deferred that it returns
    """

    def __init__(self, drain_delay: float = 0, **certificates: Callable[[], None]) -> None:
        self.reactor = MemoryReactorClock()
        self.calls: list[str] = []
        self.ends: dict[str, Any] = {}
        names = (
            "broker",
            "deferred",
            "counts",
            "pausing",
            "deliverer",
            "middleware",
            "store",
            "site",
            "traces",
        )
        part: dict[str, Any] = {name: Part(name, self.calls, self.ends) for name in names}
        self.unconfirmed = 0
        part["broker"].unconfirmed = lambda: (self.unconfirmed, 0)
        self.daemon = Daemon(
            reactor=self.reactor,
            broker=part["broker"],
            deferred=part["deferred"],
            queue_counts=part["counts"],
            pausing=part["pausing"],
            deliverer=part["deliverer"],
            middlewares=[part["middleware"]],
            journals=Journals(self.reactor),
            traces=part["traces"],
            stores={"a": part["store"]},
            sites={ListenAddress.of("127.0.0.1:8080"): part["site"]},
            shared=frozenset(),
            certificates=certificates,
            health=dict,
            drain=Drain(drain_delay, self.reactor),
            shutdown_timeout=5,
        )

    def start(self) -> None:
        self.daemon.privilegedStartService()
        self.daemon.startService()

    def stop(self) -> list[Any]:
        """Start, then stop; a list that gets the result when the daemon has stopped."""
        self.start()
        self.calls.clear()
        stopped: list[Any] = []
        self.daemon.stopService().addBoth(stopped.append)
        return stopped


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_start(bench: Bench) -> None:
    """Middlewares, stores and their paused connectors are there before the broker's consumers, and only then the daemon
    is ready."""
    bench.ends["store.start"] = waiting = Deferred()
    bench.start()
    assert bench.calls == STARTED[:2]
    assert not bench.daemon.ready
    waiting.callback(None)
    assert bench.calls == STARTED
    assert bench.daemon.ready
    assert [(address.host, address.port) for address in bench.daemon.addresses] == [("0.0.0.0", 8080)]  # type: ignore[attr-defined]


def test_stop(bench: Bench) -> None:
    """Everything ends in order: first what brings work, at last the broker's connection."""
    assert bench.stop() == [None]
    assert bench.calls == DRAINING + ASKED_TO_STOP + CLOSED


def test_drain_delay() -> None:
    """After SIGTERM /health/ready is 503 for drain_delay while requests are still served; then the listener closes."""
    bench = Bench(drain_delay=10)
    stopped = bench.stop()
    assert bench.daemon.obstacle() == "stopping"
    bench.reactor.advance(9.9)
    assert bench.calls == DRAINING
    bench.reactor.advance(0.1)
    assert bench.calls == DRAINING + ASKED_TO_STOP + CLOSED
    assert stopped == [None]


def test_drain_that_is_ended() -> None:
    """A drain that is ended early is followed by all the rest; one that is over is not ended again."""
    bench = Bench(drain_delay=10)
    bench.ends["site.drain"] = Deferred()
    bench.stop()
    bench.daemon.drain.end()
    assert bench.calls == DRAINING + ASKED_TO_STOP
    bench.daemon.drain.end()
    assert bench.calls == DRAINING + ASKED_TO_STOP


def test_no_drain_before_the_start() -> None:
    """A daemon that is still starting is no load balancer's destination yet, and stops at once."""
    bench = Bench(drain_delay=10)
    bench.ends["store.start"] = Deferred()
    assert bench.stop() == [None]


def test_ready(bench: Bench) -> None:
    """/health/ready is 503 while starting, while the broker takes no messages, and from the moment of SIGTERM on."""
    bench.ends["store.start"] = waiting = Deferred()
    bench.start()
    assert bench.daemon.obstacle() == "starting"
    waiting.callback(None)
    broker: Any = bench.daemon.broker
    broker.takes_messages = False
    assert bench.daemon.obstacle() == "the broker takes no messages"
    broker.takes_messages = True
    assert bench.daemon.obstacle() is None
    bench.daemon.stopService()
    assert bench.daemon.obstacle() == "stopping"


@pytest.mark.parametrize("call", ["broker.stop_consuming", "site.drain"])
def test_work_under_way(bench: Bench, call: str) -> None:
    """While a delivery or a request is under way nothing that it needs is closed."""
    bench.ends[call] = waiting = Deferred()
    stopped = bench.stop()
    assert bench.calls == DRAINING + ASKED_TO_STOP
    waiting.callback(None)
    assert bench.calls == DRAINING + ASKED_TO_STOP + CLOSED
    assert stopped == [None]


def test_requests_that_take_too_long(bench: Bench) -> None:
    """Requests have shutdown_timeout to finish."""
    bench.ends["site.drain"] = Deferred()
    stopped = bench.stop()
    bench.reactor.advance(4.9)
    assert not stopped
    bench.reactor.advance(0.1)
    assert stopped == [None]


def test_unconfirmed_messages(bench: Bench) -> None:
    """What was handed to the broker is remembered until it is known what became of it: the stores are closed after
    that, or after shutdown_timeout."""
    bench.unconfirmed = 1
    stopped = bench.stop()
    bench.reactor.pump([0.1] * 10)
    assert bench.calls == DRAINING + ASKED_TO_STOP
    bench.unconfirmed = 0
    bench.reactor.advance(0.1)
    assert stopped == [None]
    bench = Bench()
    bench.unconfirmed = 1
    stopped = bench.stop()
    bench.reactor.advance(5)
    assert stopped == [None]


@pytest.mark.parametrize("call", CLOSED)
def test_a_part_that_can_t_stop(bench: Bench, call: str) -> None:
    """A failure of one part is logged, and all others are closed all the same."""
    bench.ends[call] = fault = LookupError(call)
    with capturedLogs() as events:
        assert bench.stop() == [None]
    assert bench.calls == DRAINING + ASKED_TO_STOP + CLOSED
    assert [event["log_failure"].value for event in events if "log_failure" in event] == [fault]


def test_stop_while_it_starts(bench: Bench) -> None:
    """A daemon that is stopped before its stores are there never consumes."""
    bench.ends["store.start"] = Deferred()
    assert bench.stop() == [None]
    assert "broker.startService" not in bench.calls
    assert not bench.daemon.ready


def test_reload() -> None:
    """A certificate that can't be read again doesn't keep the others from it."""
    renewed: list[str] = []

    def fail() -> None:
        raise ValueError("no certificate")

    Bench(bad=fail, good=lambda: renewed.append("good")).daemon.reload()
    assert renewed == ["good"]


def test_renew_secrets(bench: Bench) -> None:
    """Each application gets its options as they were read again; options that can't be used leave all as it was, with
    a line that has no value."""
    renewed: list[Any] = []
    bench.daemon.renewals = {"ussd": renewed.append}
    settings = load({"applications": json.dumps([TURN | {"turn_hmac_secret": ["new", "old"]}])}, {})
    bench.daemon.renew_secrets(lambda: settings)
    assert renewed == list(settings.applications)
    with capturedLogs() as events:
        bench.daemon.renew_secrets(
            lambda: load({"applications": json.dumps([TURN | {"auth_token": ""}])}, {})
        )
    assert renewed == list(settings.applications)
    (line,) = [formatEvent(event) for event in events]
    assert line is not None
    assert "stay as they were" in line
    assert "auth_token" in line
