"""Failures: which message is held, delayed, parked or put back, and the copy that is left of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from junebug_turn.amqp.delivery import DeliveryLost
from junebug_turn.connectors.failures import HOLD_LIMIT, REPLACE_PAUSE, Failures
from junebug_turn.connectors.retry_queues import DEFERRED_LIMIT, RetryWindows
from junebug_turn.connectors.task import Task
from junebug_turn.errors import (
    AmqpConnectionError,
    DeliveryDeferred,
    DeliveryExhausted,
    DeliveryFailed,
    DeliveryRefused,
)
from junebug_turn.telemetry.metrics import Metrics
from tests.support.clocks import Wall
from tests.support.fake_broker import FakeBroker

DEFERRED = "junebug-turn.deferred"


def failure(kind: type[DeliveryFailed], now: float = 0, reason: str = "http_status") -> DeliveryFailed:
    return kind("503", reason=reason, last_status=503, attempts=4, first_failure=now, last_failure=now)


class Bench:
    """The failures of one queue, and attempts that end as ``ends`` says, one after the other."""

    def __init__(self, windows: RetryWindows | None = None, wall: Wall | None = None) -> None:
        self.broker = FakeBroker()
        self.wall = wall or Wall(self.broker.reactor, 0)
        self.failures = Failures(
            self.broker, "c", "inbound", windows or RetryWindows(), Metrics(), wall_clock=self.wall
        )
        self.ends: list[Exception | None] = []
        self.attempts = 0

    async def attempt(self) -> None:
        self.attempts += 1
        end = self.ends.pop(0)
        if end is not None:
            raise end

    def run(
        self, *ends: Exception | None, headers: Any = None, body: bytes = b"body", **options: Any
    ) -> list[Any]:
        """Work on a message; the result, or none yet."""
        self.ends += ends
        self.delivery = self.broker.delivery(body, headers)
        task = Task(self.delivery, self.broker.reactor.seconds(), "m", **options)
        results: list[Any] = []
        Deferred.fromCoroutine(self.failures.run(task, self.attempt)).addBoth(results.append)
        return results


def test_what_is_declared() -> None:
    """The queue, the one for parked messages, and the shared ones of delayed, deferred and unroutable messages are
    declared."""
    delays = [f"junebug-turn.delay.{delay}" for delay in ("1s", "5s", "30s", "5m", "30m", "2h")]
    assert Bench().broker.declared == [
        "c.inbound",
        "c.inbound.parked",
        *delays,
        DEFERRED,
        "junebug-turn.unroutable",
    ]


def test_what_is_deferred_gets_no_older() -> None:
    """What was put off only because its destination is down comes back soon, each time, and is no older in its
    schedule; the time of its first failure is kept, so that it is parked when its window is over."""
    bench = Bench(RetryWindows(retry=60))
    headers = None
    for number in range(1, 4):
        assert bench.run(failure(DeliveryDeferred), headers=headers) == [None]
        copy = bench.broker.published[-1]
        assert (copy.exchange, copy.queue, copy.expiration) == ("junebug-turn.delay.5s", "c.inbound", None)
        headers = copy.headers
        assert headers is not None
        assert (headers["attempts"], headers.get("delays")) == (4 * number, None)
    bench.broker.reactor.advance(30)
    bench.run(failure(DeliveryExhausted, 30), headers=headers)
    assert bench.broker.published[-1].exchange == "junebug-turn.delay.30s"
    bench.broker.reactor.advance(30)
    bench.run(failure(DeliveryDeferred, 60), headers=headers)
    assert bench.broker.published[-1].queue == "c.inbound.parked"


def test_none_overtakes_a_deferred_one() -> None:
    """What comes while one of the same sender is put off is put off behind it; others are not, nor is what comes back,
    nor what comes later."""
    bench = Bench()
    bench.run(failure(DeliveryDeferred), key="+1")
    first = bench.broker.published[-1]
    assert bench.run(key="+1", body=b"second") == [None]
    second = bench.broker.published[-1]
    assert (second.exchange, bench.attempts) == ("junebug-turn.delay.5s", 1)
    assert second.headers is not None
    assert (second.headers["reason"], second.headers["attempts"]) == ("circuit_open", 0)
    assert bench.run(None, key="+2") == [None]
    bench.broker.reactor.advance(5)
    for copy in (first, second):
        assert bench.run(None, key="+1", body=copy.body, headers=copy.headers) == [None]
    assert len(bench.broker.published) == 2
    bench.broker.reactor.advance(2)
    assert bench.run(None, key="+1", body=b"third") == [None]
    assert len(bench.broker.published) == 2


def test_none_overtakes_one_that_is_put_off_again() -> None:
    """Messages of one sender that come back keep their order, however often the first of them is put off: the others
    are put off behind it, without an attempt, until it is delivered, or parked, or lost from sight."""
    bench = Bench()
    bodies = (b"first", b"second", b"third")
    headers: Any = {"first_failure": "1970-01-01T00:00:00+00:00"}
    bench.run(failure(DeliveryDeferred), key="+1", body=bodies[0])
    for body in bodies[1:]:
        bench.run(key="+1", body=body)
    for _ in range(3):
        bench.broker.reactor.advance(5)
        bench.run(failure(DeliveryDeferred), key="+1", body=bodies[0], headers=headers)
        for body in bodies[1:]:
            bench.run(key="+1", body=body, headers=headers)
    assert (bench.attempts, len(bench.broker.published)) == (4, 12)
    bench.broker.reactor.advance(5)
    bench.run(None, key="+1", body=bodies[0], headers=headers)
    bench.run(failure(DeliveryRefused), key="+1", body=bodies[1], headers=headers)
    bench.run(None, key="+1", body=bodies[2], headers=headers)
    assert (bench.attempts, len(bench.broker.published)) == (7, 13)
    bench.run(failure(DeliveryDeferred), key="+1", body=bodies[0])
    bench.run(key="+1", body=bodies[1])
    bench.broker.reactor.advance(30)
    bench.run(key="+1", body=bodies[1], headers=headers)
    assert bench.attempts == 8
    bench.broker.reactor.advance(6)
    assert bench.run(None, key="+1", body=bodies[1], headers=headers) == [None]
    assert len(bench.broker.published) == 16


def test_a_short_outage() -> None:
    """A message that fails again and again within 30 s of its first failure may be the only one while its destination
    is away: it comes back soon, no older in its schedule, and then waits for longer.  Since it may be refused itself,
    no other waits behind it."""
    bench = Bench()
    headers = None
    for number in range(5):
        assert bench.run(failure(DeliveryExhausted, 7 * number), headers=headers, key="+1") == [None]
        copy = bench.broker.published[-1]
        assert copy.exchange == "junebug-turn.delay.5s"
        headers = copy.headers
        assert headers is not None
        assert "delays" not in headers
        assert bench.run(None, key="+1") == [None]
        bench.broker.reactor.advance(7)
    assert bench.run(failure(DeliveryExhausted, 35), headers=headers, key="+1") == [None]
    assert len(bench.broker.published) == 6
    assert bench.broker.published[-1].exchange == "junebug-turn.delay.30s"


def test_other_schedules() -> None:
    """A schedule that begins with a delay as short, or a window with no place for a delay, is kept to."""
    short = Bench(RetryWindows(delays=(5.0, 60.0)))
    for delay, headers in (("5s", None), ("1m", {"delays": 1})):
        short.run(failure(DeliveryExhausted), headers=headers)
        copy = short.broker.published[-1]
        assert copy.exchange == f"junebug-turn.delay.{delay}"
        assert copy.headers is not None
        assert copy.headers["delays"] == (headers or {}).get("delays", 0) + 1
    closed = Bench(RetryWindows(retry=0))
    closed.run(failure(DeliveryExhausted))
    assert closed.broker.published[-1].queue == "c.inbound.parked"


def test_many_are_deferred() -> None:
    """Many messages for a destination that is down don't go round in the broker: all but some wait until it answers."""
    bench = Bench(RetryWindows(deferral=(5, 2)))
    for reason in ("http_status", "circuit_open", "connection", "bulkhead_full"):
        bench.run(failure(DeliveryDeferred, reason=reason))
    short = "junebug-turn.delay.5s"
    exchanges = [each.exchange for each in bench.broker.published]
    assert exchanges == [short, short, DEFERRED, DEFERRED]
    assert {each.queue for each in bench.broker.published} == {"c.inbound"}
    assert all("delays" not in (each.headers or {}) for each in bench.broker.published)
    bench.broker.reactor.advance(5)
    bench.run(failure(DeliveryDeferred))
    assert bench.broker.published[-1].exchange == short


