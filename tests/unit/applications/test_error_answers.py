"""The errors of each face: whatever their source, they have the form of the face whose path was asked."""

from __future__ import annotations

import gc
import gzip
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.web.server import Request

from junebug_turn.applications.turn.signature import HEADER, sign
from junebug_turn.daemon.build import make_daemon
from junebug_turn.daemon.settings import load
from junebug_turn.http.authentication import Authenticator, Credentials
from junebug_turn.http.content_encoding import decode
from junebug_turn.http.json import read_json
from junebug_turn.http.mounts import Mount
from junebug_turn.http.rate_limit import LimitedResource, RateLimit
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router
from junebug_turn.http.server import ApiSite
from tests.support.http_harness import Client, Response, make_site

TOKEN, SECRET = "a-token", "hm4c"
WAITING = b'{"waits": true}'
LIMITS = {"max_body_size": 1000, "header_timeout": 20, "body_timeout": 60}
OPTIONS = {"http_bind": "127.0.0.1:8080", "api_auth": {"tokens": [TOKEN]}, "rate_limit": 0.01}
JUNEBUG = {
    "application": "junebug",
    "connector_name": "sms",
    "base_url_path": "/channels/sms",
    "mo_message_url": "http://rapidpro/inbound",
    "default_from_addr": "8110",
    **OPTIONS,
}
TURN = {
    "application": "turn",
    "connector_name": "ussd",
    "vumi_api_path": "/turn",
    "default_from_addr": "8110",
    "auth_token": "t0ken",
    "turn_hmac_secret": SECRET,
    **OPTIONS,
}
RAPIDPRO = {
    "application": "rapidpro",
    "connector_name": "flows",
    "base_url_path": "/rapidpro",
    "rapidpro_url": "http://rapidpro/c/ex/1",
    "default_from_addr": "8110",
    **OPTIONS,
}
KANNEL = {
    "application": "kannel",
    "connector_name": "sendsms",
    "base_url_path": "/kannel",
    "receive_url": "http://rapidpro/c/kn/1/receive",
    "default_from_addr": "8110",
    **OPTIONS,
}


@define
class Face:
    """An API on a server in memory.

    :ivar endpoint: the path of its requests for messages
    :ivar body: a request that the endpoint takes
    :ivar check: asserts that an error has the face's form; returns the error's type, empty where the form has none
    :ivar break_down: has the next request that is taken meet a bug
    :ivar statuses: where the face has another status for an error than the others
    """

    site: ApiSite
    clock: Clock
    path: str
    body: bytes
    check: Callable[[int, Any], str]
    break_down: Callable[[], None]
    statuses: dict[int, int]
    endpoint: str = "/messages"

    def ask(self, method: str, path: str, body: bytes = b"", token: str = TOKEN, **headers: str) -> Response:
        client = Client(self.site)
        signed = {HEADER.replace("-", "_"): sign(SECRET.encode(), body).decode()}
        client.request(method, self.path + path, body, Authorization=f"Token {token}", **signed, **headers)
        self.clock.advance(0)  # a compressed body waits for its turn
        return client.response()


class OwnApi:
    """An API of this test's own."""

    router = Router()
    broken = False

    @router.route("/messages", methods=["POST"])
    async def messages(self, request: Request) -> bytes:
        content: Any = request.content
        body = decode(request, content.read())
        read_json(body)
        if self.broken:
            raise RuntimeError("secret detail")
        if body == WAITING:
            await Deferred()
        return b"{}"


def own() -> Face:
    api, clock = OwnApi(), Clock()
    timer: Any = clock
    mount = Mount(
        LimitedResource(api.router.resource(), RateLimit(timer, 0.01)),
        "own",
        lambda error: (error.status, {"own": error.type, "text": error.message}),
        Authenticator(Credentials((TOKEN,), {})),
    )

    def check(status: int, value: Any) -> str:
        assert list(value) == ["own", "text"]
        return str(value["own"])

    site = make_site({"/own": mount}, clock, **LIMITS)
    return Face(site, clock, "/own", WAITING, check, lambda: setattr(api, "broken", True), {})


