"""The HTTP server: routing, errors, limits, draining; over real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from junebug_turn.http.admin.health import Health
from junebug_turn.http.options import LimitOptions
from junebug_turn.http.server import ApiSite, Mount, Root

reactor: Any = _reactor

MAX_BODY = 100_000


class Echo(Resource):
    """Answers with where it was found and the body's length; ``/bug`` raises, ``/hold`` waits to be let go."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.held: list[IRequest] = []

    def render(self, request: IRequest) -> Any:
        if request.postpath == [b"bug"]:
            raise RuntimeError("secret detail")
        if request.postpath == [b"hold"]:
            self.held.append(request)
            return NOT_DONE_YET
        rest = b"/".join(request.postpath).decode()
        return json.dumps([self.name, rest, len(request.content.read())]).encode()


class Server:
    def __init__(self) -> None:
        self.demo, self.top = Echo("demo"), Echo("top")
        self.components = {"amqp": {"ok": True, "connected": True}}
        resources = {
            "/channels/demo": self.demo,
            "/health": Health(lambda: self.components),
            "/top": self.top,
        }
        mounts = {path: Mount(resource) for path, resource in resources.items()}
        self.site = ApiSite(Root(mounts), reactor, limits=LimitOptions(max_body_size=MAX_BODY))
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


@pytest_twisted.ensureDeferred
async def test_longest_prefix(server: Server) -> None:
    """A request goes to what is mounted at the longest prefix of its path."""
    assert (await server.request("POST", "/channels/demo/messages", data=b"abc"))[1] == [
        "demo",
        "messages",
        3,
    ]
    assert (await server.request("POST", "/channels/demo/messages/"))[1] == ["demo", "messages/", 0]
    assert (await server.request("POST", "/top"))[1] == ["top", "", 0]


@pytest.mark.parametrize(
    ("path", "description"),
    [
        ("/", "not found"),
        ("/nothing", "not found"),
        ("/channels", "not found"),
        ("/channels/other/messages", "channel not found"),
        ("/channels/demo2/messages", "channel not found"),
        ("/%ff%fe", "not found"),
        ("/channels/%ff/messages", "not found"),
        ("/health/more", "not found"),
        ("//channels/demo/messages", "not found"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_unknown_paths(server: Server, path: str, description: str) -> None:
    """A channel that isn't configured and any other unknown path is a 404 in the envelope, never HTML."""
    assert_envelope(await server.request("POST", path), 404, description)


@pytest_twisted.ensureDeferred
async def test_a_bug_is_a_500_that_tells_nothing(server: Server) -> None:
    """An exception that nobody foresaw is answered by the envelope, without detail, and the server goes on."""
    answer = await server.request("POST", "/top/bug")
    assert_envelope(answer, 500, "internal server error")
    assert "secret" not in json.dumps(answer[1])
    assert (await server.request("POST", "/top"))[0] == 200


@pytest_twisted.ensureDeferred
async def test_any_content_type(server: Server) -> None:
    """A body is taken under any Content-Type, also where Twisted would refuse it as a malformed form."""
    for content_type in (
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "?",
    ):
        answer = await server.request("POST", "/top/x", data=b"{}", headers={"Content-Type": content_type})
        assert answer[1] == ["top", "x", 2]


@pytest_twisted.ensureDeferred
async def test_health(server: Server) -> None:
    """/health is one body that both old forms can read: 200 when all is well, 500 when something is not."""
    status, body, _ = await server.request("GET", "/health")
    assert status == 200
    assert body == {
        "health": "ok",
        "components": {"amqp": {"ok": True, "connected": True}},
        "status": 200,
        "code": "OK",
        "description": "health ok",
        "result": {"amqp": {"ok": True, "connected": True}},
    }
    server.components["amqp"]["ok"] = False
    status, body, _ = await server.request("GET", "/health")
    assert (status, body["status"], body["health"], body["description"]) == (500, 500, "down", "health down")
    assert (await server.request("HEAD", "/health"))[0] == 500


@pytest_twisted.ensureDeferred
async def test_health_takes_get_only(server: Server) -> None:
    """A wrong method is a 405 in the envelope that says which are right."""
    answer = await server.request("POST", "/health")
    assert_envelope(answer, 405, "method not allowed")
    assert answer[2]["allow"] == "GET, HEAD"


@pytest_twisted.ensureDeferred
async def test_body_at_the_limit(server: Server) -> None:
    """A body of just the limit is taken."""
    assert (await server.request("POST", "/top", data=b"x" * MAX_BODY))[1] == ["top", "", MAX_BODY]


@pytest_twisted.ensureDeferred
async def test_announced_body_over_the_limit(server: Server) -> None:
    """A body that is announced as over the limit is refused before it is sent."""
    head = b"POST /top HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (10**9)
    answer = await server.raw(head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["result"]["errors"][0]["type"] == "BodyTooLarge"


@pytest_twisted.ensureDeferred
async def test_client_that_sends_on_reads_its_refusal(server: Server) -> None:
    """A client that sends its large body without waiting can still read the 413."""
    head = b"POST /top HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n"
    answer = await server.raw(head, b"x" * 3_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest_twisted.ensureDeferred
async def test_chunked_body_over_the_limit(server: Server) -> None:
    """A body that doesn't say its length is refused as soon as it passes the limit."""
    head = b"POST /top HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000)
    answer = await server.raw(head, chunk, chunk, b"1\r\nx\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


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
    request.write(b"{}")
    request.finish()
    assert (await held)[0] == 200
    await drained


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
    """An answered request is told of at debug, by method, path and status, without its query."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        await server.request("POST", "/channels/demo/messages?token=s3cret", data=b"abc")
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = [event for event in events if "status" in event]
    assert event["log_level"] is LogLevel.debug
    assert formatEvent(event).endswith(" POST /channels/demo/messages: 200")
