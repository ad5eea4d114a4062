"""Requests: their bodies, and the answers to exceptions; in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from junebug_turn.errors import HeadersTooLarge, IdempotencyKeyReused, InvalidBody, RateLimited
from junebug_turn.http.authentication import Authenticator, Credentials
from junebug_turn.http.mounts import Mount
from junebug_turn.http.rate_limit import LimitedResource, RateLimit
from junebug_turn.http.request import LARGE, MAX_SMALL_CHUNKS, SMALL_CHUNK, ApiRequest
from tests.support.http_harness import Client, make_site

MAX_BODY = 1000


class Length(Resource):
    """Answers with the body's length; raises the exception that it has."""

    isLeaf = True
    error: Exception | None = None

    def render(self, request: Any) -> Any:
        if self.error is not None:
            raise self.error
        body = json.dumps(len(request.content.read())).encode()
        request.setHeader("content-type", "application/json")
        request.setHeader("content-length", str(len(body)))
        return body


@pytest.fixture
def resource() -> Length:
    return Length()


@pytest.fixture
def client(resource: Length) -> Client:
    return Client(make_site({"/top": Mount(resource)}, Clock(), max_body_size=MAX_BODY))


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "?"],
)
def test_any_content_type(client: Client, content_type: str) -> None:
    """A body is taken under any Content-Type, also where Twisted would refuse it as a malformed form."""
    client.request("POST", "/top", b"{}", content_type=content_type)
    assert client.response().body == 2


@pytest.mark.parametrize("target", ["http://h/top", "HTTP://h:8080/top?q=/x", "https://u:p@[::1]/top"])
def test_absolute_form(client: Client, target: str) -> None:
    """The target of a request line can be a whole URL; its path counts."""
    client.request("POST", target, b"abc")
    assert client.response().body == 3


@pytest.mark.parametrize("target", ["http://h", "http://h?q=/top", "//h/top", "/http://h/top"])
def test_other_targets(client: Client, target: str) -> None:
    """A URL without a path, and a path that looks like one, is no path that there is."""
    client.request("POST", target, b"abc")
    assert (client.response().status, client.ended) == (404, False)


def test_target_of_options(client: Client) -> None:
    """``OPTIONS *`` is a request as RFC 9112 has it, about nothing that there is."""
    client.request("OPTIONS", "*")
    assert (client.response().status, client.ended) == (404, False)


def test_absolute_form_of_a_refused_request(client: Client) -> None:
    """What is refused while it arrives is told in the form of the mount, by the path in its URL."""
    site = make_site(
        {"/own": Mount(Length(), "own", lambda answer: (answer.status, {"own": answer.type}))}, Clock()
    )
    client = Client(site)
    client.send(b"POST http://h/own/messages HTTP/1.1\r\nno colon\r\n\r\n")
    assert client.response().body == {"own": "BadRequest"}


def authenticated() -> Client:
    mount = Mount(Length(), "top", authenticator=Authenticator(Credentials(("t0ken",), {})))
    return Client(make_site({"/top": mount}, Clock(), max_body_size=MAX_BODY))


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_credentials_before_the_body(length: str) -> None:
    """Credentials are checked when the headers are complete: nothing of a stranger's body is read, nor asked for."""
    client = authenticated()
    client.send(f"POST /top HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{length}\r\n\r\n".encode())
    assert client.refusal() == (401, "Unauthorized")
    client = authenticated()
    client.request("POST", "/top", b"abc", Authorization="Token t0ken")
    assert client.response().body == 3


@pytest.mark.parametrize("path", ["/top", "/top/messages", "/top/nothing"])
def test_credentials_for_all_paths(path: str) -> None:
    """All paths of a mount, known and unknown, are for known clients; without a body a refusal costs no connection."""
    client = authenticated()
    client.request("GET", path, Authorization="Token another")
    assert (client.response().status, client.ended) == (401, False)
    client.transport.clear()
    client.request("GET", path, Authorization="Token t0ken")
    assert client.response().status == 200


def test_strangers_take_nothing_of_the_rate() -> None:
    """Only authenticated requests count for the rate limit."""
    clock: Any = Clock()
    limited = LimitedResource(Length(), RateLimit(clock, 1))
    mount = Mount(limited, "top", authenticator=Authenticator(Credentials(("t0ken",), {})))
    client = Client(make_site({"/top": mount}, clock))
    statuses = []
    for token in ("another", "another", "t0ken", "t0ken"):
        client.request("POST", "/top", Authorization=f"Token {token}")
        statuses.append(client.response().status)
        client.transport.clear()
    assert statuses == [401, 401, 200, 429]


def test_wrong_credentials_are_logged() -> None:
    """A request without known credentials is a warning that names its client and no credential."""
    with capturedLogs() as events:
        authenticated().request("POST", "/top", b"abc", Authorization="Token guess")
    (event,) = [event for event in events if event["log_level"] is LogLevel.warn]
    assert formatEvent(event) == (
        "Refused a request to top from 192.0.2.1: the credentials in the Authorization header are not known"
    )
    assert not isinstance(event["log_source"], ApiRequest)


