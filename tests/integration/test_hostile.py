"""What strangers send: slow, huge, many, malformed and forged requests against a daemon in its own process."""

from __future__ import annotations

import resource
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.applications.turn.signature import HEADER, sign
from junebug_turn.messages.vumi import Event, Message
from tests.conftest import pika_connection
from tests.support.attack import BODIES, MEGABYTE, attack
from tests.support.hostile import HMAC, JUNEBUG, TURN, Bodies, Client, HostileDaemon
from tests.unit.net.test_addresses import METADATA, OTHERS
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode

HEAD = b"POST /jb/messages HTTP/1.1\r\nHost: h\r\n"

Make = Callable[..., HostileDaemon]


@pytest.fixture(scope="module")
def make(rabbitmq: RabbitNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Starts daemons with the limits that a test wants; none of them may crash or log a traceback."""
    names: list[str] = []
    with ExitStack() as stack:

        def made(url: str | None = None, **limits: Any) -> HostileDaemon:
            name = f"hostile-{uuid.uuid4().hex[:12]}"
            names.append(name)
            url = url or f"http://127.0.0.1:{free_port()}/"
            folder = tmp_path_factory.mktemp("hostile")
            return stack.enter_context(HostileDaemon(rabbitmq, folder, name, url, **limits))

        yield made
    connection = pika_connection(rabbitmq)
    channel = connection.channel()
    for name in names:
        for connector in (name, f"{name}-turn"):
            for queue in ("inbound", "event", "outbound", "inbound.parked", "event.parked"):
                channel.queue_delete(f"{connector}.{queue}")
    connection.close()


@pytest.fixture(scope="module")
def daemon(make: Make) -> HostileDaemon:
    """A daemon with the default limits."""
    return make()


@pytest.fixture(scope="module")
def hasty(make: Make) -> HostileDaemon:
    """A daemon that has little time."""
    return make(header_timeout=1.5, body_timeout=1.5, idle_timeout=0.5)


def error_of(answer: tuple[int, Any]) -> tuple[int, str]:
    status, body = answer
    (error,) = body["result"]["errors"] if "result" in body else body["errors"]
    return status, error["type"]


# Slow, huge and many


def test_slow_headers(hasty: HostileDaemon) -> None:
    """Headers that trickle are cut off in time with a 408, and meanwhile others are served."""
    with hasty.client() as client:
        start = time.monotonic()
        client.send(b"POST /jb/messages HTTP/1.1\r\n")
        while time.monotonic() - start < 0.4:
            client.send(b"X: y\r\n")
            time.sleep(0.05)
        assert hasty.health()
        assert error_of(client.answer()) == (408, "RequestTimeout")
        assert 1.4 < time.monotonic() - start < 20


def test_slow_body(hasty: HostileDaemon) -> None:
    """A body that trickles is cut off in time with a 408."""
    with hasty.client() as client:
        start = time.monotonic()
        client.send(HEAD + b"Content-Length: 1000\r\n\r\n")
        while time.monotonic() - start < 0.4:
            client.send(b"x")
            time.sleep(0.05)
        assert error_of(client.answer()) == (408, "RequestTimeout")
        assert 1.4 < time.monotonic() - start < 20
        assert client.ended()


def test_silent_connections(hasty: HostileDaemon) -> None:
    """Connections that never ask anything are closed."""
    with attack(hasty), ExitStack() as stack:
        clients = [stack.enter_context(hasty.client()) for _ in range(50)]
        assert all(client.ended() for client in clients)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_a_gigabyte(daemon: HostileDaemon, chunked: bool) -> None:
    """A body of 1 GB is refused with 413 while it arrives, and the daemon's memory stays flat."""
    piece = b"x" * MEGABYTE
    with attack(daemon, memory=24 * MEGABYTE), daemon.client() as client:
        if chunked:
            client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            piece = b"%x\r\n%s\r\n" % (len(piece), piece)
        else:
            client.send(HEAD + b"Content-Length: %d\r\n\r\n" % 10**9)
        sent = 0
        try:
            for _ in range(1000):
                client.send(piece)
                sent += 1
        except OSError:
            pass  # cut after it had time to read the answer
        if sent == 1000:
            assert error_of(client.answer()) == (413, "BodyTooLarge")


def test_many_large_bodies(daemon: HostileDaemon) -> None:
    """Many bodies that are begun and never finished cost what was sent of them, and no more."""
    with attack(daemon, memory=24 * MEGABYTE), ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(daemon.client())
            client.send(HEAD + b"Content-Length: %d\r\n\r\n" % 250_000 + b"x" * 100_000)
        assert daemon.health()


def test_idle_connections(make: Make) -> None:
    """10,000 idle connections (or as many as the system allows) are held; the next one is refused at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(10_000, hard - 1000 if hard != resource.RLIM_INFINITY else 10_000)
    try:
        daemon = make(
            max_connections=most, max_connections_per_client=most, header_timeout=120, idle_timeout=120
        )
        # The last connections of the start are over.
        time.sleep(0.2)
        clients: list[Client] = []
        try:
            while len(clients) < most:
                clients.append(daemon.client())
                if len(clients) % 40 == 0:
                    # The system keeps only so many for the daemon to take, and makes others wait for seconds.
                    assert clients[-1].health()
            # The last one in is served, also over the first one, and one more is refused.
            assert clients[-1].health()
            assert clients[0].health()
            with daemon.client() as refused:
                assert error_of(refused.answer()) == (503, "TooManyConnections")
                assert refused.ended()
        finally:
            for client in clients:
                client.socket.close()
        _until(daemon.health)
        assert f"refused 1 connections: there are {most} already" in daemon.log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_of_one_client(make: Make) -> None:
    """One client's connections have a limit of their own, and one that ends makes room."""
    daemon = make(max_connections_per_client=10)
    time.sleep(0.2)
    clients = [daemon.client() for _ in range(10)]
    with daemon.client() as refused:
        assert error_of(refused.answer()) == (503, "TooManyConnections")
    clients.pop().socket.close()
    _until(daemon.health)
    for client in clients:
        client.socket.close()


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            if condition():
                return
        except (OSError, AssertionError):
            pass
        assert time.monotonic() < end
        time.sleep(0.1)


# Malformed


@pytest.mark.parametrize(
    "flood",
    [
        HEAD + b"X: y\r\n" * 100_000,
        HEAD + b"X: " + b"y" * 10_000_000,
        b"POST /" + b"y" * 10_000_000,
        HEAD + b"Cookie: " + b"a=b; " * 2000 + b"\r\n" + b"Cookie: c=d\r\n" * 2000,
        HEAD + b"X: y\r\n" + b" y\r\n" * 100_000,
    ],
    ids=["headers", "header", "path", "cookies", "continued"],
)
def test_header_floods(daemon: HostileDaemon, flood: bytes) -> None:
    """Too many or too large headers are refused with 431 while they arrive, and cost no memory."""
    with attack(daemon, memory=16 * MEGABYTE), daemon.client() as client:
        try:
            client.send(flood)
        except OSError:
            return  # cut after it had time to read the answer
        assert error_of(client.answer()) == (431, "HeadersTooLarge")


@pytest.mark.parametrize("path", [JUNEBUG, TURN])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 250_000,
        b"[" * 125_000 + b"]" * 125_000,
        b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
        b'{"to":"1","content":"c","channel_data":' + b'{"a":' * 65 + b"1" + b"}" * 66,
        b'"' + b"\\" * 250_000,
        b"1" * 250_000,
        b"-1e" + b"9" * 250_000,
    ],
    ids=["open", "arrays", "objects", "just-too-deep", "escapes", "digits", "exponent"],
)
def test_deep_and_long_json(daemon: HostileDaemon, path: str, body: bytes) -> None:
    """JSON that is too deep, or takes long to read, is a 400 at once."""
    start = time.monotonic()
    with attack(daemon), daemon.client() as client:
        assert error_of(client.post(path, body)) == (400, "JsonDecodeError")
    assert time.monotonic() - start < 20


