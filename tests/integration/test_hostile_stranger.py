"""What a stranger can cost: floods of requests that are refused.

Each has its bound: in memory, in the time of the processor, or in the seconds that others wait.  The small forms fail
where something is kept for each request; ``make hostile`` runs the sizes of real attacks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from junebug_turn.messages.vumi import Message
from tests.conftest import pika_connection
from tests.integration.test_hostile import HEAD, Make, daemon, error_of, make
from tests.support.attack import LARGE, MEGABYTE, attack
from tests.support.hostile import JUNEBUG, TURN, HostileDaemon
from tools.servers.rabbitmq import RabbitNode

__all__ = ["daemon", "make"]  # the fixtures

GET_METRICS = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"


def test_spellings_of_a_path(daemon: HostileDaemon) -> None:
    """Each spelling of a path costs nothing once it is answered."""
    with attack(daemon, memory=24 * MEGABYTE), daemon.client() as client:
        for number in range(3000 if LARGE else 200):
            path = "/turn" + "/" * (11_000 + number % 1000) + f"{'%2F' * (number // 1000)}messages"
            client.send(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            assert client.answer()[0] == 404


def test_names_of_headers(daemon: HostileDaemon) -> None:
    """Each name of a header costs nothing, either."""
    with attack(daemon, memory=24 * MEGABYTE):
        for number in range(10_000 if LARGE else 1000):
            with daemon.client() as client:
                client.send(HEAD + b"%d-%s: y\r\n" % (number, b"x" * 15_000))
                assert error_of(client.answer()) == (431, "HeadersTooLarge")


def test_pipelined_metrics(daemon: HostileDaemon) -> None:
    """Requests that come at once, and whose answers nobody reads, are answered as they are read: others are served."""
    connections, requests = (45, 1500) if LARGE else (20, 500)
    clients = [daemon.client() for _ in range(connections)]
    with attack(daemon):
        for client in clients:
            client.send(GET_METRICS * requests)
        time.sleep(10 if LARGE else 1)
    for client in clients:
        client.socket.close()


def test_pipelined_answers(daemon: HostileDaemon) -> None:
    """Who reads the answers gets all of them."""
    with daemon.client() as client:
        sender = threading.Thread(
            target=client.send, args=(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n" * 500,)
        )
        sender.start()
        assert [client.answer()[0] for _ in range(500)] == [200] * 500
        sender.join()


@pytest.mark.parametrize("digits", [19, 4000, 4301, 9000])
def test_lengths_of_many_digits(daemon: HostileDaemon, digits: int) -> None:
    """A length that nobody can send is refused, with however many digits it is written, and is no bug of ours."""
    with attack(daemon, memory=24 * MEGABYTE):
        for number in range(500 if LARGE else 20):
            with daemon.client() as client:
                client.send(HEAD + b"Content-Length: 9%s%03d\r\n\r\n" % (b"9" * (digits - 4), number))
                assert client.answer()[0] in (400, 413)
    assert "Unhandled" not in daemon.log
    assert "#critical" not in daemon.log


@pytest.mark.parametrize(
    "head",
    [
        b"GET xmetrics HTTP/1.1\r\nHost: h",
        b"GET *health HTTP/1.1\r\nHost: h",
        b"GET /%6detrics HTTP/1.1\r\nHost: h",
        b"GET /metrics/ HTTP/1.1\r\nHost: h",
        b"GET //metrics HTTP/1.1\r\nHost: h",
        b"GET /metrics HTTP/1.1",
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nHost: i",
        b"get /metrics HTTP/1.1\r\nHost: h",
        b"post /jb/messages HTTP/1.1\r\nHost: h",
        b"POST /jb/%6dessages HTTP/1.1\r\nHost: h",
    ],
)
def test_spellings_that_proxies_do_not_know(daemon: HostileDaemon, head: bytes) -> None:
    """What a proxy would not take for the path, the method or the host is not taken for it here."""
    with daemon.client() as client:
        client.send(head + b"\r\nContent-Length: 0\r\n\r\n")
        assert client.answer()[0] in (400, 404, 405)


def test_bodies_of_strangers(make: Make) -> None:
    """A stranger's body is not read: the credentials are asked for before it, whatever it would cost to read."""
    daemon = make(api_auth={"tokens": ["a-token-that-nobody-guesses"]})
    with attack(daemon, memory=24 * MEGABYTE):
        cpu = daemon.cpu
        for _ in range(200 if LARGE else 8):
            for body in (b"1\r\nx\r\n" * 40_000, b"3e800\r\n" + b"[]" * 128_000):
                with daemon.client() as client:
                    try:
                        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
                    except OSError:
                        continue  # cut after it had time to read the answer
                    assert error_of(client.answer()) == (401, "Unauthorized")
        assert daemon.cpu - cpu < (10 if LARGE else 1)


