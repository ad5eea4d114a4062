"""The receiver that stands in for destinations: what it does is seen here by plain sockets."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.support.receiver import (
    CLOSE,
    CUT,
    HANG,
    HANG_IN_BODY,
    RESET,
    TRICKLE,
    Answer,
    Receiver,
    self_signed,
)

REQUEST = b"POST /p?q=1 HTTP/1.1\r\nHost: h\r\nX-A: b\r\nContent-Length: 2\r\n\r\n[]"


def talk(receiver: Receiver, *requests: bytes, tls: ssl.SSLContext | None = None, until: bytes = b"") -> Any:
    """What a client reads that sends ``requests``: up to ``until``, or to the end of the connection."""

    async def client() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port, ssl=tls)
        writer.write(b"".join(requests))
        try:
            return await asyncio.wait_for(reader.readuntil(until) if until else reader.read(), 5)
        finally:
            writer.close()

    return deferToThread(asyncio.run, client())


@pytest_twisted.ensureDeferred
async def test_answers_and_records(receiver: Receiver) -> None:
    """A request is answered as scripted, and recorded with what came and the connection's number."""
    receiver.script(503, Answer(200, {"X-Y": "z"}, b"last"))
    read = await talk(receiver, REQUEST, REQUEST, until=b"last")
    assert b"HTTP/1.1 503 " in read
    assert b"X-Y: z\r\n" in read
    assert [request.connection for request in receiver.requests] == [1, 1]
    first = receiver.requests[0]
    assert (first.method, first.path, first.headers["x-a"], first.json) == ("POST", "/p?q=1", "b", [])
    await talk(receiver, REQUEST, until=b"{}")
    assert receiver.requests[2].connection == 2


@pytest.mark.parametrize(
    ("answer", "sees"),
    [(CLOSE, b""), (CUT, b"0123456789"), (RESET, ConnectionResetError)],
    ids=["close", "cut", "reset"],
)
@pytest_twisted.ensureDeferred
async def test_ends(receiver: Receiver, answer: Answer, sees: Any) -> None:
    """close, cut and reset end the connection: without an answer, within its body, by a TCP reset."""
    receiver.script(answer)
    if sees is ConnectionResetError:
        with pytest.raises(ConnectionResetError):
            await talk(receiver, REQUEST)
    else:
        assert (await talk(receiver, REQUEST)).rpartition(b"\r\n")[2] == sees


@pytest.mark.parametrize(
    ("answer", "until"),
    [(HANG_IN_BODY, b"\r\n\r\n{}"), (TRICKLE, b"{}          ")],
    ids=["hang in body", "trickle"],
)
@pytest_twisted.ensureDeferred
async def test_never_ends(receiver: Receiver, answer: Answer, until: bytes) -> None:
    """hang_in_body and trickle begin an answer, and notice that the client goes."""
    receiver.script(answer)
    assert (await talk(receiver, REQUEST, until=until)).startswith(b"HTTP/1.1 200 OK\r\n")
    await receiver.all_closed()


@pytest_twisted.ensureDeferred
async def test_hang_and_stop(receiver: Receiver) -> None:
    """hang answers nothing; stop closes what is open."""
    receiver.script(HANG)
    talking = talk(receiver, REQUEST)
    await receiver.received(1)
    assert len(receiver.open) == 1
    await receiver.stop()
    with pytest.raises(ConnectionResetError):
        await talking


@pytest_twisted.ensureDeferred
async def test_tls() -> None:
    """With a certificate made for its address it speaks TLS, and who trusts that certificate can verify it."""
    certificate = self_signed("127.0.0.1")
    receiver = Receiver(reactor, tls=certificate.options())
    receiver.start()
    try:
        trusting = ssl.create_default_context(cadata=certificate.dumpPEM().decode("ascii"))
        assert receiver.url().startswith("https://127.0.0.1:")
        assert b" 200 OK" in await talk(receiver, REQUEST, tls=trusting, until=b"{}")
        with pytest.raises(ssl.SSLCertVerificationError):
            await talk(receiver, REQUEST, tls=ssl.create_default_context())
    finally:
        await receiver.stop()
