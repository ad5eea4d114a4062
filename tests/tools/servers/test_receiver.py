"""The scriptable receiver, seen by plain sockets."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.certificates import self_signed
from tools.servers.receiver import CLOSE, CUT, HANG, HANG_IN_BODY, MALFORMED, RESET, TRICKLE, Answer, Receiver

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
    [(CLOSE, b""), (CUT, b"0123456789"), (MALFORMED, b"no HTTP"), (RESET, ConnectionResetError)],
    ids=["close", "cut", "malformed", "reset"],
)
@pytest_twisted.ensureDeferred
async def test_ends(receiver: Receiver, answer: Answer, sees: Any) -> None:
    """close, cut, malformed and reset end the connection: without an answer, within its body, after text that is no
    HTTP, by a TCP reset."""
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
async def test_a_script_for_a_path(receiver: Receiver) -> None:
    """A path's own script goes before that for all requests, and then the default answers."""
    receiver.script(500)
    receiver.script(503, 503, path="/p?q=1")
    other = REQUEST.replace(b"/p?q=1", b"/other")
    receiver.default = Answer(404)
    read = await talk(receiver, REQUEST, other, REQUEST, REQUEST, until=b" 404 ")
    assert re.findall(rb"HTTP/1.1 (\d+) ", read) == [b"503", b"500", b"503", b"404"]


@pytest_twisted.ensureDeferred
async def test_a_held_request(receiver: Receiver) -> None:
    """hold answers nothing before the release, and then as it stands."""
    receiver.script(Answer(202, how="hold"))
    talking = talk(receiver, REQUEST, until=b"{}")
    await receiver.received(1)
    await deferLater(reactor, 0.1)
    assert not talking.called
    receiver.release()
    assert b"HTTP/1.1 202 " in await talking


@pytest.mark.parametrize("answer", [HANG, TRICKLE, HANG_IN_BODY], ids=["hang", "trickle", "hang in body"])
@pytest_twisted.ensureDeferred
async def test_the_release_of_others(receiver: Receiver, answer: Answer) -> None:
    """A release resets the connections that hang or trickle; later ones hang again."""
    receiver.default = answer
    talking = talk(receiver, REQUEST)
    await receiver.received(1)
    receiver.release()
    with pytest.raises(ConnectionResetError):
        await talking
    talking = talk(receiver, REQUEST)
    await receiver.received(2)
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