def test_small_chunks(daemon: HostileDaemon) -> None:
    """A body of chunks of one byte is refused before it costs more than another."""
    with attack(daemon, memory=24 * MEGABYTE):
        cpu = daemon.cpu
        for _ in range(100 if LARGE else 10):
            with daemon.client() as client:
                try:
                    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200_000)
                except OSError:
                    continue
                assert error_of(client.answer()) == (400, "BadRequest")
        assert daemon.cpu - cpu < (10 if LARGE else 1.5)


def test_refused_bodies(daemon: HostileDaemon) -> None:
    """A refused request is gone at once: the garbage collector, which comes late, isn't needed."""
    body = b'{"to": "' + b"x" * 250_000
    with attack(daemon, memory=24 * MEGABYTE), daemon.client() as client:
        for _ in range(1000 if LARGE else 200):
            assert error_of(client.post(JUNEBUG, body)) == (400, "JsonDecodeError")
            assert error_of(client.post(TURN, body, signed=False)) == (401, "Unauthorized")


def test_guesses(make: Make) -> None:
    """Guesses of tokens and signatures are seen: a warning a minute that names the client and, later, their number."""
    daemon = make(api_auth={"tokens": ["a-token-that-nobody-guesses"]})
    with attack(daemon, memory=24 * MEGABYTE), daemon.client() as client:
        for number in range(5000 if LARGE else 200):
            header = b"Authorization: Token guess-%d" % number
            client.send(b"GET /jb/messages/x HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n" % header)
            assert error_of(client.answer()) == (401, "Unauthorized")
            assert error_of(client.post(TURN, b"{}", signed=False)) == (401, "Unauthorized")
    warnings = [line for line in daemon.log.splitlines() if "#warn" in line and "Refused a request" in line]
    assert 2 <= len(warnings) <= 4 * (3 if LARGE else 1)
    assert all("from 127.0.0.1" in line for line in warnings)
    assert "guess-" not in daemon.log


class _Inbound(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.received += 1  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def _receiver() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Inbound)
    server.received = 0  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_more_connections_than_descriptors(make: Make, rabbitmq: RabbitNode) -> None:
    """Idle connections leave descriptors for the broker, the store and deliveries."""
    with _receiver() as receiver:
        daemon = make(descriptors=400, url=f"http://127.0.0.1:{receiver.server_address[1]}/")
        assert "limits.max_connections is 1000, but the system allows 400 open files" in daemon.log
        with attack(daemon), ExitStack() as stack:
            for _ in range(600):
                stack.enter_context(daemon.client())
            message = Message(to_addr="8110", from_addr="+27123", transport_name="t", transport_type="sms")
            connection = pika_connection(rabbitmq)
            channel = connection.channel()
            for _ in range(40):
                channel.basic_publish("vumi", f"{daemon.name}.inbound", message.to_json())
            connection.close()
            end = time.monotonic() + 30
            while receiver.received < 40:  # type: ignore[attr-defined]
                assert time.monotonic() < end, daemon.log[-3000:]
                time.sleep(0.05)
        assert "Could not accept" not in daemon.log
