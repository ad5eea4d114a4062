"""The history that a message carries, and the delays that it gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.history import History
from junebug_turn.connectors.retry_queues import (
    DEFERRED_LIMIT,
    DELAYS,
    RetryWindows,
    deferred_queue,
    delay_of,
    delay_queue,
    former_delay_queues,
    parked_queue,
    unroutable_queue,
)

HOUR = 3600.0


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
        assert queue.arguments["x-dead-letter-exchange"] == "junebug-turn.return"
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
    """Our own queues have the type that is wanted, and then drop nothing, whatever a policy says; with quorum queues,
    also those of the virtual host, the broker waits for the confirm of what it puts back."""
    name = Queue("c.inbound")
    refuses = {"x-overflow": "reject-publish"}
    delays = {"x-message-ttl": 30000, "x-dead-letter-exchange": "junebug-turn.return"}
    confirms = refuses | {"x-dead-letter-strategy": "at-least-once"}
    classic, quorum = (refuses | {"x-queue-type": each} for each in ("classic", "quorum"))
    assert parked_queue(name).all_arguments("classic") == parked_queue(name).all_arguments("quorum") == {}
    assert parked_queue(name, "classic").all_arguments("quorum") == classic
    assert parked_queue(name, "quorum").all_arguments("classic") == quorum
    assert delay_queue(30).all_arguments("classic") == delays
    assert delay_queue(30).all_arguments("quorum") == delays | confirms
    assert delay_queue(30, "classic").all_arguments("quorum") == delays | classic
    assert delay_queue(30, "quorum").all_arguments("classic") == delays | confirms | quorum


def test_the_unroutable_queue() -> None:
    """What finds its queue deleted waits for 5 minutes and then goes to the queue of that name; the broker doesn't keep
    what finds none again: it would keep back all behind it."""
    queue = unroutable_queue("quorum")
    assert (queue.name, queue.fanout, queue.bound) == ("junebug-turn.unroutable", True, False)
    arguments = queue.all_arguments()
    assert (arguments["x-message-ttl"], arguments["x-dead-letter-exchange"]) == (300_000, "")
    assert "x-dead-letter-strategy" not in arguments


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
