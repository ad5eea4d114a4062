"""Forms that HTTP allows a request to have, by raw sockets against the real daemon."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from junebug_turn.applications.turn.signature import HEADER, sign
from junebug_turn.http.listening import ListenAddress, server_endpoint
from junebug_turn.http.mounts import Mount
from tests.conftest import pika_connection
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Running, reactor, until
from tests.support.http_harness import make_site
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

BODY = json.dumps({"to": "+27123", "content": "héllo"}).encode()
PATH = "/channels/demo"


@pytest_twisted.async_yield_fixture
async def junebug(run_daemon: RunDaemon, receiver: Receiver) -> AsyncIterator[Running]:
    async with run_daemon(
        "junebug", base_url_path=PATH, mo_message_url=receiver.url("/inbound"), default_from_addr="8110"
    ) as side:
        yield side


def exchange(side: Running, data: bytes, *, half_close: bool = False) -> Deferred[tuple[int, Any]]:
    """Send ``data`` on a connection of its own; the status and the JSON of the answer, after the daemon's close."""

    def in_thread() -> tuple[int, Any]:
        with socket.create_connection(("127.0.0.1", side.port), timeout=20) as client:
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), json.loads(body)

    return deferToThread(in_thread)


def request(target: str, body: bytes = BODY, *headers: str) -> bytes:
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: h",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest_twisted.ensureDeferred
async def test_absolute_form(junebug: Running) -> None:
    """The request line can have the absolute form, as RFC 9112 section 3.2.2 has servers take it."""
    status, _ = await exchange(junebug, request(f"http://example.org:8080{PATH}/messages?q"))
    assert status == 201
    assert (await junebug.outbound())["content"] == "héllo"


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest_twisted.ensureDeferred
async def test_encoded(junebug: Running, encoding: str, encode: Any) -> None:
    """A request's body can be compressed with gzip or deflate; a repeat is one however it was compressed."""
    headers = (f"Content-Encoding: {encoding}", "Idempotency-Key: k")
    first = await exchange(junebug, request(f"{PATH}/messages", encode(BODY), *headers))
    assert first[0] == 201
    assert await exchange(junebug, request(f"{PATH}/messages", BODY, headers[1])) == first
    assert (await junebug.outbound())["content"] == "héllo"


@pytest_twisted.ensureDeferred
async def test_other_encodings(junebug: Running) -> None:
    """Another encoding is refused with an error that names it."""
    status, answer = await exchange(junebug, request(f"{PATH}/messages", BODY, "Content-Encoding: br"))
    (error,) = answer["result"]["errors"]
    assert (status, error["type"]) == (415, "UnsupportedEncoding")
    assert "'br'" in error["message"]


