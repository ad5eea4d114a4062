"""The HTTP server: draining, the access log and the refusal of a client that sends; over real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from junebug_turn.http.mounts import Mount
from junebug_turn.http.request import LARGE
from tests.support.http_harness import make_site

reactor: Any = _reactor


class Held(Resource):
    """Answers at once, but at ``/hold`` waits to be let go."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.held: list[IRequest] = []
        self.answered: list[bytes] = []

    def render(self, request: IRequest) -> Any:
        self.answered.append(request.path)
        if request.postpath == [b"hold"]:
            self.held.append(request)
            return NOT_DONE_YET
        return b"{}"


class Server:
    def __init__(self) -> None:
        self.top = Held()
        mounts = {"/top": Mount(self.top), "/probe": Mount(self.top, while_stopping=True)}
        self.site = make_site(mounts, reactor, max_body_size=100_000)
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.number = self.port.getHost().port
        self.url = f"http://127.0.0.1:{self.number}"

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        response = await treq.request(method, self.url + path, persistent=False, **options)
        text = await response.text()
        headers = {
            name.decode().lower(): values[0].decode() for name, values in response.headers.getAllRawHeaders()
        }
        return response.code, json.loads(text) if text else None, headers

    def raw(self, *parts: bytes) -> Deferred[bytes]:
        """What the server sends until it closes, after a client has sent ``parts`` as far as it could."""
        return deferToThread(self._raw, parts)

    def _raw(self, parts: tuple[bytes, ...]) -> bytes:
        with socket.create_connection(("127.0.0.1", self.number), timeout=10) as client:
            answer = b""
            for part in parts:
                client.sendall(part)
            while chunk := client.recv(65536):
                answer += chunk
            return answer


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    await server.port.stopListening()


def assert_envelope(answer: tuple[int, Any, dict[str, str]], status: int, description: str) -> None:
    code, body, headers = answer
    assert (code, body["status"], body["description"]) == (status, status, description)
    assert headers["content-type"] == "application/json"
    (error,) = body["result"]["errors"]
    assert set(error) == {"type", "message"}


async def _until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await _pause()
    pytest.fail("it did not happen within 5 seconds")


def _pause() -> Awaitable[None]:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0.01, waiting.callback, None)
    return waiting


@pytest_twisted.ensureDeferred
async def test_drain(server: Server) -> None:
    """Draining waits for requests under way, and refuses new ones with 503 and Retry-After."""
    held = Deferred.fromCoroutine(server.request("POST", "/top/hold"))
    await _until(lambda: server.top.held)
    drained = server.site.drain()
    answer = await server.request("POST", "/top")
    assert_envelope(answer, 503, "shutting down")
    assert answer[2]["retry-after"] == "5"
    assert not drained.called
    request = server.top.held[0]
    assert (await server.request("GET", "/probe"))[0] == 200
    assert not drained.called
    request.write(b"{}")
    request.finish()
    assert (await held)[0] == 200
    await drained


@pytest_twisted.ensureDeferred
async def test_close_connections(server: Server) -> None:
    """Before the listener closes each answer ends its connection, so that the client's next request goes elsewhere;
    requests are still served."""
    server.site.close_connections()
    received = await server.raw(b"GET /top HTTP/1.1\r\nHost: h\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in received.title().replace(b"Close", b"close")


@pytest_twisted.ensureDeferred
async def test_drain_when_idle(server: Server) -> None:
    """Draining an idle server is over at once, also when clients went away before."""
    with socket.create_connection(("127.0.0.1", server.number)) as client:
        client.sendall(b"POST /top/hold HTTP/1.1\r\nHost: h\r\n\r\n")
        await _until(lambda: server.top.held)
    finished = []
    server.top.held[0].notifyFinish().addErrback(finished.append)
    await _until(lambda: finished)
    await server.site.drain()


@pytest_twisted.ensureDeferred
async def test_access_log(server: Server) -> None:
    """An answered request is logged at debug, by method, path and status, without its query."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        await server.request("POST", "/top/messages?token=s3cret", data=b"abc")
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = [event for event in events if "status" in event]
    assert event["log_level"] is LogLevel.debug
    assert formatEvent(event).endswith(" POST /top/messages: 200")


@pytest_twisted.ensureDeferred
async def test_client_that_sends_on_reads_its_refusal(server: Server) -> None:
    """A client that sends its large body without waiting can still read the 413."""
    head = b"POST /top HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n"
    answer = await server.raw(head, b"x" * 3_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("compressed", [False, True])
@pytest_twisted.ensureDeferred
async def test_one_large_request_in_a_turn(server: Server, compressed: bool) -> None:
    """Of large requests that came at once, and of compressed ones, which may be large, one is handled in a turn of the
    reactor: others have their turns meanwhile."""
    body = b"x" * (100 if compressed else LARGE)
    head = b"POST /top HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % len(body)
    head += b"Content-Encoding: gzip\r\n\r\n" if compressed else b"\r\n"
    in_turns: list[int] = []

    def turn() -> None:
        in_turns.append(len(server.top.answered))
        if in_turns[-1] < 40:
            reactor.callLater(0, turn)

    turn()
    answers = [server.raw(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + body) for _ in range(40)]
    assert [answer[:12] for answer in await gatherResults(answers)] == [b"HTTP/1.1 200"] * 40
    await _until(lambda: in_turns[-1] == 40)
    assert max(after - before for before, after in pairwise(in_turns)) == 1


def test_no_http2() -> None:
    """Over TLS only HTTP/1.1 can be negotiated."""
    assert make_site({}, Clock()).acceptableProtocols() == [b"http/1.1"]
