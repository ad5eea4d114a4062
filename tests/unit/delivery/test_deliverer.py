"""Deliveries over real sockets; the time between attempts is a clock's that the tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from junebug_turn.delivery.bulkhead import CLIENT_PATIENCE, TICK
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import ASKS, CHAIN_LIMIT, MAX_RETRY_AFTER, RetryPolicy
from junebug_turn.delivery.signature import Webhook
from junebug_turn.errors import DeliveryDeferred, DeliveryExhausted, DeliveryFailed, DeliveryRefused
from tests.support.delivery_harness import BODY, SUBJECT, TIMEOUT, Bench, benched
from tools.servers.process import free_port
from tools.servers.quota import Quota
from tools.servers.receiver import CLOSE, HANG, Answer, Received, Receiver

reactor: Any = _reactor


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as bench:
        yield bench


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest_twisted.ensureDeferred
async def test_the_request(bench: Bench) -> None:
    """A delivery is one POST of the body as UTF-8 JSON, from junebug-turn, with the headers that were given."""
    await bench.start(webhook=Webhook("abc"))
    (request,) = bench.receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/path", BODY)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("junebug-turn")
    assert request.headers["content-length"] == str(len(BODY))
    assert (request.headers["webhook-id"], request.headers["webhook-timestamp"]) == ("abc", "1000000")
    assert "webhook-signature" not in request.headers
    assert "authorization" not in request.headers


@pytest_twisted.ensureDeferred
async def test_extra_headers_are_one_delivery_s(bench: Bench) -> None:
    """Headers of one delivery are not sent with the next to the same destination."""
    destination = Destination.of(bench.receiver.url(), None)
    for webhook in (Webhook("abc"), None):
        await Deferred.fromCoroutine(
            bench.deliverer.deliver(
                destination, BODY, timeout=TIMEOUT, policy=RetryPolicy(), webhook=webhook, **SUBJECT
            )
        )
    assert "webhook-id" not in bench.receiver.requests[1].headers


@pytest_twisted.ensureDeferred
async def test_basic_wins(bench: Bench) -> None:
    """User and password in the URL are sent as Basic, percent-decoded, in place of a token; the URL that is
    requested has none of them."""
    destination = Destination.of(bench.receiver.url("/a?b=c", userinfo="us%40er:p%3Ass@"), "token")
    await Deferred.fromCoroutine(
        bench.deliverer.deliver(destination, BODY, timeout=TIMEOUT, policy=RetryPolicy(), **SUBJECT)
    )
    (request,) = bench.receiver.requests
    assert request.headers["authorization"] == "Basic dXNAZXI6cDpzcw=="
    assert request.path == "/a?b=c"
    assert request.headers["host"] == f"127.0.0.1:{bench.receiver.port}"


@pytest_twisted.ensureDeferred
async def test_503_twice_then_200(bench: Bench) -> None:
    """A destination that answers 503 twice and then 200 gets three attempts, after delays below 1 and 4 s."""
    bench.receiver.script(503, 503, 200)
    assert await bench.run(bench.start()) == [0.5, 2]
    assert [request.body for request in bench.receiver.requests] == [BODY] * 3


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 599])
@pytest_twisted.ensureDeferred
async def test_passing_statuses(bench: Bench, status: int) -> None:
    """408, 425 and 5xx are retried; after the last attempt there is no sleep, and the error tells of all."""
    bench.receiver.default = Answer(status)
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(bench.start())
    error = caught.value
    assert len(bench.receiver.requests) == error.attempts == 4
    assert (error.reason, error.last_status) == ("http_status", status)
    assert (error.first_failure, error.last_failure) == (1_000_000, 1_000_000 + 0.5 + 2 + 8)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 403, 404, 405, 410, 413, 422])
@pytest_twisted.ensureDeferred
async def test_permanent_statuses(bench: Bench, status: int) -> None:
    """Any other answer is permanent: one attempt.  A redirect is one of them and is not followed."""
    bench.receiver.default = Answer(
        status, {"Location": bench.receiver.url("/elsewhere"), "Retry-After": "1"}
    )
    with pytest.raises(DeliveryRefused) as caught:
        await bench.run(bench.start(configured=False))
    error = caught.value
    assert (error.reason, error.last_status, error.attempts) == ("http_status", status, 1)
    assert error.first_failure == error.last_failure == 1_000_000
    assert [request.path for request in bench.receiver.requests] == ["/path"]


@pytest_twisted.ensureDeferred
async def test_retry_after(bench: Bench) -> None:
    """Retry-After on 503, in seconds or as a date, replaces the computed delay, within bounds."""
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1_000_000 + 7 + 60)
    for value in ("7", date.strftime("%a, %d %b %Y %H:%M:%S GMT"), "86400"):
        bench.receiver.script(Answer(503, {"Retry-After": value}))
    assert await bench.run(bench.start()) == [7, 60, MAX_RETRY_AFTER]


@pytest_twisted.ensureDeferred
async def test_429_of_a_client_s_url(bench: Bench) -> None:
    """Retry-After on the 429 of a client's URL replaces the computed delay of that delivery; no circuit opens."""
    for _ in range(20):
        bench.receiver.script(Answer(429, {"Retry-After": "4"}))
        assert await bench.run(bench.start(configured=False)) == [4]
    assert bench.deliverer.degraded() == {}


