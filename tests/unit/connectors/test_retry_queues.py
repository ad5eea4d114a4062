"""The history that a message carries, and the delays that it gets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.amqp.codec import decode_table, encode_table
from junebug_turn.amqp.frames import publish_properties
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.retry_queues import (
    DEFERRED_LIMIT,
    DELAYS,
    History,
    RetryWindows,
    deferred_queue,
    delay_of,
    delay_queue,
    former_delay_queues,
    original_headers,
    parked_queue,
)
from junebug_turn.errors import DeliveryExhausted

HOUR = 3600.0


def failure(first: float, last: float, attempts: int = 4, status: int | None = 503) -> DeliveryExhausted:
    return DeliveryExhausted(
        "503",
        reason="http_status",
        last_status=status,
        attempts=attempts,
        first_failure=first,
        last_failure=last,
    )


@given(
    reason=st.text(st.characters(exclude_categories=()), max_size=300),
    status=st.none() | st.integers(),
    attempts=st.integers(),
    times=st.tuples(st.floats(), st.floats()),
    error=st.text(st.characters(exclude_categories=()), max_size=400),
)
def test_a_copy_never_fails_for_its_history(
    reason: str, status: int | None, attempts: int, times: tuple[float, float], error: str
) -> None:
    """Whatever a failure says, its history can be written and read again: numbers of any size, times that are none,
    long texts and odd characters.  It fits into the smallest frame beside all other properties of a message."""
    wrong = DeliveryExhausted(
        "?",
        reason=reason,
        last_status=status,
        attempts=attempts,
        first_failure=times[0],
        last_failure=times[1],
        last_error=error,
    )
    history = History(1.0, 1.0, attempts=2**31 - 1).after(wrong).delayed()
    table = encode_table(history.headers())
    assert History.read(decode_table(table)[0], 2.0).attempts >= 0
    assert len(publish_properties(history.headers(), 2**31)) < 1150


def test_the_destinations_words() -> None:
    """What the destination said is a header of its own; a later failure without words has none."""
    failed = failure(1, 2)
    failed.last_error = "Invalid recipient (470)"
    history = History(1.0, 1.0).after(failed)
    assert history.headers()["last_error"] == "Invalid recipient (470)"
    assert History.read(history.headers(), 3.0).last_error == "Invalid recipient (470)"
    assert "last_error" not in history.after(failure(3, 4)).headers()
    assert "last_error" not in original_headers(history.headers(), with_deaths=True)


def test_the_delay_queues() -> None:
    """A queue with a name and a TTL for each delay, and an exchange; what expires goes back by its routing key."""
    queues = [delay_queue(delay) for delay in DELAYS]
    assert [queue.name for queue in queues] == [
        f"junebug-turn.delay.{name}" for name in ("30s", "5m", "30m", "2h")
    ]
    assert [queue.arguments["x-message-ttl"] for queue in queues] == [30000, 300000, 1800000, 7200000]
    for queue in queues:
        assert queue.fanout
        assert not queue.bound
        assert queue.arguments["x-dead-letter-exchange"] == ""
        assert "x-dead-letter-routing-key" not in queue.arguments


def test_the_deferred_queue() -> None:
    """The queue of deferred messages has the form of the delay queues: nothing waits in it for ever, and what leaves it
    goes back by its routing key."""
    for queue_type in ("default", "classic", "quorum"):
        queue, like = deferred_queue(queue_type), delay_queue(DEFERRED_LIMIT, queue_type)
        assert queue.name == "junebug-turn.deferred"
        assert (queue.bound, queue.fanout, queue.arguments) == (False, True, like.arguments)


def test_delays_as_operators_see_them() -> None:
    """The name of a queue tells how long a message waits there at most."""
    assert delay_of(delay_queue(30).name) == "30s"
    assert delay_of(deferred_queue().name) == "5m, or when a destination answers again"
    assert delay_of("c.inbound") is None


@given(st.lists(st.floats(0.001, 1e6), min_size=2, max_size=8, unique_by=lambda delay: round(delay, 3)))
def test_another_delay_is_another_queue(delays: list[float]) -> None:
    """No two delays that differ by a millisecond share a name: a queue's arguments can't be changed."""
    by_name = {queue.name: queue.arguments["x-message-ttl"] for queue in map(delay_queue, delays)}
    assert len(by_name) == len(set(by_name.values()))


def test_queue_types() -> None:
    """Our own queues have the type that is wanted; as quorum queues they drop nothing, whatever a policy says, and the
    broker waits for the confirm of what it puts back."""
    name = Queue("c.inbound")
    assert parked_queue(name).arguments == {}
    assert parked_queue(name, "classic").arguments == {"x-queue-type": "classic"}
    quorum = {"x-queue-type": "quorum", "x-overflow": "reject-publish"}
    assert parked_queue(name, "quorum").arguments == quorum
    assert delay_queue(30, "quorum").arguments == quorum | {
        "x-dead-letter-strategy": "at-least-once",
        "x-message-ttl": 30000,
        "x-dead-letter-exchange": "",
    }


def test_former_queues() -> None:
    """A connector had nine delay queues of its own."""
    names = former_delay_queues("c")
    assert len(set(names)) == 9
    assert {"c.inbound.retry.5s", "c.inbound.retry.30s", "c.event.retry.2h"} < set(names)


def test_the_course_of_a_day() -> None:
    """30 s, 5 min, 30 min, then every 2 hours; near the end of 24 hours a shorter one; then it is parked."""
    windows = RetryWindows()
    history, now, delays = History(1000, 1000), 1000.0, []
    while (delay := windows.delay(history, now)) is not None:
        delays.append(delay)
        history, now = history.delayed(), now + delay
    assert delays[:5] == [30, 300, 1800, 7200, 7200]
    assert set(delays[3:14]) == {7200}
    assert delays[14:] == sorted(delays[14:], reverse=True)
    assert 24 * HOUR - 30 < sum(delays) <= 24 * HOUR


@given(st.floats(0, 1e5), st.floats(0, 1e5), st.integers(0, 100), st.lists(st.floats(0.1, 1e4), min_size=1))
def test_no_delay_ends_after_the_window(window: float, past: float, count: int, delays: list[float]) -> None:
    """A delay is at most the one whose turn it is and ends within the window; none is left out that fits."""
    windows = RetryWindows(retry=window, delays=tuple(sorted(delays)))
    delay = windows.delay(History(0, past, delays=count), past)
    wanted = sorted(delays)[min(count, len(delays) - 1)]
    fitting = [each for each in delays if each <= wanted and past + each <= window]
    if delay is None:
        assert not [each for each in fitting if past + each < window - 1e-6]
    else:
        assert delay <= wanted
        assert past + delay <= window + 1e-6
        assert all(each <= delay for each in fitting)


def test_no_window() -> None:
    """A retry_window of 0 has no delay at all."""
    assert RetryWindows(retry=0).delay(History(1000, 1000), 1000) is None


def test_expiration() -> None:
    """parked_ttl becomes milliseconds; 0 is no expiration."""
    assert RetryWindows().expiration == 14 * 24 * 3600 * 1000
    assert RetryWindows(parked_ttl=0).expiration is None


@given(st.integers(1, 10**9), st.integers(0, 10**6), st.integers(0, 50), st.none() | st.integers(100, 599))
def test_a_history_goes_round(first: int, later: int, attempts: int, status: int | None) -> None:
    """What the headers carry is read again, and a further failure adds to it."""
    history = History(first, first).after(failure(first, first, attempts, status)).delayed()
    again = History.read(decode_table(encode_table(history.headers()))[0], first + later)
    assert again == history
    more = again.after(failure(first + later, first + later, 3, None))
    assert (more.attempts, more.delays, more.last_status) == (attempts + 3, 1, None)
    assert (more.first_failure, more.last_failure) == (first, first + later)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["reason", "attempts", "delays", "last_status", "first_failure", "last_failure"]),
        _values | st.datetimes().map(datetime.isoformat) | st.just("9999-12-31T23:59:59-23:00"),
    )
)
def test_hostile_headers(headers: dict[str, Any]) -> None:
    """Whatever the headers hold, a history comes of it that can be written, and none lies in the future."""
    now = 1_000_000.0
    history = History.read(headers, now).after(failure(now, now)).delayed()
    encode_table(history.headers())
    assert history.first_failure <= now
    assert RetryWindows().delay(history, now) in (None, *DELAYS)


@pytest.mark.parametrize("name", ["x-death", "x-first-death-queue", "x-last-death-reason"])
def test_deaths(name: str) -> None:
    """RabbitMQ's history of dead letters is dropped once we delay; CC, BCC and our own headers always are."""
    headers = {name: [], "CC": ["q"], "BCC": ["q"], "attempts": 3, "x": 1}
    assert original_headers(headers, with_deaths=False) == {"x": 1}
    assert original_headers(headers, with_deaths=True) == {name: [], "x": 1}


def test_times_are_in_utc() -> None:
    """A time without a zone is taken as UTC."""
    history = History.read({"first_failure": "2026-01-01T00:00:00"}, 4e9)
    assert history.first_failure == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
