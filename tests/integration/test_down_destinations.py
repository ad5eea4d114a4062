"""Deliveries to destinations that are down, over real sockets; the time of their circuits is a clock's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError

from junebug_turn.delivery.circuit import DOUBT, FAILURES, HANGING, PROOF, Circuit
from junebug_turn.delivery.circuits import OF_CLIENTS
from junebug_turn.delivery.retry import CHAIN_LIMIT, RetryPolicy
from junebug_turn.delivery.signature import Webhook
from junebug_turn.errors import DeliveryDeferred, DeliveryExhausted, DeliveryRefused
from tests.support.delivery_harness import Bench, benched
from tools.servers.process import free_port
from tools.servers.receiver import HANG, RESET, Answer, Received

ONCE = RetryPolicy(max_retries=0)
PATIENCE = 800.0
SUSPECT_LIMIT = 5  # the deliverer's default
DOWN = FAILURES + PROOF
"""Failures, none of them within the same moment, that open a circuit."""


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as bench:
        yield bench


async def fail(bench: Bench, times: int = DOWN, **options: Any) -> None:
    """Deliveries of different messages, one after the other, that each fail at their only attempt."""
    for _ in range(times):
        bench.clock.advance(DOUBT)
        with pytest.raises(DeliveryExhausted):
            await bench.start(policy=ONCE, **options)


async def let_go(bench: Bench, seconds: float, requests: int) -> None:
    """Let time go, and wait until so many requests have come in all."""
    bench.clock.advance(seconds)
    await bench.receiver.received(requests)


@pytest_twisted.ensureDeferred
async def test_not_hammered(bench: Bench) -> None:
    """After five different messages, and the probes after them, have failed in a row a destination gets no more
    requests; a delivery without patience is deferred, after no attempt."""
    bench.receiver.default = Answer(503)
    await fail(bench)
    for _ in range(20):
        with pytest.raises(DeliveryDeferred, match="circuit is open") as caught:
            await bench.start()
        error = caught.value
        assert (error.reason, error.attempts, error.last_status) == ("circuit_open", 0, None)
        assert error.first_failure == bench.clock.seconds()
    assert len(bench.receiver.requests) == DOWN


@pytest_twisted.ensureDeferred
async def test_refusing_host(bench: Bench) -> None:
    """A host that refuses connections opens its circuit; another port of it is another origin."""
    url = f"http://127.0.0.1:{free_port()}/"
    for number in range(FAILURES + 1):
        with pytest.raises(DeliveryDeferred) as caught:
            await bench.start(url, policy=ONCE)
        assert caught.value.attempts == (number < FAILURES)
    await bench.start()
    assert len(bench.receiver.requests) == 1


@pytest_twisted.ensureDeferred
async def test_answers_count(bench: Bench) -> None:
    """A permanent answer is an answer: it interrupts the row of failures."""
    bench.receiver.script(503, 503, 503, 503, 400, 503, 200)
    await fail(bench, 4)
    with pytest.raises(DeliveryRefused):
        await bench.start(policy=ONCE)
    await fail(bench, 1)
    await bench.start()


@pytest_twisted.ensureDeferred
async def test_client_s_urls_are_apart(bench: Bench) -> None:
    """Client-given URLs have circuits of their own: what comes of them delays neither a configured URL at the same
    origin nor the clients of another channel, and a configured one doesn't delay them."""
    bench.receiver.default = Answer(503)
    await fail(bench, url=bench.receiver.url("/theirs"), configured=False)
    with pytest.raises(DeliveryDeferred):
        await bench.start(configured=False)
    assert list(bench.deliverer.degraded()) == [f"{_origin(bench)}{OF_CLIENTS}"]
    bench.receiver.default = Answer(200)
    await bench.start(policy=ONCE)
    await bench.start(connector="another", policy=ONCE, configured=False)

    bench.receiver.default = Answer(503)
    await fail(bench, connector="b")
    assert _origin(bench) in bench.deliverer.degraded()
    bench.receiver.default = Answer(200)
    await bench.start(connector="b", policy=ONCE, configured=False)