def test_destinations_share_the_places() -> None:
    """One destination that is down delays no other: however many messages wait for it, those for another one that is
    down or slow come back soon; its places are free again when its messages come back."""
    bench = Bench(RetryWindows(deferral=(5, 8)))

    def soon(destination: str, number: int) -> int:
        """How many of so many messages for a destination come back soon."""
        end = failure(DeliveryDeferred)
        end.destination = destination
        before = len(bench.broker.published)
        for _ in range(number):
            bench.run(end)
        exchanges = [each.exchange for each in bench.broker.published[before:]]
        return exchanges.count("junebug-turn.delay.5s")

    assert soon("https://down", 100) == 8
    assert soon("https://slow", 100) == 4
    assert soon("https://other", 100) == 2
    assert soon("https://down", 100) == 0
    bench.broker.reactor.advance(5)
    assert [soon("https://slow", 1), soon("https://down", 100), soon("https://other", 1)] == [1, 8, 1]


def test_some_come_back_soon() -> None:
    """As many messages as their destination can take meanwhile, which answers but had no place free, come back after a
    second, and those that wait behind them, and a few for one that is down, so that it is asked again; a bounded number
    of a queue."""
    bench = Bench(RetryWindows(soon=(1, 10)))

    def soon(destination: str, most: int = 0, *, key: str | None = None, behind: bool = False) -> bool:
        end = failure(DeliveryDeferred, reason="bulkhead_full" if most else "circuit_open")
        end.destination, end.soon = destination, most or 3
        bench.run(*([] if behind else [end]), key=key, body=b"%d" % behind)
        exchange = bench.broker.published[-1].exchange
        assert exchange in ("junebug-turn.delay.1s", "junebug-turn.delay.5s")
        return exchange == "junebug-turn.delay.1s"

    assert [soon("https://busy", 2) for _ in range(3)] == [True, True, False]
    assert [soon("https://down") for _ in range(4)] == [True] * 3 + [False]
    assert [soon("https://other", 5, key="+1"), soon("https://other", 5, key="+1", behind=True)] == [True] * 2
    assert [soon(f"https://{number}", 5) for number in range(4)] == [True] * 3 + [False]
    bench.broker.reactor.advance(1)
    assert soon("https://busy", 2)