@pytest_twisted.ensureDeferred
async def test_429_of_a_client_s_url_uses_up_no_attempt(bench: Bench) -> None:
    """A 429 of a client's URL uses up no attempt either; it is made again after 1, 2 s and so on where no Retry-After
    asks for more, and what would be made later than 5 s after the beginning waits in the broker."""
    bench.receiver.script(429, Answer(429, {"Retry-After": "0"}), 200)
    policy = RetryPolicy(max_retries=0)
    assert await bench.run(bench.start(configured=False, policy=policy)) == [1, 2]
    bench.receiver.script(429, 503, 429, 503)
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(bench.start(configured=False, policy=RetryPolicy(max_retries=1)))
    assert caught.value.attempts == 4
    bench.receiver.script(*[429] * 3)
    with pytest.raises(DeliveryExhausted):
        await bench.run(bench.start(configured=False, policy=policy))
    assert len(bench.receiver.requests) == 3 + 4 + 3
    assert bench.deliverer.degraded() == {}


@pytest_twisted.ensureDeferred
async def test_429(bench: Bench) -> None:
    """A 429 of a configured URL uses up no attempt, opens no circuit and slows down its own URL only: nothing is asked
    there while it lasts, and all goes on then; another URL at the same origin gets its messages meanwhile."""
    receiver = bench.receiver
    receiver.script(*[Answer(429, {"Retry-After": "20"})] * 23, path="/slow")
    policy, start = RetryPolicy(max_retries=0), bench.clock.seconds()
    slow = [bench.start(receiver.url("/slow"), url_base="slow", policy=policy) for _ in range(20)]
    await receiver.received(20)
    others = 0
    while not all(delivery.called for delivery in slow):
        await bench.start(receiver.url("/other"), url_base="other")
        others += 1
        assert bench.deliverer.degraded() == {}
        bench.clock.advance(1)
    for delivery in slow:
        await delivery
    # The first ones, one after each pause, and all of them again.
    assert len(receiver.requests) - others == 20 + 3 + 20
    assert bench.clock.seconds() - start >= 4 * 20