@pytest_twisted.ensureDeferred
async def test_one_probe(bench: Bench) -> None:
    """When its time comes one delivery is the probe; those that come while it is under way are deferred. Its
    success closes the circuit."""
    bench.receiver.script(*[RESET] * DOWN, HANG)
    await fail(bench)
    bench.clock.advance(1.5)
    probe = bench.start(timeout=10, policy=ONCE)
    await bench.receiver.received(DOWN + 1)
    with pytest.raises(DeliveryDeferred):
        await bench.start()
    bench.clock.advance(10)
    with pytest.raises(DeliveryExhausted, match="timeout"):
        await probe
    with pytest.raises(DeliveryDeferred):
        await bench.start()
    bench.clock.advance(3)
    await bench.start()
    await bench.start()
    assert len(bench.receiver.requests) == DOWN + 3


@pytest_twisted.ensureDeferred
async def test_waits_in_place(bench: Bench) -> None:
    """With patience a delivery waits, is the probe when its time comes, and goes back to the end of the line when
    that fails; what is left of its chain is not used up."""
    bench.receiver.script(*[503] * (DOWN + 3))
    await fail(bench)
    waiting = [
        bench.start(patience=PATIENCE, policy=ONCE, webhook=Webhook(name))
        for name in ("first", "second", "third")
    ]
    circuit = _circuit(bench)
    count = DOWN
    for delay in (1.5, 3, 6, 12):
        bench.clock.advance(delay - 0.01)
        assert len(bench.receiver.requests) == count
        count += 1
        await let_go(bench, 0.01, count)
        # private: when a probe has ended shows in nothing that is public.
        await bench.receiver.until(lambda: not circuit._probes, "the answer")
    for delivery in waiting:
        await delivery
    names = [request.headers["webhook-id"] for request in bench.receiver.requests[DOWN:]]
    assert names == ["first", "second", "third", "first", "second", "third"]
    times = {request.headers["webhook-timestamp"] for request in bench.receiver.requests[DOWN:]}
    assert len(times) == 4


@pytest_twisted.ensureDeferred
async def test_patience_is_over(bench: Bench) -> None:
    """A delivery that waited in vain is deferred when its patience is over; so is one that made attempts, with
    these."""
    bench.receiver.default = Answer(503)
    await fail(bench)
    probing, waiting = (bench.start(patience=2, policy=ONCE) for _ in range(2))
    await let_go(bench, 1.5, DOWN + 1)
    await bench.receiver.until(lambda: len(bench.clock.getDelayedCalls()) > 2, "the probe's end")
    bench.clock.advance(0.5)
    with pytest.raises(DeliveryExhausted) as caught:
        await probing
    assert (caught.value.reason, caught.value.last_status, caught.value.attempts) == ("http_status", 503, 1)
    assert isinstance(caught.value, DeliveryDeferred)
    with pytest.raises(DeliveryDeferred) as deferred:
        await waiting
    assert deferred.value.last_failure - deferred.value.first_failure == 2


@pytest_twisted.ensureDeferred
async def test_patience_has_a_limit(bench: Bench) -> None:
    """No patience is longer than a chain may be."""
    bench.receiver.script(*[503] * DOWN)
    bench.receiver.default = HANG
    await fail(bench)
    *probes, waiting = (
        bench.start(timeout=2 * CHAIN_LIMIT, patience=10 * CHAIN_LIMIT) for _ in range(SUSPECT_LIMIT + 1)
    )
    await let_go(bench, 1.5, DOWN + 1)
    for number in range(1, SUSPECT_LIMIT):
        await let_go(bench, HANGING, DOWN + number + 1)
    bench.clock.advance(CHAIN_LIMIT - 1.5 - (SUSPECT_LIMIT - 1) * HANGING)
    with pytest.raises(DeliveryDeferred):
        await waiting
    for probe in probes:
        probe.addErrback(lambda failure: failure.trap(CancelledError) and None)


def _origin(bench: Bench) -> str:
    return f"http://127.0.0.1:{bench.receiver.port}"


def _circuit(bench: Bench) -> Circuit:
    """The circuit of the bench's origin."""
    # private: the deliverer has no other way to it, as nothing but a delivery needs it.
    return bench.deliverer._circuits._circuits[_origin(bench), "", ""]