def test_repeats_are_no_news() -> None:
    """A message that is put off has its line in the log, but none each time that it comes back and is put off again
    without an attempt."""
    bench = Bench()

    def level(attempts: int, headers: Any = None) -> LogLevel:
        end = failure(DeliveryDeferred)
        end.attempts = attempts
        with capturedLogs() as lines:
            bench.run(end, headers=headers)
        (line,) = lines
        return line["log_level"]

    assert level(0) is LogLevel.warn
    headers = bench.broker.published[-1].headers
    assert level(0, headers) is LogLevel.debug
    assert level(1, headers) is LogLevel.warn


def test_a_destination_of_those_behind() -> None:
    """A message that waits behind another one has the destination of that one, and counts as one for it."""
    bench = Bench(RetryWindows(deferral=(5, 2)))
    end = failure(DeliveryDeferred)
    end.destination = "https://down"
    for number in range(4):
        bench.run(*([] if number else [end]), key="+1", body=b"%d" % number)
    assert bench.attempts == 1
    assert {(each.headers or {})["destination"] for each in bench.broker.published} == {"https://down"}
    exchanges = [each.exchange for each in bench.broker.published]
    assert exchanges == ["junebug-turn.delay.5s"] * 2 + [DEFERRED] * 2
    bench.run(failure(DeliveryDeferred))
    assert bench.broker.published[-1].exchange == "junebug-turn.delay.5s"


def test_none_overtakes_one_in_the_deferred_queue() -> None:
    """What comes while one of the same sender is deferred stays behind it, until that comes back, whenever that is."""
    bench = Bench(RetryWindows(deferral=(5, 1)))
    bench.run(failure(DeliveryDeferred), key="+2")
    bench.run(failure(DeliveryDeferred), key="+1", body=b"first")
    assert bench.broker.published[-1].exchange == DEFERRED
    bench.broker.reactor.advance(DEFERRED_LIMIT)
    bench.run(key="+1", body=b"second")
    assert (bench.broker.published[-1].body, bench.attempts) == (b"second", 2)
    bench.run(None, key="+1", body=b"first")
    bench.run(None, key="+1", body=b"second")
    assert (bench.attempts, len(bench.broker.published)) == (4, 3)