def test_generated_bodies(daemon: HostileDaemon) -> None:
    """Whatever the body is, both APIs answer in JSON with a status that is no 5xx, and go on."""
    bodies = Bodies(seed=7)
    seen: dict[int, int] = {}
    with attack(daemon), daemon.client() as junebug, daemon.client() as turn:
        for _ in range(BODIES // 2):
            body = bodies.one()
            for path, client in ((JUNEBUG, junebug), (TURN, turn)):
                status, answer = client.post(path, body)
                assert status in (200, 201, 400), (body, answer)
                seen[status] = seen.get(status, 0) + 1
    assert daemon.health()
    assert set(seen) == {200, 201, 400}
    assert min(seen.values()) > BODIES // 100


# Forged


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [b""],
        [b"forged"],
        [b"\xff\xfe"],
        [sign(b"", b"{}")],
        [sign(b"another secret", b"{}")],
        [sign(HMAC.encode(), b"{} ")],
        [sign(HMAC.encode(), b"{}")[:-1]],
        [sign(HMAC.encode(), b"{}").lower()],
        [b"sha256=" + sign(HMAC.encode(), b"{}")],
        [b"forged", sign(HMAC.encode(), b"{}")],
        [sign(HMAC.encode(), b"{}"), b"forged"],
    ],
)
def test_forged_signatures(daemon: HostileDaemon, headers: list[bytes]) -> None:
    """A signature that isn't the body's, or isn't alone, is a 401."""
    name = HEADER.encode() + b": "
    with daemon.client() as client:
        answer = client.post(TURN, b"{}", *(name + header for header in headers), signed=False)
        assert error_of(answer) == (401, "Unauthorized")


