"""Deliveries over real sockets; the time between attempts is a clock's that the tests move."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.ssl import trustRootFromCertificates
from twisted.internet.tcp import Client
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.web.client import BrowserLikePolicyForHTTPS

from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import CHAIN_LIMIT, MAX_RETRY_AFTER, RetryPolicy
from junebug_turn.delivery.signature import Webhook
from junebug_turn.errors import DeliveryExhausted, DeliveryFailed, DeliveryRefused
from tests.support.certificates import self_signed
from tests.support.delivery_harness import BODY, TIMEOUT, Bench, benched
from tools.servers.receiver import CLOSE, CUT, HANG, HANG_IN_BODY, RESET, TRICKLE, Answer, Receiver

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


def free_port() -> int:
    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        return unbound.getsockname()[1]  # type: ignore[no-any-return]


@pytest_twisted.ensureDeferred
async def test_the_request(bench: Bench) -> None:
    """A delivery is one POST of the body as UTF-8 JSON, from junebug-turn, with the headers that were given."""
    await bench.start(webhook=Webhook("abc"))
    (request,) = bench.receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/path", BODY)
    assert request.headers["content-type"] == "application/json; charset=utf-8"
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
            bench.deliverer.deliver(destination, BODY, timeout=TIMEOUT, policy=RetryPolicy(), webhook=webhook)
        )
    assert "webhook-id" not in bench.receiver.requests[1].headers


@pytest_twisted.ensureDeferred
async def test_basic_wins(bench: Bench) -> None:
    """User and password in the URL are sent as Basic, percent-decoded, in place of a token; the URL that is
    requested has none of them."""
    destination = Destination.of(bench.receiver.url("/a?b=c", userinfo="us%40er:p%3Ass@"), "token")
    await Deferred.fromCoroutine(
        bench.deliverer.deliver(destination, BODY, timeout=TIMEOUT, policy=RetryPolicy())
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


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
@pytest_twisted.ensureDeferred
async def test_passing_statuses(bench: Bench, status: int) -> None:
    """408, 425, 429 and 5xx are retried; after the last attempt there is no sleep, and the error tells of all."""
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
        await bench.run(bench.start())
    error = caught.value
    assert (error.reason, error.last_status, error.attempts) == ("http_status", status, 1)
    assert error.first_failure == error.last_failure == 1_000_000
    assert [request.path for request in bench.receiver.requests] == ["/path"]


@pytest_twisted.ensureDeferred
async def test_every_2xx(bench: Bench) -> None:
    """Every 2xx answer ends a delivery, with or without a body."""
    bench.receiver.script(200, 201, 202, Answer(204, body=b""), Answer(299))
    for _ in range(5):
        await bench.start()
    assert len(bench.receiver.requests) == 5


@pytest.mark.parametrize("status", [429, 503])
@pytest_twisted.ensureDeferred
async def test_retry_after(bench: Bench, status: int) -> None:
    """Retry-After on 429 and 503, in seconds or as a date, replaces the computed delay, within bounds."""
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1_000_000 + 7 + 60)
    for value in ("7", date.strftime("%a, %d %b %Y %H:%M:%S GMT"), "86400"):
        bench.receiver.script(Answer(status, {"Retry-After": value}))
    assert await bench.run(bench.start()) == [7, 60, MAX_RETRY_AFTER]


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


@pytest_twisted.ensureDeferred
async def test_no_retries(bench: Bench) -> None:
    """max_retries 0 makes one attempt."""
    bench.receiver.default = Answer(503)
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.start(policy=RetryPolicy(max_retries=0))
    assert caught.value.attempts == len(bench.receiver.requests) == 1


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


@pytest_twisted.ensureDeferred
async def test_keep_alive(bench: Bench) -> None:
    """Deliveries one after the other share a connection; a retry after an answer does, too."""
    bench.receiver.script(200, 503, 200, 400, 200)
    await bench.start()
    await bench.run(bench.start())
    with pytest.raises(DeliveryRefused):
        await bench.start()
    await bench.start()
    assert [request.connection for request in bench.receiver.requests] == [1] * 5


@pytest_twisted.ensureDeferred
async def test_other_connections_are_suspects(bench: Bench) -> None:
    """After a fault of the connection the next attempt uses a new one, not another of the pool."""
    for delivery in [bench.start() for _ in range(2)]:
        await delivery
    bench.receiver.script(CLOSE, 503, 200)
    assert await bench.run(bench.start()) == [0.5, 2]
    assert [request.connection for request in bench.receiver.requests[3:]] == [3, 2]


@pytest_twisted.ensureDeferred
async def test_many_at_once(bench: Bench) -> None:
    """Twenty deliveries at once each have a connection, and the next twenty use the same ones."""
    for _ in range(2):
        for delivery in [bench.start() for _ in range(20)]:
            await delivery
    assert bench.receiver.connections == 20


@pytest_twisted.ensureDeferred
async def test_long_answer(bench: Bench) -> None:
    """Of an answer longer than 64 KiB the status counts; the rest is not read, and its connection is closed."""
    bench.receiver.script(Answer(200, body=b"x" * 60_000), Answer(200, body=b"x" * 5_000_000), 200)
    await bench.start()
    await bench.start()
    await bench.start()
    assert [request.connection for request in bench.receiver.requests] == [1, 1, 2]


@pytest_twisted.ensureDeferred
async def test_answer_is_not_unpacked(bench: Bench) -> None:
    """An answer's body is thrown away as it comes: one that is not the gzip it says it is does no harm."""
    bench.receiver.script(Answer(200, {"Content-Encoding": "gzip"}, b"not gzip"))
    await bench.start()
    assert len(bench.receiver.requests) == 1