def test_what_is_worn_out_is_replaced() -> None:
    """A message that a quorum queue has delivered often is replaced by a copy, with its history, that counts anew;
    while none can be made it is neither put back nor dropped."""
    bench = Bench()
    headers = {"x": 1, "x-delivery-count": 10, "reason": "timeout", "delays": 2}
    delivery = bench.broker.delivery(b"body", headers)
    delivery.redelivered = True
    assert delivery.worn_out
    bench.broker.fault = AmqpConnectionError("away")
    replacing = Deferred.fromCoroutine(bench.failures.replace(Task(delivery, 0.0)))
    assert not replacing.called
    bench.broker.reactor.advance(REPLACE_PAUSE)
    assert replacing.called
    copy = bench.broker.published[-1]
    assert (copy.exchange, copy.queue, copy.body) == ("", "c.inbound", b"body")
    assert copy.headers == {"x": 1, "reason": "timeout", "delays": 2}
    assert bench.broker.channel.settled == {}


def test_success_leaves_nothing() -> None:
    """An attempt that succeeds is the end of it."""
    bench = Bench()
    assert bench.run(None) == [None]
    assert not bench.broker.published


def test_an_exhausted_message_is_delayed() -> None:
    """A copy with its history goes to the first delay queue, and later to the next one."""
    bench = Bench()
    bench.broker.reactor.advance(30)
    headers: Any = {"first_failure": "1970-01-01T00:00:00+00:00"}
    assert bench.run(failure(DeliveryExhausted, 30), headers=headers) == [None]
    (copy,) = bench.broker.published
    assert (copy.exchange, copy.queue, copy.body, copy.expiration) == (
        "junebug-turn.delay.30s",
        "c.inbound",
        b"body",
        None,
    )
    assert copy.headers == {
        "reason": "http_status",
        "last_status": 503,
        "attempts": 4,
        "delays": 1,
        "first_failure": "1970-01-01T00:00:00+00:00",
        "last_failure": "1970-01-01T00:00:30+00:00",
    }
    bench.run(failure(DeliveryExhausted), headers=copy.headers)
    assert bench.broker.published[1].exchange == "junebug-turn.delay.5m"
    assert bench.broker.published[1].headers is not None
    assert bench.broker.published[1].headers["attempts"] == 8


def test_the_copy_is_confirmed_first() -> None:
    """The work is over when the copy is confirmed, not before; a copy that fails is raised."""
    bench = Bench()
    bench.broker.confirming = False
    results = bench.run(failure(DeliveryExhausted))
    assert not results
    bench.broker.published[0].publication.confirmed.callback(None)
    assert results == [None]
    bench.broker.fault = AmqpConnectionError("no")
    assert bench.run(failure(DeliveryExhausted))[0].check(AmqpConnectionError)


def test_the_original_headers_stay() -> None:
    """The copy has the original's headers, or only ours when those can't be written again."""
    bench = Bench()
    bench.run(failure(DeliveryRefused), headers={"x": 1, "CC": ["q"]})
    assert bench.broker.published[0].headers is not None
    assert bench.broker.published[0].headers["x"] == 1
    assert "CC" not in bench.broker.published[0].headers
    bench.broker.fault = ValueError("larger than a frame")
    bench.run(failure(DeliveryRefused), headers={"x": 1})
    assert bench.broker.published[-1].headers is not None
    assert "x" not in bench.broker.published[-1].headers


@pytest.mark.parametrize(
    ("end", "reason"),
    [(failure(DeliveryRefused), "http_status"), (ZeroDivisionError(), "error"), (CancelledError(), "error")],
)
def test_what_is_tried_no_more_is_parked(end: Exception, reason: str) -> None:
    """A refusal, and a fault of our own, parks the message with its reason, for parked_ttl."""
    bench = Bench(RetryWindows(parked_ttl=60))
    assert bench.run(end) == [None]
    (copy,) = bench.broker.published
    assert (copy.queue, copy.expiration) == ("c.inbound.parked", 60000)
    assert bench.broker.had == ["c.inbound.parked"]
    assert copy.headers is not None
    assert copy.headers["reason"] == reason


def test_after_the_window() -> None:
    """A message whose window is over is parked instead of delayed."""
    bench = Bench(RetryWindows(retry=60))
    bench.broker.reactor.advance(30)
    bench.run(failure(DeliveryExhausted, 30), headers={"first_failure": "1970-01-01T00:00:00+00:00"})
    assert bench.broker.published[0].exchange == "junebug-turn.delay.30s"
    bench.broker.reactor.advance(20)
    bench.run(failure(DeliveryExhausted, 50), headers={"first_failure": "1970-01-01T00:00:00+00:00"})
    assert bench.broker.published[1].queue == "c.inbound.parked"