@pytest_twisted.ensureDeferred
async def test_encoded_webhook(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """The signature of a compressed webhook is that of the bytes that came."""
    options = {
        "turn_api_url": receiver.url(""),
        "auth_token": "t0ken",
        "turn_hmac_secret": "hm4c",
        "default_from_addr": "8110",
    }
    async with run_daemon("turn", **options) as side:
        webhook = json.dumps({"to": "+27123", "turn": {"text": {"body": "c"}}}).encode()
        body = gzip.compress(webhook)
        for signed, status in ((webhook, 401), (body, 200)):
            headers = ("Content-Encoding: gzip", f"{HEADER}: {sign(b'hm4c', signed).decode()}")
            assert (await exchange(side, request("/messages", body, *headers)))[0] == status
        assert (await side.outbound())["content"] == "c"


@pytest.mark.parametrize("middlewares", [False, True])
@pytest_twisted.ensureDeferred
async def test_half_closed(
    run_daemon: RunDaemon, receiver: Receiver, connector_name: str, middlewares: bool
) -> None:
    """A client that half-closes after its request gets its answer, and its message is logged and counted as sent."""
    options: dict[str, Any] = {"mo_message_url": receiver.url("/inbound"), "default_from_addr": "8110"}
    if middlewares:
        entry = {"enable_for_connectors": [connector_name], "outbound_enabled": True}
        options["middlewares"] = [{"class_path": "vumi2.middlewares.unidecoder.Unidecoder", **entry}]
    async with run_daemon("junebug", **options) as side:
        with capturedLogs() as events:
            for number in range(1, 6):
                status, answer = await exchange(side, request("/messages"), half_close=True)
                assert status == 201
                assert (await side.outbound())["message_id"] == answer["result"]["message_id"]
                assert published(side) == {"confirmed": number, "failed": 0}
        lines = [formatEvent(event) for event in events]
        assert len([line for line in lines if line.startswith("Published outbound")]) == 5
        assert not [line for line in lines if "Did not" in line or "Cancelled" in line]


class Slow(Resource):
    """Answers after a tenth of a second."""

    isLeaf = True

    def render(self, request: Any) -> int:
        reactor.callLater(0.1, lambda: (request.write(b"{}"), request.finish()))
        return NOT_DONE_YET


@pytest_twisted.ensureDeferred
async def test_half_closed_socket_file(tmp_path: Path) -> None:
    """So does a client of a socket file."""
    site = make_site({"/slow": Mount(Slow())}, reactor)
    endpoint, _ = server_endpoint(reactor, ListenAddress.of(f"unix:{tmp_path}/socket"))
    port = await endpoint.listen(site)

    def in_thread() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(f"{tmp_path}/socket")
            client.sendall(request("/slow"))
            client.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
            return received

    assert (await deferToThread(in_thread)).endswith(b"{}\r\n0\r\n\r\n")
    await port.stopListening()
    site.stopFactory()


@pytest_twisted.ensureDeferred
async def test_half_closed_when_refused(junebug: Running) -> None:
    """A client that half-closes within its request is refused with 400, and one that was refused before is left."""
    status, answer = await exchange(junebug, request(f"{PATH}/messages")[:-1], half_close=True)
    assert (status, answer["result"]["errors"][0]["message"]) == (400, "the request is incomplete")
    status, _ = await exchange(junebug, request(f"{PATH}/messages", bytes(2_000_000)), half_close=True)
    assert status == 413
    (site,) = junebug.daemon.sites.values()
    await until(lambda: site.connections.open == 0, "the end of the connections")


@pytest_twisted.ensureDeferred
async def test_closed_while_the_broker_is_away(junebug: Running, rabbitmq: RabbitNode) -> None:
    """When a client closes its connection, or half of it, while its message waits for the broker, the message is
    withdrawn after some seconds; who still listens is told so with a 503."""
    broker = junebug.daemon.broker
    await deferToThread(rabbitmq.stop_app)
    try:
        await until(lambda: not junebug.live(), "the outage")
        listening = exchange(junebug, request(f"{PATH}/messages"), half_close=True)
        with socket.create_connection(("127.0.0.1", junebug.port)) as client:
            client.sendall(request(f"{PATH}/messages"))
        await until(lambda: broker.unconfirmed()[0] == 2, "both messages")
        await until(lambda: broker.unconfirmed() == (0, 0), "the withdrawal")
        assert (await listening)[0] == 503
    finally:
        await deferToThread(rabbitmq.start_app)
    await until(junebug.live, "the end of the outage")
    assert (await junebug.post(BODY)).status == 201
    connection = pika_connection(rabbitmq)
    queue = connection.channel().queue_declare(f"{junebug.connector}.outbound", passive=True)
    assert queue.method.message_count == 1
    connection.close()


@pytest_twisted.ensureDeferred
async def test_gone_before_the_confirm(junebug: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message whose client resets the connection before the broker's confirm is logged and counted as sent."""
    # private: the broker answers at once: only the publisher can hold its confirm back.
    publisher: Any = junebug.daemon.broker._publisher
    held: list[Any] = []
    (site,) = junebug.daemon.sites.values()
    with capturedLogs() as events:
        with monkeypatch.context() as patch:
            patch.setattr(publisher, "confirmed", lambda *confirm: held.append(confirm))
            client = socket.create_connection(("127.0.0.1", junebug.port))
            client.sendall(request(f"{PATH}/messages"))
            await until(lambda: held, "the broker's confirm")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await until(lambda: site.under_way == 0, "the end of the request")
            assert published(junebug) == {"confirmed": 0, "failed": 0}
        publisher.confirmed(*held[0])
    assert published(junebug) == {"confirmed": 1, "failed": 0}
    lines = [formatEvent(event) for event in events]
    assert len([line for line in lines if line.startswith("Published outbound")]) == 1
    assert not [line for line in lines if "Did not publish" in line]


@pytest_twisted.ensureDeferred
async def test_proxied(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """With ``haproxy:`` in ``http_bind`` a request behind a PROXY header is served, also where the proxy names no
    client."""
    options = {"mo_message_url": receiver.url("/inbound"), "default_from_addr": "8110"}
    async with run_daemon("junebug", http_bind="haproxy:tcp:0:interface=127.0.0.1", **options) as side:
        for header in (b"PROXY UNKNOWN\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.9 1234 80\r\n"):
            status, _ = await exchange(side, header + request("/messages"))
            assert status == 201


def published(side: Running) -> dict[str, float]:
    """How many outbound messages were confirmed, and failed, by the metrics."""
    (site,) = side.daemon.sites.values()
    # private: read at once, which a request of /metrics would not do.
    registry = site._metrics.registry
    labels = {"application": "junebug", "connector": side.connector}
    name = "junebug_turn_published_messages_total"
    return {
        result: registry.get_sample_value(name, {**labels, "result": result}) or 0
        for result in ("confirmed", "failed")
    }
