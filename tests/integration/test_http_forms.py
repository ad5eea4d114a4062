"""Forms that HTTP allows a request to have, by raw sockets against the real daemon."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from junebug_turn.applications.turn.signature import HEADER, sign
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Running
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
    port = side.daemon._ports[0].getHost().port

    def in_thread() -> tuple[int, Any]:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
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
