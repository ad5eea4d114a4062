"""One attempt of a delivery, over real sockets: its time limit, its faults, and its cancelling."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError

from junebug_turn.delivery.attempt import Fault
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import DeliveryExhausted
from tests.support.certificates import self_signed
from tests.support.delivery_harness import Bench, benched
from tools.servers.process import free_port
from tools.servers.receiver import CLOSE, CUT, HANG, HANG_IN_BODY, RESET, TRICKLE, Answer, Receiver

reactor: Any = _reactor


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as bench:
        yield bench


@pytest_twisted.ensureDeferred
async def test_every_2xx(bench: Bench) -> None:
    """Every 2xx answer ends a delivery, with or without a body."""
    bench.receiver.script(200, 201, 202, Answer(204, body=b""), Answer(299))
    for _ in range(5):
        await bench.start()
    assert len(bench.receiver.requests) == 5


@pytest.mark.parametrize(
    "status", [b"99999999999999999999", b"600", b"999", b"099", b"0", b"-200", b"9" * 5000]
)
@pytest_twisted.ensureDeferred
async def test_no_status(bench: Bench, status: bytes) -> None:
    """A status outside 100 to 599 is a fault of the connection: no number of the destination's goes further."""
    for rest in (b"Content-Length: 0\r\n\r\n", b"no header\r\n\r\n"):
        bench.receiver.default = Answer(how="malformed", body=b"HTTP/1.1 " + status + b" OK\r\n" + rest)
        with pytest.raises(DeliveryExhausted) as caught:
            await bench.start(policy=RetryPolicy(max_retries=0))
        assert (caught.value.reason, caught.value.last_status) == ("connection", None)


def test_words_of_statuses() -> None:
    """The words of all statuses for the metrics are those that HTTP knows, and one for each class of the others."""
    words = {Fault("http_status", status).cause for status in range(100, 600)}
    assert len(words) < 75
    assert {"http_404", "http_4xx", "http_503", "http_5xx"} < words
    assert Fault("timeout").cause == "timeout"


@pytest.mark.parametrize("answer", [HANG, HANG_IN_BODY, TRICKLE], ids=["hang", "hang in body", "trickle"])
@pytest_twisted.ensureDeferred
async def test_timeout(bench: Bench, answer: Answer) -> None:
    """The timeout covers an attempt to the end of the body; a connection that timed out is closed, and the
    next attempt comes over another one."""
    bench.receiver.script(200, answer)
    await bench.start()
    delivery = bench.start(timeout=500)
    await bench.receiver.received(2)
    bench.clock.advance(499.9)
    await bench.receiver.until(lambda: answer.how == "hang" or bench.receiver.requests, "some of the body")
    assert not delivery.called
    bench.clock.advance(0.1)
    assert await bench.run(delivery) == [0.5]
    assert [request.connection for request in bench.receiver.requests] == [1, 1, 2]
    await bench.receiver.all_closed()


@pytest_twisted.ensureDeferred
async def test_timeouts_only(bench: Bench) -> None:
    """A destination that always hangs exhausts the chain with the reason timeout and no status."""
    bench.receiver.default = HANG
    delivery = bench.start(timeout=400, policy=RetryPolicy(max_retries=1))
    await bench.receiver.received(1)
    bench.clock.advance(400)
    assert await bench.delay() == 0.5
    bench.clock.advance(0.5)
    await bench.receiver.received(2)
    bench.clock.advance(400)
    with pytest.raises(DeliveryExhausted) as caught:
        await delivery
    error = caught.value
    assert (error.reason, error.last_status, error.attempts) == ("timeout", None, 2)
    assert error.last_failure - error.first_failure == 400.5


@pytest.mark.parametrize("answer", [RESET, CLOSE, CUT], ids=["reset", "close", "cut"])
@pytest_twisted.ensureDeferred
async def test_lost_connection(bench: Bench, answer: Answer) -> None:
    """A connection that is lost before the answer's end is a passing fault, and is not used again."""
    bench.receiver.script(200, answer, 200)
    await bench.start()
    assert await bench.run(bench.start()) == [0.5]
    assert [request.connection for request in bench.receiver.requests] == [1, 1, 2]


@pytest.mark.parametrize("answer", [RESET, CLOSE, CUT], ids=["reset", "close", "cut"])
@pytest_twisted.ensureDeferred
async def test_lost_connections_only(bench: Bench, answer: Answer) -> None:
    """When every attempt loses its connection the reason is connection, and no attempt is made in secret."""
    bench.receiver.default = answer
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(bench.start())
    assert (caught.value.reason, caught.value.last_status) == ("connection", None)
    assert len(bench.receiver.requests) == 4


@pytest_twisted.ensureDeferred
async def test_no_connection(bench: Bench) -> None:
    """A port where nobody listens is a passing fault, connection."""
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(bench.start(f"http://127.0.0.1:{free_port()}/"))
    assert (caught.value.reason, caught.value.attempts) == ("connection", 4)


@pytest_twisted.ensureDeferred
async def test_no_such_name(bench: Bench) -> None:
    """A name that does not resolve is a passing fault, dns."""
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(bench.start("http://no-such-host.invalid/", policy=RetryPolicy(max_retries=1)))
    assert (caught.value.reason, caught.value.last_status, caught.value.attempts) == ("dns", None, 2)


@pytest_twisted.ensureDeferred
async def test_garbage(bench: Bench) -> None:
    """An answer that is not HTTP is a passing fault, connection."""
    tls = Receiver(reactor, tls=self_signed("127.0.0.1").options())
    tls.start()
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(bench.start(f"http://127.0.0.1:{tls.port}/", policy=RetryPolicy(max_retries=0)))
    assert caught.value.reason == "connection"
    await tls.stop()


@pytest.mark.parametrize("answer", [HANG, HANG_IN_BODY, TRICKLE], ids=["hang", "hang in body", "trickle"])
@pytest_twisted.ensureDeferred
async def test_cancel_request(bench: Bench, answer: Answer) -> None:
    """A delivery that is cancelled closes its connection, makes no other attempt and leaves nothing running."""
    bench.receiver.script(answer)
    delivery = bench.start()
    await bench.receiver.received(1)
    delivery.cancel()
    with pytest.raises(CancelledError):
        await delivery
    assert bench.clock.getDelayedCalls() == []
    await bench.receiver.all_closed()
    assert len(bench.receiver.requests) == 1


@pytest_twisted.ensureDeferred
async def test_cancel_connecting(bench: Bench) -> None:
    """A delivery that is cancelled before it is connected never reaches the destination."""
    delivery = bench.start()
    delivery.cancel()
    with pytest.raises(CancelledError):
        await delivery
    await bench.receiver.all_closed()
    assert bench.receiver.requests == []