class Limited(Receiver):
    """A receiver with a quota below /busy, by the clock of the test, which it doesn't state."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(reactor)
        self.clock = clock
        self.quota = Quota(10, 60)

    def answer_to(self, request: Received) -> Answer:
        within, headers = True, {}
        if request.path == "/busy":
            within, headers = self.quota.call(self.clock.seconds(), 0)
        return Answer(200) if within else Answer(429, {"Retry-After": headers["Retry-After"]})


@pytest_twisted.ensureDeferred
async def test_ten_minutes_over_the_quota(bench: Bench) -> None:
    """One channel is over its quota for ten minutes: those at the same origin get their messages at once all the time,
    no circuit opens, and none of its own messages fails."""
    receiver = Limited(bench.clock)
    receiver.start()
    end, done = bench.clock.seconds() + 600, 0
    busy: set[Deferred[None]] = set()

    def more() -> None:
        # As many are under way as a queue has places.
        delivery = bench.start(receiver.url("/busy"), url_base="busy")
        busy.add(delivery)
        delivery.addCallback(ended, delivery)

    def ended(_: object, delivery: Deferred[None]) -> None:
        nonlocal done
        busy.remove(delivery)
        done += 1
        if bench.clock.seconds() < end:
            more()

    def all_wait() -> bool:
        waiting = bench.deliverer.waiting_for_turn()
        return bool(waiting) and waiting["c"]["inbound"]["count"] == 20

    for _ in range(20):
        more()
    while bench.clock.seconds() < end:
        await receiver.until(all_wait, "the quota's end")
        other = bench.start(receiver.url("/other"), url_base="other")
        await receiver.until(lambda other=other: other.called, "another channel's message")
        await other
        assert bench.deliverer.degraded() == {}
        bench.clock.advance(5)
    # Of ten windows, but for the pauses after each 429.
    assert done >= 80
    assert receiver.quota.refused > 0
    assert not any(delivery.called for delivery in busy)
    for delivery in busy:
        delivery.addErrback(lambda failure: failure.trap(CancelledError))
    await bench.deliverer.close()
    await receiver.stop()


@pytest_twisted.ensureDeferred
async def test_its_turn_does_not_come(bench: Bench) -> None:
    """What waits for its turn for too long is deferred, without an attempt; and a delivery that is to stop waiting is
    cancelled."""
    bench.receiver.default = Answer(429, {"Retry-After": "300"})
    delivery = bench.start(turn_patience=60)
    await bench.receiver.until(bench.deliverer.waiting_for_turn, "its wait")
    bench.clock.advance(20)
    assert bench.deliverer.waiting_for_turn() == {"c": {"inbound": {"count": 1, "oldest": 20}}}
    bench.clock.advance(40)
    with pytest.raises(DeliveryDeferred) as caught:
        await delivery
    error = caught.value
    assert (error.reason, error.attempts, error.last_status, error.soon) == ("rate_limited", 0, None, 0)
    assert (error.first_failure, error.last_failure) == (1_000_000, 1_000_060)
    waits = bench.start()
    bench.deliverer.stop_waiting()
    with pytest.raises(CancelledError):
        await waits


@pytest_twisted.ensureDeferred
async def test_retry_after_elsewhere(bench: Bench) -> None:
    """Retry-After on another status, or one that says nothing, changes no delay."""
    bench.receiver.script(Answer(500, {"Retry-After": "7"}), Answer(503, {"Retry-After": "soon"}))
    assert await bench.run(bench.start()) == [0.5, 2]


@pytest_twisted.ensureDeferred
async def test_chain_limit(bench: Bench) -> None:
    """No attempt starts when the chain has lasted more than 15 minutes: then it is exhausted, without sleep."""
    bench.receiver.default = Answer(503, {"Retry-After": "86400"})
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(bench.start(policy=RetryPolicy(max_retries=100)))
    assert caught.value.attempts == 4
    assert caught.value.last_failure - caught.value.first_failure == 3 * MAX_RETRY_AFTER == CHAIN_LIMIT


@pytest.mark.parametrize("answer", [Answer(429, {"Retry-After": "299"}), Answer(503, {"Retry-After": "6"})])
@pytest_twisted.ensureDeferred
async def test_a_client_s_url_waits_outside(bench: Bench, answer: Answer) -> None:
    """A delivery to a client's URL waits for no attempt that is more than 5 s away; a configured one does."""
    bench.receiver.script(answer)
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.start(configured=False)
    assert caught.value.attempts == 1
    assert bench.clock.getDelayedCalls() == []
    bench.receiver.script(503, 503)
    assert await bench.run(bench.start(configured=False)) == [0.5, 2]
    bench.receiver.script(answer)
    assert len(await bench.run(bench.start())) == 1


async def find_no_place(bench: Bench, deliveries: list[Deferred[Any]], soon: int) -> None:
    """Let time go until these are deferred, of which so many may come back soon."""
    for _ in range(round(CLIENT_PATIENCE / TICK)):
        bench.clock.advance(TICK)
    for delivery in deliveries:
        with pytest.raises(DeliveryDeferred) as caught:
            await delivery
        assert (caught.value.reason, caught.value.attempts, caught.value.soon) == ("bulkhead_full", 0, soon)


def abandon(deliveries: list[Deferred[Any]]) -> None:
    for delivery in deliveries:
        delivery.addErrback(lambda failure: failure.trap(CancelledError, DeliveryFailed) and None)
        delivery.cancel()


@pytest_twisted.ensureDeferred
async def test_clients_have_half_of_the_places(bench: Bench) -> None:
    """Deliveries to clients' URLs are under way side by side up to their limit, fewer where nothing has answered yet;
    one that finds no place in time is deferred, and one to a configured URL needs none."""
    bench.receiver.default = HANG
    hanging = [bench.start(configured=False) for _ in range(20)]
    await bench.receiver.received(5)
    await find_no_place(bench, hanging[5:], ASKS)
    bench.receiver.default = Answer()
    await bench.start()
    assert len(bench.receiver.requests) == 6
    bench.receiver.release()
    abandon(hanging[:5])


@pytest_twisted.ensureDeferred
async def test_no_retries(bench: Bench) -> None:
    """max_retries 0 makes one attempt."""
    bench.receiver.default = Answer(503)
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.start(policy=RetryPolicy(max_retries=0))
    assert caught.value.attempts == len(bench.receiver.requests) == 1