def _assembled(connector: str, path: str, body: Any, check: Any, statuses: dict[int, int]) -> Face:
    reactor = MemoryReactorClock()
    limits = {f"limits_{name}": str(value) for name, value in LIMITS.items()}
    flags = {"applications": json.dumps([JUNEBUG, TURN, RAPIDPRO, KANNEL]), **limits}
    daemon = make_daemon(reactor, load(flags, {}))
    (site,) = daemon.sites.values()

    async def fail(*args: Any) -> None:
        raise RuntimeError("secret detail")

    def break_down() -> None:
        daemon.stores[connector].store_outbound = fail  # type: ignore[method-assign]

    return Face(site, reactor, path, json.dumps(body).encode(), check, break_down, statuses)


def junebug() -> Face:
    def check(status: int, value: Any) -> str:
        assert list(value) == ["status", "code", "description", "result"]
        assert value["status"] == status
        (error,) = value["result"]["errors"]
        assert list(error) == ["type", "message"]
        return str(error["type"])

    return _assembled("sms", "/channels/sms", {"to": "+27123", "content": "c"}, check, {})


def turn() -> Face:
    def check(status: int, value: Any) -> str:
        assert list(value) == ["errors"]
        (error,) = value["errors"]
        assert list(error) == ["type", "message"]
        return str(error["type"])

    body = {"to": "+27123", "turn": {"type": "text", "text": {"body": "c"}}}
    return _assembled("ussd", "/turn", body, check, {429: 503})


def rapidpro() -> Face:
    def check(status: int, value: Any) -> str:
        assert list(value) == ["error"]
        assert list(value["error"]) == ["type", "message"]
        return str(value["error"]["type"])

    body = {"to": "+27123", "text": "c"}
    face = _assembled("flows", "/rapidpro", body, check, {408: 503, 429: 503})
    face.endpoint = "/send"
    return face


def kannel() -> Face:
    def check(status: int, value: Any) -> str:
        assert isinstance(value, str)
        return ""

    face = _assembled("sendsms", "/kannel", None, check, {401: 403, 408: 503, 429: 503})
    face.endpoint, face.body = "/send", b"to=%2B27123&text=c"
    return face


@pytest.fixture(
    params=[junebug, turn, rapidpro, kannel, own], ids=["junebug", "turn", "rapidpro", "kannel", "own"]
)
def face(request: pytest.FixtureRequest) -> Face:
    made: Face = request.param()
    return made


def unknown_path(face: Face) -> Response:
    return face.ask("POST", "/nothing")


def wrong_method(face: Face) -> Response:
    return face.ask("DELETE", face.endpoint)


def unauthorized(face: Face) -> Response:
    return face.ask("POST", face.endpoint, face.body, token="another")


def not_utf8(face: Face) -> Response:
    return face.ask("POST", "/%ff")


def body_not_json(face: Face) -> Response:
    return face.ask("POST", face.endpoint, b"{")


def body_not_gzip(face: Face) -> Response:
    return face.ask("POST", face.endpoint, b"{}", Content_Encoding="gzip")


def another_encoding(face: Face) -> Response:
    response = face.ask("POST", face.endpoint, b"{}", Content_Encoding="br")
    assert "'br'" in json.dumps(response.body)
    return response


def decompressed_body_too_large(face: Face) -> Response:
    return face.ask("POST", face.endpoint, gzip.compress(b" " * 1001), Content_Encoding="gzip")


def body_too_large(face: Face) -> Response:
    return face.ask("POST", face.endpoint, b"x" * 1001)


def headers_too_large(face: Face) -> Response:
    client = Client(face.site)
    client.send(f"POST {face.path} HTTP/1.1\r\nX: {'y' * 20_000}\r\n".encode())
    return client.response()


def not_http(face: Face) -> Response:
    client = Client(face.site)
    client.send(f"POST {face.path} HTTP/1.1\r\nno colon\r\n\r\n".encode())
    return client.response()


def too_slow(face: Face) -> Response:
    client = Client(face.site)
    client.send(f"{_head(face)}Content-Length: 9\r\n\r\n".encode())
    face.clock.pump([1] * 60)
    return client.response()


def no_host(face: Face) -> Response:
    client = Client(face.site)
    client.send(f"POST {face.path}{face.endpoint} HTTP/1.1\r\nContent-Length: 9\r\n\r\n".encode())
    return client.response()