def test_replayed_signatures(daemon: HostileDaemon) -> None:
    """A signature that was seen is of no use for another body, nor on the way to be one byte longer."""
    body = b'{"to": "+27123", "turn": {"text": {"body": "hello"}}}'
    header = HEADER.encode() + b": " + sign(HMAC.encode(), body)
    with daemon.client() as client:
        assert client.post(TURN, body, header, signed=False)[0] == 200
        for other in (body + b" ", body.replace(b"27123", b"27124"), body[:-1], b""):
            assert client.post(TURN, other, header, signed=False)[0] == 401


# Line ends

FORGED = "2026-01-01T00:00:00+0000 [forged] a line"
BREAKS = ["\r\n", "\n", "\r", "\x0b", "\x85", "\u2028", "\x1b[2K\x1b[1G"]


@pytest.mark.parametrize("end", BREAKS)
def test_line_ends_in_fields(daemon: HostileDaemon, end: str) -> None:
    """Line ends in the fields of requests, messages and events begin no line in the log and no header."""
    text = f"x{end}{FORGED}"
    with daemon.client() as client:
        for field in ("to", "from", "reply_to", "group", "content", "event_url", "event_auth_token", text):
            body = {"to": "+27123", "content": "c", field: text}
            status, _ = client.post(JUNEBUG, _json(body))
            assert status in (201, 400)
        for turn in ({"type": text}, {"type": "text", "text": {"body": text}}):
            for body in ({"to": text, "turn": turn}, {"to": "1", "turn": turn, "reply_to": text}):
                assert client.post(TURN, _json(body))[0] in (200, 400)
        path = f"/jb/{text}".encode().hex(" ").replace(" ", "%")
        client.send(b"GET /%" + path.encode() + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.answer()[0] == 404
    _assert_no_forged_line(daemon)


@pytest.mark.parametrize("end", BREAKS)
def test_line_ends_in_amqp(daemon: HostileDaemon, rabbitmq: RabbitNode, end: str) -> None:
    """Line ends in what comes from the broker begin no line in the log."""
    text = f"x{end}{FORGED}"
    message = Message(
        to_addr=text, from_addr=text, transport_name=text, transport_type="sms", message_id=text
    )
    event = Event(user_message_id=text, event_type="ack", event_id=text)
    connection = pika_connection(rabbitmq)
    channel: BlockingChannel = connection.channel()
    for name in (daemon.name, f"{daemon.name}-turn"):
        for kind, body in (("inbound", message.to_json()), ("event", event.to_json())):
            properties = pika.BasicProperties(headers={"x": text})
            channel.basic_publish("vumi", f"{name}.{kind}", body, properties)
    connection.close()
    _until(lambda: daemon.log.count("Delivery to") > 0)
    _assert_no_forged_line(daemon)


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


def _assert_no_forged_line(daemon: HostileDaemon) -> None:
    lines = daemon.log.splitlines()
    assert not [line for line in lines if line.startswith(FORGED[:30])]
    assert "\x1b" not in daemon.log


# Event URLs


@pytest.mark.parametrize(
    "url",
    [
        *(f"http://{host}/" for host in METADATA + OTHERS),
        "https://169.254.169.254/",
        "file:///etc/passwd",
        "ftp://example.org/",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "javascript:alert(1)",
        "data:text/plain,x",
        "unix:/run/socket",
        "http:",
        "http://",
        "http:///path",
        "//example.org/",
        "example.org",
        "/path",
        "http://example.org:99999/",
        "http://example.org:0/",
        "http://exa mple.org/",
        "http://[::1",
        "http://user:password@169.254.169.254/",
        "http://example.org\\@169.254.169.254/",
        "http://example.org/\r\nHost: evil",
    ],
)
def test_event_urls(daemon: HostileDaemon, url: str) -> None:
    """An event_url of another scheme, of a forbidden address in any form, or none at all is a 400 that names it."""
    with daemon.client() as client:
        answer = client.post(JUNEBUG, _json({"to": "+27123", "content": "c", "event_url": url}))
    assert error_of(answer) == (400, "invalid_body")
    assert "event_url" in answer[1]["result"]["errors"][0]["message"]


def test_half_a_request(daemon: HostileDaemon) -> None:
    """Clients that go away in the middle of anything leave nothing behind."""
    whole = HEAD + b'Content-Length: 26\r\n\r\n{"to":"1","content":"half"}'
    for length in range(0, len(whole), 3):
        with daemon.client() as client:
            client.send(whole[:length])
            if length % 2:
                client.socket.shutdown(socket.SHUT_RDWR)
    assert daemon.health()
