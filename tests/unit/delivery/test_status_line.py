"""Answers that can't be read after their status line, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.delivery.status_line import MAX_HEADERS
from junebug_turn.errors import DeliveryExhausted, DeliveryRefused
from tests.support.delivery_harness import Bench, benched
from tools.servers.receiver import Answer

reactor: Any = _reactor
ONCE = RetryPolicy(max_retries=0)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

UNREADABLE = {
    "a space before the colon": b"X-A : b\r\n\r\n",
    "no colon": b"X-A\r\n\r\n",
    "a control character": b"X-A\0: b\r\n\r\n",
    "no name": b": b\r\n\r\n",
    "Content-Length with a sign": b"Content-Length: +2\r\n\r\n{}",
    "Content-Length below 0": b"Content-Length: -2\r\n\r\n{}",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "Content-Length that is no number": b"Content-Length: two\r\n\r\n{}",
    "Transfer-Encoding: identity": b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "an unknown Transfer-Encoding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a header that is too long": b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "a bad chunk": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a bad end of a chunk": CHUNKED + b"2\r\n{}no\r\n0\r\n\r\n",
    "a chunk that is too long": CHUNKED + b"1" * 5000 + b"\r\n",
}


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as bench:
        yield bench


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.warn and "status line" in event.get("log_format", ""):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def answer(status: bytes, rest: bytes) -> Answer:
    return Answer(how="malformed", body=b"HTTP/1.1 " + status + b"\r\n" + rest)


@pytest.mark.parametrize("rest", UNREADABLE.values(), ids=UNREADABLE)
@pytest_twisted.ensureDeferred
async def test_taken(bench: Bench, warnings: list[str], rest: bytes) -> None:
    """Where a 2xx status line was read, the message counts as taken when what follows can't be read; its connection
    is not used again, and there is one warning for a destination."""
    bench.receiver.script(answer(b"200 OK", rest), answer(b"202 Accepted", rest))
    for _ in range(3):
        await bench.start()
    assert [request.connection for request in bench.receiver.requests] == [1, 2, 3]
    (line,) = warnings
    assert line.startswith(f"An answer of {bench.receiver.url('')} can't be read after its status line (")
    assert "docs/deliveries.md" in line


class _Endless(Protocol):
    """Server that answers with a status line and then headers without end, also when the client is gone half-way.

    :cvar status: the bytes before the headers
    """

    status: bytes
    line: bytes
    sent: int
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        if b"\r\n\r\n" in data:
            self.transport.write(self.status)
            self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        type(self).sent += len(self.line)
        self.transport.write(self.line)

    def stopProducing(self) -> None:
        pass


async def endless(bench: Bench, status: bytes, line: bytes, **options: Any) -> int:
    """Deliver to a server that never ends its headers; the bytes that it could send."""
    served = type("_Served", (_Endless,), {"status": status, "line": line, "sent": 0})
    port = reactor.listenTCP(0, Factory.forProtocol(served), interface="127.0.0.1")
    try:
        await bench.start(f"http://127.0.0.1:{port.getHost().port}/", policy=ONCE)
    finally:
        await port.stopListening()
    return int(served.sent)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line",
    [b"a: b\r\n" * 10_000, b"a: " + b"b" * 10_000 + b"\r\n", b" b\r\n" * 10_000, b"a" * 100_000],
    ids=["many", "large", "continued", "one"],
)
@pytest_twisted.ensureDeferred
async def test_headers_without_end(bench: Bench, line: bytes) -> None:
    """Headers of an answer are read up to 64 KiB, and 100 of them: then its status counts, and the connection is
    aborted, whatever the destination goes on to send."""
    # What the sockets' buffers take is sent, too.
    assert await endless(bench, b"HTTP/1.1 200 OK\r\na: b\r\n", line) < 20 * 1024 * 1024


@pytest_twisted.ensureDeferred
async def test_interim_answers_without_end(bench: Bench) -> None:
    """Interim answers share the bound: they are no answer."""
    for line in (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, b"HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n" * 1000):
        with pytest.raises(DeliveryExhausted, match="connection"):
            await endless(bench, b"", line)


@pytest_twisted.ensureDeferred
async def test_as_many_headers_as_may_be(bench: Bench) -> None:
    """An answer with 100 headers and nearly 64 KiB of them keeps its connection, also with a body behind it; one with
    a header more doesn't."""
    for count, connections in ((MAX_HEADERS - 3, 1), (MAX_HEADERS, 1)):
        headers = {f"x-{number}": "v" * 600 for number in range(count)}
        bench.receiver.script(Answer(200, headers, b"{}" * 20_000))
        await bench.start()
        assert bench.receiver.requests[-1].connection == connections
    await bench.start()
    assert bench.receiver.requests[-1].connection == 2


@pytest_twisted.ensureDeferred
async def test_other_statuses(bench: Bench) -> None:
    """Another status counts in the same way."""
    rest = UNREADABLE["no colon"]
    bench.receiver.script(answer(b"503 Service Unavailable", rest), answer(b"400 Bad Request", rest))
    with pytest.raises(DeliveryExhausted, match="HTTP status 503"):
        await bench.start(policy=ONCE)
    with pytest.raises(DeliveryRefused, match="HTTP status 400"):
        await bench.start()


@pytest.mark.parametrize("status_line", [b"HTTP/1.1 2xx OK", b"HTTP/1.1", b"no HTTP", b"HTTP/1 200 OK"])
@pytest_twisted.ensureDeferred
async def test_no_status_line(bench: Bench, status_line: bytes) -> None:
    """Without a status line it is no answer, and tried again."""
    bench.receiver.script(Answer(how="malformed", body=status_line + b"\r\nContent-Length: 0\r\n\r\n"))
    with pytest.raises(DeliveryExhausted, match="connection"):
        await bench.start(policy=ONCE)


@pytest.mark.parametrize("rest", [b"", b"X-A: b\r\n", b"Content-Length: 2\r\n\r\n{", CHUNKED + b"2\r\n{}"])
@pytest_twisted.ensureDeferred
async def test_cut(bench: Bench, warnings: list[str], rest: bytes) -> None:
    """An answer that is cut is no malformed one: it is tried again."""
    bench.receiver.script(answer(b"200 OK", rest))
    with pytest.raises(DeliveryExhausted, match="connection"):
        await bench.start(policy=ONCE)
    assert warnings == []


@pytest_twisted.ensureDeferred
async def test_after_a_continue(bench: Bench) -> None:
    """A 100 that can't be read is no answer; one that can is none either, and what follows it counts."""
    bench.receiver.script(answer(b"100 Continue", b"no colon\r\n\r\n"))
    with pytest.raises(DeliveryExhausted, match="connection"):
        await bench.start(policy=ONCE)
    bench.receiver.script(answer(b"100 Continue", b"\r\nHTTP/1.1 200 OK\r\nno colon\r\n\r\n"))
    await bench.start()
