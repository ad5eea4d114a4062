"""The PROXY protocol: headers of both versions, and servers behind a proxy, by raw sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource

from junebug_turn.http.listening import ListenAddress, server_endpoint
from junebug_turn.http.mounts import Mount
from junebug_turn.http.proxy_protocol import read_header
from junebug_turn.http.server import ApiSite
from tests.support.http_harness import make_site

reactor: Any = _reactor
REQUEST = b"GET /top HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, addresses: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses)) + addresses


def v2_for(source: str) -> bytes:
    packed = ip_address(source).packed
    ports_and_tlv = struct.pack("!HH", 1234, 80) + b"\x04\x00\x01\x00"
    return v2(0x21, 0x11 if len(packed) == 4 else 0x21, packed * 2 + ports_and_tlv)


HEADERS = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 1234 80\r\n", "192.0.2.1"),
    (b"PROXY TCP6 2001:db8::1 2001:db8::9 1234 80\r\n", "2001:db8::1"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN 2001:db8::1 2001:db8::9 1234 80\r\n", None),
    (v2_for("192.0.2.1"), "192.0.2.1"),
    (v2_for("2001:db8::1"), "2001:db8::1"),
    (v2(0x20, 0), None),  # LOCAL: a health check of the proxy itself
    (v2(0x20, 0x11, bytes(12)), None),
    (v2(0x21, 0), None),  # UNSPEC
    (v2(0x21, 0x31, bytes(216)), None),  # a socket file
]


@pytest.mark.parametrize(("header", "client"), HEADERS)
def test_header(header: bytes, client: str | None) -> None:
    """A header names a client or none, whole or in pieces, and says where it ends."""
    for end in range(len(header)):
        assert read_header(header[:end]) is None
    for data in (header, header + REQUEST):
        found = read_header(data)
        assert found is not None
        source, size = found
        assert (getattr(source, "host", None), size) == (client, len(header))


@pytest.mark.parametrize(
    "data",
    [
        REQUEST,
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 a b 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::9 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 x 2\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.9 1 2\r\n",
        b"PROXY \xff\r\n",
        b"PROXY " + b"x" * 101,
        v2(0x11, 0),
        v2(0x22, 0),
        v2(0x21, 0x11, bytes(11)),
    ],
)
def test_no_header(data: bytes) -> None:
    """Anything else is no header."""
    with pytest.raises((ValueError, LookupError)):
        read_header(data)


class Peer(Resource):
    """Answers with the address of the client."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        return str(request.getClientAddress().host).encode()


@asynccontextmanager
async def proxied(**limits: Any) -> AsyncIterator[tuple[ApiSite, Any]]:
    """A server behind a proxy, and how to connect to it."""
    site = make_site({"/top": Mount(Peer())}, reactor, **limits)
    endpoint, _ = server_endpoint(reactor, ListenAddress.of("haproxy:tcp:0:interface=127.0.0.1"))
    port: Any = await endpoint.listen(site)
    clients: list[socket.socket] = []

    def connect(*data: bytes) -> socket.socket:
        clients.append(socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10))
        clients[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for each in data:
            clients[-1].sendall(each)
        return clients[-1]

    try:
        yield site, connect
    finally:
        for client in clients:
            client.close()
        await port.stopListening()
        site.stopFactory()


def received(client: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := client.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


@pytest.mark.parametrize(("header", "client"), HEADERS)
@pytest_twisted.ensureDeferred
async def test_served(header: bytes, client: str | None) -> None:
    """A request behind any header is served, as one of the client that the header names; PROXY UNKNOWN too."""
    async with proxied() as (_, connect):
        for data in ((header + REQUEST,), (header[:7], header[7:], REQUEST)):
            half_closing = connect(*data)
            half_closing.shutdown(socket.SHUT_WR)
            answer = await deferToThread(received, half_closing)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert (client or "127.0.0.1").encode() in answer


@pytest_twisted.ensureDeferred
async def test_connections_of_one_client() -> None:
    """The limit of connections per client counts the clients that the proxy names, not the proxy."""
    async with proxied(max_connections_per_client=1) as (site, connect):

        async def status(client: socket.socket) -> bytes:
            return (await deferToThread(client.recv, 65536))[:12]

        request = REQUEST.replace(b"close", b"keep-alive")
        first = connect(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 80\r\n", request)
        assert await status(first) == b"HTTP/1.1 200"
        assert await status(connect(v2_for("192.0.2.1"), request)) == b"HTTP/1.1 503"
        assert await status(connect(v2_for("192.0.2.2"), request)) == b"HTTP/1.1 200"
        first.close()
        while site.connections.open > 1:
            await deferToThread(lambda: None)
        assert await status(connect(v2_for("192.0.2.1"), request)) == b"HTTP/1.1 200"


@pytest_twisted.ensureDeferred
async def test_connections_without_a_header() -> None:
    """A connection whose header has not come counts in all, has ``header_timeout``, and is cut without a header."""
    async with proxied(max_connections=1, header_timeout=1) as (site, connect):
        silent = connect()
        while not site.connections.open:
            await deferToThread(lambda: None)
        refused = connect(v2_for("192.0.2.2"))
        assert (await deferToThread(received, refused)).startswith(b"HTTP/1.1 503 ")
        assert await deferToThread(received, silent) == b""
        while site.connections.open:
            await deferToThread(lambda: None)
        assert await deferToThread(received, connect(REQUEST)) == b""
        assert await deferToThread(received, connect(v2_for("192.0.2.2") + REQUEST)) != b""