@pytest.mark.parametrize(("size", "status"), [(1, 400), (SMALL_CHUNK - 1, 400), (SMALL_CHUNK, 200)])
def test_small_chunks(size: int, status: int) -> None:
    """A body of very many chunks that are very small is refused while it arrives; other chunked bodies are taken."""
    chunks = MAX_SMALL_CHUNKS + 1
    clock = Clock()
    client = Client(make_site({"/top": Mount(Length())}, clock))
    client.send(b"POST /top HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"%x\r\n%s\r\n" % (size, b"x" * size) * chunks + b"0\r\n\r\n")
    clock.advance(0)
    assert client.response().status == status


def test_few_small_chunks() -> None:
    """A body in a few chunks is taken, however small they are; and so is one that comes byte by byte."""
    client = Client(make_site({"/top": Mount(Length())}, Clock()))
    client.send(b"POST /top HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"1\r\nx\r\n" * MAX_SMALL_CHUNKS + b"0\r\n\r\n")
    assert client.response().body == MAX_SMALL_CHUNKS
    client.transport.clear()
    client.send(b"POST /top HTTP/1.1\r\nHost: h\r\nContent-Length: 600\r\n\r\n")
    for _ in range(600):
        client.send(b"x")
    assert client.response().body == 600


def test_body_at_the_limit(client: Client) -> None:
    """A body of just the limit is taken."""
    client.request("POST", "/top", b"x" * MAX_BODY)
    assert client.response().body == MAX_BODY


@pytest.mark.parametrize("gone", [False, True])
def test_large_body_of_a_client_that_leaves(gone: bool) -> None:
    """A request with a large body is handled in a turn of its own, unless its client has gone until then."""
    clock, lengths = Clock(), []

    class Noting(Length):
        def render(self, request: Any) -> Any:
            lengths.append(len(request.content.getvalue()))
            return super().render(request)

    client = Client(make_site({"/top": Mount(Noting())}, clock))
    client.request("POST", "/top", b"x" * (LARGE - 1))
    assert lengths == [LARGE - 1]
    client.request("POST", "/top", b"x" * LARGE)
    assert lengths == [LARGE - 1]
    if gone:
        client.lose()
    clock.advance(0)
    assert lengths == [LARGE - 1] + [LARGE] * (not gone)


def test_announced_body_over_the_limit(client: Client) -> None:
    """A body that is announced as over the limit is refused before it is sent."""
    client.send(b"POST /top HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
    assert client.refusal() == (413, "BodyTooLarge")
    assert client.response().line == "HTTP/1.1 413 Request Entity Too Large"


def test_chunked_body_over_the_limit(client: Client) -> None:
    """A body that doesn't say its length is refused as soon as it passes the limit."""
    client.send(b"POST /top HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(2):
        client.send(b"%x\r\n%s\r\n" % (MAX_BODY // 2, b"x" * (MAX_BODY // 2)))
    assert client.received == b""
    client.send(b"1\r\nx\r\n")
    assert client.refusal() == (413, "BodyTooLarge")


def test_bug(client: Client, resource: Length) -> None:
    """A bug is logged once with its traceback, its answer has no details, and the server goes on."""
    resource.error = RuntimeError("secret detail")
    with capturedLogs() as events:
        client.request("POST", "/top")
    response = client.response()
    assert (response.status, response.body["description"]) == (500, "internal server error")
    assert "secret" not in client.received.decode()
    (event,) = [event for event in events if event["log_level"] is LogLevel.critical]
    assert event["log_failure"].value is resource.error
    assert "in render" in event["log_failure"].getTraceback()
    resource.error = None
    client.transport.clear()
    client.request("POST", "/top", b"abc")
    assert client.response().body == 3


def test_known_errors_are_not_logged(client: Client, resource: Length) -> None:
    """An exception of the table of errors is the client's affair: it is answered, and not logged."""
    resource.error = InvalidBody("u'to' is wrong")
    with capturedLogs() as events:
        client.request("POST", "/top")
    assert client.response().body["result"] == {
        "errors": [{"type": "invalid_body", "message": "u'to' is wrong"}]
    }
    assert not [event for event in events if event["log_level"] > LogLevel.info]


@pytest.mark.parametrize("error", [RateLimited("m"), IdempotencyKeyReused("m"), HeadersTooLarge("m")])
def test_phrase_of_the_status(client: Client, resource: Length, error: Exception) -> None:
    """The status line has the phrase that HTTP has for the status, which is the body's ``code`` too."""
    resource.error = error
    client.request("POST", "/top")
    response = client.response()
    assert response.line == f"HTTP/1.1 {response.status} {response.body['code']}"
    assert "Unknown" not in response.line


def test_answer_to_head(client: Client, resource: Length) -> None:
    """The answer to HEAD has the error's status and headers, and no body."""
    resource.error = InvalidBody("x")
    client.send(b"HEAD /top HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert client.received.endswith(b"\r\n\r\n")


def test_failure_after_render(client: Client, monkeypatch: pytest.MonkeyPatch, resource: Length) -> None:
    """An exception that a resource meets later has the same answer, written by the same method."""
    requests: list[Any] = []

    def later(request: Any) -> Any:
        requests.append(request)
        return NOT_DONE_YET

    monkeypatch.setattr(resource, "render", later)
    client.request("POST", "/top")
    assert client.received == b""
    try:
        raise InvalidBody("later")
    except InvalidBody:
        from twisted.python.failure import Failure

        requests[0].processingFailed(Failure())
    assert (client.response().status, client.ended) == (400, False)
