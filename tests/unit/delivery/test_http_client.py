"""The HTTP client of deliveries, over real sockets: treq's, its connections, and what a receiver sees of it."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from treq.client import HTTPClient
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import trustRootFromCertificates
from twisted.internet.tcp import Client
from twisted.web.client import GzipDecoder

from junebug_turn import version
from junebug_turn.delivery.answer_body import MAX_ANSWER_BODY, MAX_EXCERPT
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import FORM, Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.delivery.signature import Webhook
from junebug_turn.errors import DeliveryExhausted, DeliveryFailed, DeliveryRefused
from junebug_turn.net.tls import ClientTls
from tests.support.certificates import self_signed
from tests.support.delivery_harness import BODY, SUBJECT, TIMEOUT, Bench, benched
from tools.servers.receiver import HANG_IN_BODY, Answer, Receiver

reactor: Any = _reactor


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as bench:
        yield bench


@pytest_twisted.ensureDeferred
async def test_treq_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt of a delivery is one call of treq's ``HTTPClient.request``, as treq has it."""
    calls: list[tuple[type, str, str]] = []
    request = HTTPClient.request

    def counted(self: HTTPClient, method: str, url: Any, **options: Any) -> Any:
        calls.append((type(self), method, url.to_text()))
        return request(self, method, url, **options)

    monkeypatch.setattr(HTTPClient, "request", counted)
    bench.receiver.script(503, 200)
    await bench.run(bench.start())
    assert calls == [(HTTPClient, "POST", bench.receiver.url("/path"))] * 2


class _Raw(Protocol):
    """Server that keeps the bytes of a request and answers 200."""

    factory: Any

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += data
        if self.factory.received.endswith(BODY):
            assert self.transport is not None
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest_twisted.ensureDeferred
async def test_the_bytes_of_a_request(bench: Bench) -> None:
    """The request on the wire has these headers and no others: no cookies, no offer of an encoding."""
    factory: Any = Factory.forProtocol(_Raw)
    factory.received = b""
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    address = f"127.0.0.1:{port.getHost().port}"
    url = f"http://{address}/a%20b/%C3%BC?q=1&r=%2B"
    await Deferred.fromCoroutine(
        bench.deliverer.deliver(
            Destination.of(url, "secret"),
            BODY,
            timeout=TIMEOUT,
            policy=RetryPolicy(),
            webhook=Webhook("abc", b"key"),
            **SUBJECT,
        )
    )
    await bench.deliverer.close()
    await port.stopListening()
    head, _, body = factory.received.partition(b"\r\n\r\n")
    assert body == BODY
    first, *headers = head.decode().split("\r\n")
    assert first == "POST /a%20b/%C3%BC?q=1&r=%2B HTTP/1.1"
    number = version()
    signed = Webhook("abc", b"key").headers(1_000_000, BODY)["webhook-signature"]
    assert headers == [
        f"Content-Length: {len(BODY)}",
        f"User-Agent: junebug-turn/{number}" if number else "User-Agent: junebug-turn",
        "Content-Type: application/json",
        f"Host: {address}",
        "Authorization: Token secret",
        "Webhook-Id: abc",
        "Webhook-Timestamp: 1000000",
        f"Webhook-Signature: {signed}",
    ]


@pytest_twisted.ensureDeferred
async def test_get_and_form(bench: Bench) -> None:
    """A GET has neither body nor content type; a form is POSTed as such.  Both are tried again like any delivery."""
    bench.receiver.script(503, 200, 503, 200)
    arguments: Any = {"timeout": TIMEOUT, "policy": RetryPolicy(), **SUBJECT}
    url = bench.receiver.url("/path?status=1")
    for content_type in (None, FORM):
        destination = Destination.of(url, None, content_type=content_type)
        await bench.run(Deferred.fromCoroutine(bench.deliverer.deliver(destination, b"a=b", **arguments)))
    seen = [
        (
            each.method,
            each.path,
            each.headers.get("content-type"),
            each.headers.get("content-length"),
            each.body,
        )
        for each in bench.receiver.requests
    ]
    assert seen == [
        *[("GET", "/path?status=1", None, None, b"")] * 2,
        *[("POST", "/path?status=1", FORM, "3", b"a=b")] * 2,
    ]


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
async def test_a_bomb_is_not_unpacked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a compressed answer the compressed bytes count, and treq's decoder never gets to them."""
    unpacked: list[Any] = []
    monkeypatch.setattr(GzipDecoder, "deliverBody", lambda self, protocol: unpacked.append(self))
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < MAX_ANSWER_BODY
    bench.receiver.script(Answer(200, {"Content-Encoding": "gzip"}, bomb), 200)
    await bench.start()
    await bench.start()
    assert unpacked == []
    assert [request.connection for request in bench.receiver.requests] == [1, 1]


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (Answer(400, body=b"why"), b"why"),
        (Answer(400, body=b""), b""),
        (Answer(400, body=bytes(range(256)) * 200), (bytes(range(256)) * 200)[:MAX_EXCERPT]),
        (Answer(400, body=b"x" * 5_000_000), b"x" * MAX_EXCERPT),
        (Answer(400, {"Content-Encoding": "gzip"}, gzip.compress(b"why")), b""),
        (Answer(400, {"Content-Encoding": "gzip"}, b"not gzip"), b""),
        (Answer(302, body=b"why"), None),
        (Answer(200, body=b"why"), None),
    ],
    ids=["short", "empty", "binary", "long", "gzip", "no gzip", "redirect", "taken"],
)
@pytest_twisted.ensureDeferred
async def test_the_body_of_a_refusal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, answer: Answer, read: bytes | None
) -> None:
    """The first 4 KiB of the body of a refusal are read where the application wants them; what is compressed is not
    unpacked, and no body changes the outcome."""
    seen: list[bytes] = []

    def reader(body: bytes) -> str:
        seen.append(body)
        return "words"

    bench.receiver.script(answer)
    delivery = bench.start(policy=RetryPolicy(max_retries=0), read_refusal=reader)
    if answer.status == 200:
        await delivery
    else:
        with pytest.raises(DeliveryFailed) as caught:
            await delivery
        assert caught.value.last_status == answer.status
        assert caught.value.last_error == ("words" if read is not None else "")
        assert ("(words)" in str(caught.value)) == (read is not None)
    assert seen == ([] if read is None else [read])


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
    policy = ClientTls(trustRootFromCertificates([certificate]))
    trusting = Deliverer(reactor, tls_policy=policy)
    for name, reason in ((url, None), (f"https://127.0.0.1:{receiver.port}/", "tls")):
        delivery = trusting.deliver(
            Destination.of(name, None), BODY, timeout=9, policy=RetryPolicy(max_retries=0), **SUBJECT
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
        trusting.deliver(
            Destination.of(url, None), BODY, timeout=0.5, policy=RetryPolicy(max_retries=0), **SUBJECT
        )
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


@pytest_twisted.ensureDeferred
async def test_the_host_header(bench: Bench) -> None:
    """The Host header names host and port of the destination, once."""
    await bench.start()
    (request,) = bench.receiver.requests
    assert request.headers["host"] == bench.receiver.url().removeprefix("http://").partition("/")[0]