@pytest.mark.parametrize(
    ("end", "stopping"), [(AmqpConnectionError("away"), False), (CancelledError(), True)]
)
def test_what_is_raised(end: Exception, stopping: bool) -> None:
    """What is away for all messages, and the end of the daemon, has the message go back."""
    bench = Bench()
    bench.broker.stopping = stopping
    assert bench.run(end)[0].check(type(end))
    assert not bench.broker.published


def test_a_session() -> None:
    """A message of a session goes to a short delay queue each time, so that it holds up no other, and is parked when
    the session must be over."""
    bench = Bench(RetryWindows(session=12))
    headers = None
    delay = "junebug-turn.delay.5s", "c.inbound"
    expected = [(*delay, None), (*delay, None), (*delay, 2000), ("", "c.inbound.parked", 1209600000)]
    for number, copied in enumerate(expected, 1):
        assert bench.run(failure(DeliveryExhausted), headers=headers, in_session=True) == [None]
        copy = bench.broker.published[-1]
        assert (copy.exchange, copy.queue, copy.expiration) == copied
        headers = copy.headers
        assert headers is not None
        assert headers["attempts"] == 4 * number
        bench.broker.reactor.advance(min(5, 12 - bench.broker.reactor.seconds()))
    assert headers is not None
    assert (headers["reason"], headers["delays"]) == ("session_expired", 3)


def test_what_waited_too_long_goes_back() -> None:
    """A message that was held over HOLD_LIMIT goes back untried."""
    bench = Bench()
    delivery = bench.broker.delivery(b"body")
    bench.broker.reactor.advance(HOLD_LIMIT + 1)
    working = Deferred.fromCoroutine(bench.failures.run(Task(delivery, 0.0), bench.attempt))
    assert working.called
    assert bench.attempts == 0
    assert bench.broker.channel.settled == {1: "requeued"}


def test_a_lost_channel() -> None:
    """Nothing is done, or left, for a message whose channel is gone: the broker delivers it again."""
    bench = Bench()

    def lose(end: Exception) -> Callable[[], Any]:
        async def attempt() -> None:
            bench.broker.channel.closed = True
            raise end

        return attempt

    task = Task(bench.broker.delivery(b"body"), 0.0)
    ends: list[Any] = []
    Deferred.fromCoroutine(bench.failures.run(task, lose(failure(DeliveryRefused)))).addErrback(ends.append)
    Deferred.fromCoroutine(bench.failures.run(task, bench.attempt)).addErrback(ends.append)
    assert [end.type for end in ends] == [DeliveryLost, DeliveryLost]
    assert bench.attempts == 0
    assert not bench.broker.published


def test_unreadable() -> None:
    """What can't be read is parked as it is, with no attempt."""
    bench = Bench()
    task = Task(bench.broker.delivery(b"\xff", {"x": 1}), 0.0)
    Deferred.fromCoroutine(bench.failures.park_unreadable(task, ValueError("no JSON")))
    (copy,) = bench.broker.published
    assert (copy.queue, copy.body) == ("c.inbound.parked", b"\xff")
    assert copy.headers is not None
    assert (copy.headers["reason"], copy.headers.get("attempts", 0)) == ("unreadable", 0)


@pytest.mark.parametrize("jump", [-3600, 0, 3600])
@pytest.mark.parametrize("in_session", [False, True])
def test_the_wall_clock_is_set(jump: float, in_session: bool) -> None:
    """A wall clock that is set an hour back or forward between two attempts neither ends nor prolongs a window much:
    what was stored before it was set back counts anew."""
    clock = Clock()
    clock.advance(10_000)
    wall = Wall(clock, 0)

    def parked(headers: Any) -> bool:
        bench = Bench(RetryWindows(session=60, retry=600), wall)
        ends = (failure(DeliveryExhausted, wall.now()), None)
        bench.run(*ends, headers=headers, in_session=in_session)
        return "c.inbound.parked" in [each.queue for each in bench.broker.published]

    headers = {"first_failure": datetime.fromtimestamp(int(wall.now()), UTC).isoformat()}
    clock.advance(20)
    wall.ahead += jump
    assert not parked(headers)
    clock.advance(600)
    assert parked(headers) is (jump >= 0)