@pytest.mark.parametrize("configured", [True, False])
@pytest_twisted.ensureDeferred
async def test_no_connection(bench: Bench, configured: bool) -> None:
    """What can't be sent for want of a connection is deferred, be it the only one: its destination is the cause."""
    with pytest.raises(DeliveryDeferred) as caught:
        await bench.run(bench.start(f"http://127.0.0.1:{free_port()}/", configured=configured))
    assert (caught.value.reason, caught.value.soon) == ("connection", ASKS)


@pytest_twisted.ensureDeferred
async def test_known_to_be_down(bench: Bench) -> None:
    """What is deferred without an attempt, since its destination is known to be down, may come back soon, as a few do
    that ask whether it answers again."""
    url = f"http://127.0.0.1:{free_port()}/"
    for reason in ("connection", "connection", "circuit_open"):
        with pytest.raises(DeliveryDeferred) as caught:
            await bench.run(bench.start(url, configured=False))
        assert (caught.value.reason, caught.value.soon) == (reason, ASKS)


@pytest_twisted.ensureDeferred
async def test_no_place_for_a_client_s_url_that_answers(bench: Bench) -> None:
    """Of those that find no place at a client's URL that answers, as many may come back soon as it can take."""
    await bench.start(configured=False)
    await bench.start()
    bench.receiver.default = HANG
    hanging = [bench.start(configured=False) for _ in range(20)]
    await bench.receiver.received(12)
    await find_no_place(bench, hanging[10:], 10 * 25)
    abandon(hanging[:10])


@pytest_twisted.ensureDeferred
async def test_other_connections_are_suspects(bench: Bench) -> None:
    """After a fault of the connection the next attempt uses a new one, not another of the pool."""
    for delivery in [bench.start() for _ in range(2)]:
        await delivery
    bench.receiver.script(CLOSE, 503, 200)
    assert await bench.run(bench.start()) == [0.5, 2]
    assert [request.connection for request in bench.receiver.requests[3:]] == [3, 2]


@pytest_twisted.ensureDeferred
async def test_cancel_delay(bench: Bench) -> None:
    """A delivery that is cancelled between two attempts makes no other."""
    bench.receiver.default = Answer(503)
    delivery = bench.start()
    await bench.delay()
    delivery.cancel()
    with pytest.raises(CancelledError):
        await delivery
    assert bench.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_close(bench: Bench) -> None:
    """close cancels the deliveries under way and closes the connections that are kept."""
    bench.receiver.script(200, HANG, 503)
    await bench.start()
    hanging = bench.start()
    await bench.receiver.received(2)
    waiting = bench.start()
    await bench.delay()
    await bench.deliverer.close()
    for delivery in (hanging, waiting):
        with pytest.raises(CancelledError):
            await delivery
    await bench.receiver.all_closed()


@pytest_twisted.ensureDeferred
async def test_log(bench: Bench, logged: list[LogEvent]) -> None:
    """Each failed attempt is logged with origin, status and next delay, without path, query, token or body."""
    url = bench.receiver.url("/p4th?key=s3cret", userinfo="us3r:s3cret@")
    bench.receiver.script(503, 400)
    with pytest.raises(DeliveryFailed) as caught:
        await bench.run(bench.start(url))
    lines = [
        formatEvent(event)
        for event in logged
        if event["log_namespace"] == "junebug_turn.delivery.deliverer.Deliverer"
    ]
    assert lines == [
        f"Delivery to http://127.0.0.1:{bench.receiver.port} failed: HTTP status 503; attempt 1, the next in 0.5 s",
        f"Delivery to http://127.0.0.1:{bench.receiver.port} failed: HTTP status 400; attempt 2, the last for now",
    ]
    said = f"{lines} {caught.value}"
    assert not any(secret in said for secret in ("s3cret", "us3r", "p4th", "content", "dXMz"))


@pytest_twisted.ensureDeferred
async def test_signature(bench: Bench) -> None:
    """Each attempt is signed for its own time; the id stays."""
    bench.receiver.script(503)
    webhook = Webhook("id", b"key")
    await bench.run(bench.start(webhook=webhook))
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    sent = [{name: request.headers[name] for name in names} for request in bench.receiver.requests]
    assert sent == [webhook.headers(1_000_000, BODY), webhook.headers(1_000_000.5, BODY)]


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
@pytest_twisted.ensureDeferred
async def test_the_wall_clock_is_set(bench: Bench, jump: float) -> None:
    """A wall clock that is set an hour back or forward ends no chain and delays no attempt; it dates the failures."""
    bench.receiver.default = Answer(503)
    delivery = bench.start()
    assert await bench.delay() == 0.5
    bench.wall.ahead += jump
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(delivery)
    error = caught.value
    assert error.attempts == 4
    assert (error.first_failure, error.last_failure) == (1_000_000, 1_000_000 + jump + 0.5 + 2 + 8)
