"""Tunnels through a proxy: what it is asked, and each answer that it can give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from junebug_turn.net.proxies import Proxy, ProxyFault
from junebug_turn.net.tunnel import MAX_ANSWER, ProxyEndpoint, TunnelEndpoint

PROXY = Proxy("proxy", 3128, b"Basic s3cret")
OPEN = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"


class Network:
    """Endpoint of a proxy whose bytes the test writes."""

    def __init__(self) -> None:
        self.connections: list[Any] = []
        self.transports: list[Any] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        self.transports.append(StringTransport())
        self.connections.append(protocol)
        protocol.makeConnection(self.transports[-1])
        done: Deferred[Any] = Deferred()
        done.callback(protocol)
        return done


class Inner(Protocol):
    """Protocol of the destination's connection."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.lost = True


def connecting(network: Any, hosts: Sequence[str] = ("example.org",)) -> Deferred[Any]:
    async def found() -> Sequence[str]:
        return hosts

    endpoint = TunnelEndpoint(ProxyEndpoint(PROXY, network), found, 443)
    return endpoint.connect(Factory.forProtocol(Inner))


def failed(connecting: Deferred[Any]) -> BaseException:
    """The exception of a connecting that failed."""
    found: list[Failure] = []
    connecting.addErrback(found.append)
    return found[0].value


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_tunnel(size: int) -> None:
    """The proxy is asked with CONNECT and its credentials; then all bytes are the destination's."""
    network = Network()
    tunnel = connecting(network)
    (transport,) = network.transports
    assert transport.value() == (
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nProxy-Authorization: Basic s3cret\r\n\r\n"
    )
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + OPEN + b"first bytes"
    for start in range(0, len(answer), size):
        network.connections[0].dataReceived(answer[start : start + size])
    inner: list[Inner] = []
    tunnel.addCallback(inner.append)
    network.connections[0].dataReceived(b", more")
    assert inner[0].data == b"first bytes, more"
    assert inner[0].transport is transport
    network.connections[0].connectionLost(Failure(ConnectionDone()))
    assert inner[0].lost


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "HTTP status 407: it wants a user and a password",
        ),
        (b"HTTP/1.0 403 Filtered\r\nContent-Length: 5\r\n\r\nhello", "HTTP status 403: it does not allow"),
        (b"HTTP/1.1 502 Bad Gateway\r\n", "HTTP status 502: it can't reach the destination"),
        (b"HTTP/1.1 301 Moved\r\n\r\n", "answered HTTP status 301"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"x" * (MAX_ANSWER + 1), "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * MAX_ANSWER, "not HTTP"),
        (None, "closed the connection without an answer"),
    ],
)
def test_refusals(answer: bytes | None, words: str) -> None:
    """The text of a failure names the proxy and its answer, without credentials, and the connection is closed."""
    network = Network()
    tunnel = connecting(network)
    if answer is None:
        network.connections[0].connectionLost(Failure(ConnectionDone()))
    else:
        network.connections[0].dataReceived(answer)
        assert network.transports[0].disconnecting or network.transports[0].aborting
        network.connections[0].dataReceived(b"more")
        network.connections[0].connectionLost(Failure(ConnectionDone()))
    fault = failed(tunnel)
    assert isinstance(fault, ProxyFault)
    assert str(fault).startswith("the proxy proxy:3128 ")
    assert words in str(fault)
    assert "s3cret" not in str(fault)


def test_the_next_address() -> None:
    """Where the proxy can't reach an address it is asked for the next; IPv6 ones stand in brackets."""
    network = Network()
    tunnel = connecting(network, ["fd00::1", "10.0.0.1"])
    network.connections[0].dataReceived(b"HTTP/1.1 503 Unavailable\r\n\r\n")
    network.connections[1].dataReceived(OPEN)
    assert network.transports[0].value().startswith(b"CONNECT [fd00::1]:443 ")
    assert network.transports[1].value().startswith(b"CONNECT 10.0.0.1:443 ")
    assert tunnel.called


def test_no_proxy_there() -> None:
    """A proxy that can't be connected to is a fault that names it."""

    class Nothing:
        def connect(self, factory: Any) -> Deferred[Any]:
            return fail(ConnectionRefusedError())

    fault = failed(connecting(Nothing()))
    assert isinstance(fault, ProxyFault)
    assert str(fault).startswith("no connection to the proxy proxy:3128: ")


def test_cancelling() -> None:
    """A connecting that is cancelled closes the connection to the proxy."""
    network = Network()
    tunnel = connecting(network)
    tunnel.cancel()
    assert isinstance(failed(tunnel), CancelledError)
    assert network.transports[0].disconnecting or network.transports[0].aborting