@pytest_twisted.ensureDeferred
async def test_no_cookies(bench: Bench) -> None:
    """A cookie that a destination sets is not sent back."""
    bench.receiver.script(Answer(200, {"Set-Cookie": "a=b; Path=/"}))
    await bench.start()
    await bench.start()
    assert "cookie" not in bench.receiver.requests[1].headers


def _clients() -> set[Client]:
    """The outgoing connections of this process."""
    return {reader for reader in reactor.getReaders() if isinstance(reader, Client)}


@pytest_twisted.ensureDeferred
async def test_tls(bench: Bench) -> None:
    """A certificate that an authority vouches for is accepted; one that none does is a passing fault, tls."""
    certificate = self_signed("localhost")
    receiver = Receiver(reactor, tls=certificate.options())
    receiver.start()
    url = f"https://localhost:{receiver.port}/"
    with pytest.raises(DeliveryExhausted) as caught:
        await bench.run(bench.start(url, policy=RetryPolicy(max_retries=1)))
    assert (caught.value.reason, caught.value.last_status, caught.value.attempts) == ("tls", None, 2)
    assert receiver.requests == []

    others = _clients()
    policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates([certificate]))
    trusting = Deliverer(reactor, tls_policy=policy)
    for name, reason in ((url, None), (f"https://127.0.0.1:{receiver.port}/", "tls")):
        delivery = trusting.deliver(
            Destination.of(name, None), BODY, timeout=9, policy=RetryPolicy(max_retries=0)
        )
        if reason is None:
            await delivery
        else:
            # The same certificate does not vouch for another name.
            with pytest.raises(DeliveryExhausted) as caught:
                await delivery
            assert caught.value.reason == reason
    assert len(receiver.requests) == 1

    # Nor does one that hangs, and would not answer the goodbye of TLS, keep its connection.
    receiver.script(HANG_IN_BODY)
    hanging = Deferred.fromCoroutine(
        trusting.deliver(Destination.of(url, None), BODY, timeout=0.5, policy=RetryPolicy(max_retries=0))
    )
    await receiver.received(2)
    for channel in receiver.open:
        channel.transport.pauseProducing()
    with pytest.raises(DeliveryExhausted, match="timeout"):
        await hanging
    await trusting.close()
    await receiver.until(
        lambda: _clients() <= others,
        "the end of the client",
    )
    await receiver.stop()


@pytest_twisted.ensureDeferred
async def test_ipv6(bench: Bench) -> None:
    """A destination may be an IPv6 address."""
    receiver = Receiver(reactor, interface="::1")
    try:
        receiver.start()
    except Exception:
        pytest.skip("this machine has no IPv6")
    await bench.start(receiver.url())
    assert receiver.requests[0].headers["host"] == f"[::1]:{receiver.port}"
    await bench.deliverer.close()
    await receiver.stop()


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
async def test_cancel_connecting(bench: Bench) -> None:
    """A delivery that is cancelled before it is connected never reaches the destination."""
    delivery = bench.start()
    delivery.cancel()
    with pytest.raises(CancelledError):
        await delivery
    await bench.receiver.all_closed()
    assert bench.receiver.requests == []


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
        f"Delivery to http://127.0.0.1:{bench.receiver.port} failed: HTTP status 503; attempt 1, next in 0.5 s",
        f"Delivery to http://127.0.0.1:{bench.receiver.port} failed: HTTP status 400; attempt 2, next in None s",
    ]
    said = f"{lines} {caught.value}"
    assert not any(secret in said for secret in ("s3cret", "us3r", "p4th", "content", "dXMz"))


@pytest_twisted.ensureDeferred
async def test_the_host_header(bench: Bench) -> None:
    """The Host header names host and port of the destination, once."""
    await bench.start()
    (request,) = bench.receiver.requests
    assert request.headers["host"] == bench.receiver.url().removeprefix("http://").partition("/")[0]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com/a", b"example.com"),
        ("http://example.com:80/a", b"example.com"),
        ("https://example.com:443/a", b"example.com"),
        ("http://example.com:443/a", b"example.com:443"),
        ("https://[::1]:8080/a", b"[::1]:8080"),
    ],
)
def test_the_host_of(url: str, host: bytes) -> None:
    """A scheme's own port is left out of the Host header, and an IPv6 address stands in brackets."""
    assert Destination.of(url, None).headers.getRawHeaders(b"host") == [host]