@pytest_twisted.ensureDeferred
async def test_chain_under_way(bench: Bench) -> None:
    """A chain whose origin's circuit opens makes no more attempts of its own: without patience it is over at once,
    in the middle of its delay; with patience it waits."""
    later = Answer(503, headers={"Retry-After": "60"})
    bench.receiver.script(later, later, *[503] * (DOWN - 2))
    impatient = bench.start()
    await bench.delay()
    patient = bench.start(patience=PATIENCE)
    await bench.receiver.until(lambda: len(bench.clock.getDelayedCalls()) == 2, "the second failure")
    await fail(bench, DOWN - 2)
    with pytest.raises(DeliveryExhausted) as caught:
        await impatient
    assert (caught.value.attempts, caught.value.last_status) == (1, 503)
    await let_go(bench, 1.5, DOWN + 1)
    await patient


@pytest_twisted.ensureDeferred
async def test_few_at_first(bench: Bench) -> None:
    """When the destination is back those that wait are not sent all at once."""
    bench.receiver.script(*[503] * DOWN)
    await fail(bench)
    bench.receiver.default = HANG
    waiting = [bench.start(patience=PATIENCE) for _ in range(10)]
    await let_go(bench, 1.5, DOWN + 1)
    bench.receiver.requests.clear()
    # The probe hangs; an answer to something else shows that the host is up.
    circuit = _circuit(bench)
    circuit.succeeded(False)
    await bench.receiver.received(2)
    circuit.succeeded(False)
    await bench.receiver.received(4)
    for delivery in waiting:
        delivery.addErrback(lambda failure: failure.trap(CancelledError) and None)
        delivery.cancel()


MISCONFIGURED = [300, 301, 302, 307, 308, 401, 402, 403, 404, 405, 407, 410, 421, 423, 426, 451]


@pytest.mark.parametrize("status", MISCONFIGURED)
@pytest_twisted.ensureDeferred
async def test_misconfigured(bench: Bench, status: int) -> None:
    """These answers of a configured URL to several different messages in a row blame the URL: what comes waits, the
    origin is degraded, and all goes on when it is repaired."""
    url = bench.receiver.url("/inbound?k=s3cret")
    bench.receiver.script(*[status] * DOWN)
    await fail(bench, url=url)
    (shown,) = bench.deliverer.degraded().items()
    assert shown[0] == _origin(bench)
    assert (shown[1]["state"], shown[1]["fault"]) == ("degraded", f"HTTP status {status}")
    # What else is there goes on.
    await bench.start()
    with pytest.raises(DeliveryDeferred):
        await bench.start(url)
    delivery = bench.start(url, patience=PATIENCE)
    bench.clock.advance(1.5)
    await delivery
    assert bench.deliverer.degraded() == {}


@pytest.mark.parametrize("status", [*MISCONFIGURED, 500, 503, 408, 425])
@pytest_twisted.ensureDeferred
async def test_one_message_delays_no_other(bench: Bench, status: int) -> None:
    """One message that a receiver refuses, with whatever status and however often, delays no other message; it is
    tried again like a passing fault, chain after chain."""
    bench.receiver.script(*[status] * 40, path="/poison")
    for _ in range(10):
        with pytest.raises(DeliveryExhausted) as caught:
            await bench.run(_poison(bench))
        assert (caught.value.attempts, caught.value.last_status) == (4, status)
        assert bench.deliverer.degraded() == {}
        for other in [bench.start(configured=True, policy=ONCE) for _ in range(20)]:
            await other
    assert len(bench.receiver.requests) == 40 + 200


def _poison(bench: Bench) -> Any:
    # A path of its own lets the receiver know it; it shares the circuit of its origin with all others.
    return bench.start(bench.receiver.url("/poison"), message_id="poison", patience=PATIENCE)


