"""HTTP servers with mounts of a test's own, and clients in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from junebug_turn.http.connection_limits import ConnectionLimits
from junebug_turn.http.mounts import Mount
from junebug_turn.http.options import LimitOptions
from junebug_turn.http.server import ApiSite
from junebug_turn.telemetry.metrics import Metrics


def make_site(
    mounts: Mapping[str, Mount], clock: Any, *, metrics: Metrics | None = None, **limits: Any
) -> ApiSite:
    """A server; ``limits`` are options of LimitOptions."""
    options = LimitOptions(**limits)
    connections = ConnectionLimits(clock, options.max_connections, options.max_connections_per_client)
    site = ApiSite(mounts, clock, limits=options, connections=connections, metrics=metrics or Metrics())
    site.startFactory()
    return site


@frozen
class Response:
    """An answer in JSON; the names of its headers are in lower case."""

    line: str
    headers: dict[str, str]
    body: Any

    @property
    def status(self) -> int:
        return int(self.line.split(" ")[1])


class Client:
    """A connection to a site in memory."""

    def __init__(self, site: ApiSite, host: str = "192.0.2.1") -> None:
        peer = IPv6Address("TCP", host, 1) if ":" in host else IPv4Address("TCP", host, 1)
        self.transport = StringTransport(peerAddress=peer)
        self.channel: Any = site.buildProtocol(peer)
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """Send a whole request; ``_`` in the headers' names stands for a hyphen."""
        lines = [f"{method} {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def trickle(self, clock: Clock, data: bytes, seconds: float) -> None:
        """Send ``data`` byte by byte, ``seconds`` apart, while the server takes it."""
        for number in range(len(data)):
            if self.ended:
                return
            self.send(data[number : number + 1])
            clock.advance(seconds)

    @property
    def ended(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)

    @property
    def received(self) -> bytes:
        return bytes(self.transport.value())

    def response(self) -> Response:
        """The only answer on the connection, which must be JSON; or a line of text, which is the body then."""
        head, _, body = self.received.partition(b"\r\n\r\n")
        line, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
        assert int(headers["content-length"]) == len(body)
        if headers["content-type"] == "text/plain; charset=utf-8":
            assert body
            assert b"\n" not in body
            return Response(line, headers, body.decode("utf-8"))
        assert headers["content-type"] == "application/json"
        return Response(line, headers, json.loads(body))

    def refusal(self) -> tuple[int, str]:
        """Status and type of the answer to a refused request, which has the envelope and closes the connection."""
        response = self.response()
        assert response.headers["connection"] == "close"
        assert self.ended
        assert response.body["status"] == response.status
        return response.status, response.body["result"]["errors"][0]["type"]

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))