def endless_length(face: Face) -> Response:
    client = Client(face.site)
    client.send(f"{_head(face)}Content-Length: {'9' * 5000}\r\n\r\n".encode())
    return client.response()


def small_chunks(face: Face) -> Response:
    client = Client(face.site)
    body = b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"
    client.send(f"{_head(face)}Transfer-Encoding: chunked\r\n\r\n".encode() + body)
    return client.response()


def _head(face: Face) -> str:
    return f"POST {face.path}{face.endpoint} HTTP/1.1\r\nHost: h\r\nAuthorization: Token {TOKEN}\r\n"


def too_often(face: Face) -> Response:
    face.ask("POST", face.endpoint, b"{")
    return face.ask("POST", face.endpoint, b"{")


def bug(face: Face) -> Response:
    face.break_down()
    return face.ask("POST", face.endpoint, face.body)


def waiting(face: Face) -> Client:
    client = Client(face.site)
    signature = sign(SECRET.encode(), face.body).decode()
    headers = {"Authorization": f"Token {TOKEN}", HEADER.replace("-", "_"): signature}
    client.request("POST", f"{face.path}{face.endpoint}", face.body, **headers)
    assert not client.received
    return client


def half_closed(face: Face) -> Response:
    client = waiting(face)
    client.channel.readConnectionLost()
    face.clock.advance(3)
    return client.response()


def shutting_down(face: Face) -> Response:
    face.site.drain()
    return face.ask("POST", face.endpoint, face.body)


SOURCES = [
    (unknown_path, 404, "NotFound"),
    (not_utf8, 404, "NotFound"),
    (wrong_method, 405, "MethodNotAllowed"),
    (unauthorized, 401, "Unauthorized"),
    (body_not_json, 400, "JsonDecodeError"),
    (body_not_gzip, 400, "BadRequest"),
    (another_encoding, 415, "UnsupportedEncoding"),
    (body_too_large, 413, "BodyTooLarge"),
    (decompressed_body_too_large, 413, "BodyTooLarge"),
    (headers_too_large, 431, "HeadersTooLarge"),
    (not_http, 400, "BadRequest"),
    (no_host, 400, "BadRequest"),
    (endless_length, 400, "BadRequest"),
    (small_chunks, 400, "BadRequest"),
    (too_slow, 408, "RequestTimeout"),
    (too_often, 429, "RateLimited"),
    (bug, 500, "InternalServerError"),
    (half_closed, 503, "NotAnsweredInTime"),
    (shutting_down, 503, "ShuttingDown"),
]


@pytest.mark.parametrize(("source", "status", "kind"), SOURCES)
def test_form(face: Face, source: Callable[[Face], Response], status: int, kind: str) -> None:
    """An error of any source has the form of the face that was asked, with the same type and headers in all faces."""
    response = source(face)
    assert response.status == face.statuses.get(status, status)
    assert face.check(response.status, response.body) in (kind, "")
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert ("accept-encoding" in response.headers) == (status == 415)
    assert ("allow" in response.headers) == (status == 405)
    assert "secret" not in json.dumps(response.body)


@pytest.mark.parametrize("source", [*(source for source, *_ in SOURCES), waiting])
def test_no_garbage(face: Face, source: Callable[[Face], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused request is gone with its connection, and so is one whose client leaves: it leaves no cycle, with its
    body, for the garbage collector."""
    clients: list[Client] = []
    requests: list[weakref.ref[ApiRequest]] = []
    make_client, make_request = Client.__init__, ApiRequest.__init__

    def client_made(client: Client, *args: Any) -> None:
        make_client(client, *args)
        clients.append(client)

    def request_made(request: ApiRequest, *args: Any) -> None:
        make_request(request, *args)
        requests.append(weakref.ref(request))

    monkeypatch.setattr(Client, "__init__", client_made)
    monkeypatch.setattr(ApiRequest, "__init__", request_made)
    # The log of a test run keeps what it is given.
    monkeypatch.setattr(ApiRequest, "log", Logger(observer=lambda event: None))
    gc.disable()
    try:
        source(face)
        assert requests
        while clients:
            clients.pop().lose()
        assert [request() for request in requests] == [None] * len(requests)
    finally:
        gc.enable()