@pytest_twisted.ensureDeferred
async def test_not_always_the_same_probe(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is refused while all others would be taken doesn't keep a circuit open."""
    url = bench.receiver.url("/path")
    bench.receiver.script(*[404] * DOWN)
    await fail(bench, DOWN - 1, url=url)
    options = {"message_id": "poison", "webhook": Webhook("poison"), "policy": ONCE}
    bench.clock.advance(DOUBT)
    poison = bench.start(url, **options, patience=PATIENCE)
    await bench.receiver.until(bench.deliverer.degraded, "the circuit")
    others = [bench.start(url, patience=PATIENCE) for _ in range(3)]

    def answer(request: Received) -> Answer:
        return Answer(404 if request.headers.get("webhook-id") == "poison" else 200)

    monkeypatch.setattr(bench.receiver, "answer_to", answer)
    bench.clock.advance(1.5)
    for other in others:
        await other
    with pytest.raises(DeliveryExhausted):
        await poison
    assert bench.deliverer.degraded() == {}


@pytest_twisted.ensureDeferred
async def test_failing_messages_leave_room(bench: Bench) -> None:
    """So many messages that fail and so many that fare well: those that wait for another attempt don't take all
    places, but go to a delay queue before the end of their chain."""
    bench.receiver.script(*[500, 200] * 12)
    failing = []
    for number in range(10):
        failing.append(bench.start(patience=PATIENCE))
        await bench.receiver.until(partial(_pausing, bench, number + 1), "the failure")
        await bench.start()
    for _ in range(2):
        with pytest.raises(DeliveryExhausted) as caught:
            await bench.start(patience=PATIENCE)
        assert caught.value.attempts == 1
        await bench.start()
    bench.clock.advance(0.5)
    for delivery in failing:
        await delivery


@pytest_twisted.ensureDeferred
async def test_failed_messages_leave_room_in_an_outage(bench: Bench) -> None:
    """Messages that have failed don't take all places while the circuit is open, so that others come in and can ask
    whether it is well again: nearly all of them, and what is left goes to a delay queue."""
    bench.receiver.default = Answer(503)
    await fail(bench)
    waiting = [bench.start(patience=PATIENCE, policy=ONCE) for _ in range(20)]
    for number in range(20):
        bench.clock.advance(30)
        await bench.receiver.received(DOWN + number + 1)
        # private: when a probe has ended shows in nothing that is public.
        await bench.receiver.until(lambda: not _circuit(bench)._probes, "the answer")
    assert [delivery.called for delivery in waiting] == [False] * 18 + [True] * 2
    for delivery in waiting[18:]:
        with pytest.raises(DeliveryDeferred):
            await delivery
    for delivery in waiting[:18]:
        delivery.addErrback(lambda failure: failure.trap(CancelledError) and None)
        delivery.cancel()


def _pausing(bench: Bench, count: int) -> bool:
    return len(bench.delays()) == count


@pytest.mark.parametrize("status", MISCONFIGURED)
@pytest_twisted.ensureDeferred
async def test_not_configured(bench: Bench, status: int) -> None:
    """From a client's own URL the same answers are permanent, and open nothing."""
    bench.receiver.default = Answer(status)
    for _ in range(10):
        with pytest.raises(DeliveryRefused):
            await bench.start(patience=PATIENCE, configured=False)
    assert bench.deliverer.degraded() == {}


@pytest_twisted.ensureDeferred
async def test_refused_all_the_same(bench: Bench) -> None:
    """Other answers of a configured URL blame the message, which is refused at once."""
    bench.receiver.script(400)
    with pytest.raises(DeliveryRefused):
        await bench.start(patience=PATIENCE)


@pytest_twisted.ensureDeferred
async def test_stop_waiting(bench: Bench) -> None:
    """stop_waiting cancels what waits, and nothing else."""
    bench.receiver.script(*[503] * DOWN, HANG)
    await fail(bench)
    waiting = [bench.start(patience=PATIENCE) for _ in range(2)]
    await let_go(bench, 1.5, DOWN + 1)
    bench.deliverer.stop_waiting()
    with pytest.raises(CancelledError):
        await waiting[1]
    assert not waiting[0].called
    with pytest.raises(CancelledError):
        await bench.start(patience=PATIENCE)
    waiting[0].addErrback(lambda failure: failure.trap(CancelledError) and None)


@pytest_twisted.ensureDeferred
async def test_healthy_destinations_leave_nothing(bench: Bench) -> None:
    """A destination that answers is not remembered, nor limited."""
    for delivery in [bench.start() for _ in range(60)]:
        await delivery
    # private: that nothing is left shows in no behaviour.
    assert len(bench.deliverer._circuits) == 0
