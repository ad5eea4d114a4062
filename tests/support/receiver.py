"""A small real HTTP server for tests: it records what it is sent and answers, or fails to, as it is told."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import struct
from collections import deque
from typing import Any

from attrs import Factory, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import LoopingCall, deferLater
from twisted.web.http import HTTPChannel, HTTPFactory, Request

PATIENCE = 10.0
"""Seconds that ``Receiver`` waits for what a test expects before it fails."""


@frozen
class Received:
    """A request as it came; ``connection`` numbers the connections from 1, header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@frozen
class Answer:
    """How a request is answered.

    ``how`` is a word: ``whole`` as it stands; ``hang`` not at all; ``hang_in_body`` the headers and no more;
    ``trickle`` a byte of the body every 20 ms, without end; ``cut`` half of the body, then the end of the
    connection; ``reset`` and ``close``: the connection's end in place of an answer.  ``delay`` is in seconds.
    """

    status: int = 200
    headers: dict[str, str] = Factory(dict)
    body: bytes = b"{}"
    how: str = "whole"
    delay: float = 0


HANG = Answer(how="hang")
HANG_IN_BODY = Answer(how="hang_in_body")
TRICKLE = Answer(how="trickle")
CUT = Answer(how="cut", body=b"0123456789")
RESET = Answer(how="reset")
CLOSE = Answer(how="close")


class Receiver:
    """The server.

    :ivar requests: what has come, in order
    :ivar default: the answer when the script is over
    :ivar connections: how many were ever made
    :ivar open: the connections that are open now
    """

    def __init__(
        self, reactor: Any, *, tls: CertificateOptions | None = None, interface: str = "127.0.0.1"
    ) -> None:
        self._reactor = reactor
        self._tls = tls
        self._interface = interface
        self._port: IListeningPort | None = None
        self._script: deque[Answer] = deque()
        self._trickles: list[LoopingCall] = []
        self.requests: list[Received] = []
        self.default = Answer()
        self.connections = 0
        self.open: set[_Channel] = set()

    def start(self, port: int = 0) -> None:
        """Listen, on a free port if none is given."""
        factory = HTTPFactory(reactor=self._reactor)
        factory.protocol = lambda: _Channel(self)
        if self._tls is None:
            self._port = self._reactor.listenTCP(port, factory, interface=self._interface)
        else:
            self._port = self._reactor.listenSSL(port, factory, self._tls, interface=self._interface)

    @property
    def port(self) -> int:
        assert self._port is not None
        return self._port.getHost().port

    def url(self, path: str = "/", *, userinfo: str = "") -> str:
        scheme = "http" if self._tls is None else "https"
        host = f"[{self._interface}]" if ":" in self._interface else self._interface
        return f"{scheme}://{userinfo}{host}:{self.port}{path}"

    def script(self, *answers: Answer | int) -> None:
        """Answer the next requests thus, one each; a number is a status."""
        self._script.extend(Answer(answer) if isinstance(answer, int) else answer for answer in answers)

    async def received(self, n: int) -> list[Received]:
        """The requests, as soon as there are ``n``."""
        await self.until(lambda: len(self.requests) >= n, f"{n} requests")
        return self.requests

    async def all_closed(self) -> None:
        """Wait until the clients have closed all connections."""
        await self.until(lambda: not self.open, "the end of all connections")

    async def until(self, condition: Any, what: str) -> None:
        """Wait until ``condition()`` is true."""
        limit = self._reactor.seconds() + PATIENCE
        while not condition():
            if self._reactor.seconds() > limit:
                raise AssertionError(f"waited in vain for {what}")
            await deferLater(self._reactor, 0.005)

    async def stop(self) -> None:
        """Close the port and every connection."""
        for trickle in self._trickles:
            if trickle.running:
                trickle.stop()
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        for channel in tuple(self.open):
            channel.abort()
        await self.all_closed()

    def handle(self, request: Request, connection: int) -> None:
        """Record ``request``, and answer it as the script says."""
        self.requests.append(
            Received(
                request.method.decode("ascii"),
                request.uri.decode("ascii"),
                {
                    name.decode("latin-1").lower(): ", ".join(value.decode("latin-1") for value in values)
                    for name, values in request.requestHeaders.getAllRawHeaders()
                },
                request.content.read(),
                connection,
                self._reactor.seconds(),
            )
        )
        answer = self._script.popleft() if self._script else self.default
        if answer.delay:
            self._reactor.callLater(answer.delay, self._answer, request, answer)
        else:
            self._answer(request, answer)

    def _answer(self, request: Request, answer: Answer) -> None:
        if answer.how == "hang" or request.channel is None:
            return
        if answer.how in ("reset", "close"):
            request.channel.abort() if answer.how == "reset" else request.channel.loseConnection()
            return
        request.setResponseCode(answer.status)
        for name, value in answer.headers.items():
            request.setHeader(name, value)
        if answer.how == "whole":
            request.setHeader("Content-Length", str(len(answer.body)))
            request.write(answer.body)
            request.finish()
            return
        request.setHeader("Content-Length", "1000000")
        request.write(answer.body)
        if answer.how == "cut":
            request.channel.loseConnection()
        elif answer.how == "trickle":
            trickle = LoopingCall(request.write, b" ")
            trickle.clock = self._reactor
            self._trickles.append(trickle)
            request.notifyFinish().addErrback(lambda _: trickle.stop() if trickle.running else None)
            trickle.start(0.02)


class _Request(Request):
    def process(self) -> None:
        self.channel.receiver.handle(self, self.channel.number)


class _Channel(HTTPChannel):
    requestFactory = _Request

    def __init__(self, receiver: Receiver) -> None:
        super().__init__()
        self.receiver = receiver
        self.number = 0

    def connectionMade(self) -> None:
        self.receiver.connections += 1
        self.number = self.receiver.connections
        self.receiver.open.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        self.receiver.open.discard(self)
        super().connectionLost(reason)

    def abort(self) -> None:
        """End the connection at once, over plain TCP by a reset."""
        handle = self.transport.getHandle()
        if isinstance(handle, socket.socket):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abortConnection()


def self_signed(host: str) -> PrivateCertificate:
    """A certificate for ``host`` (a name or an address) that only it itself vouches for, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "junebug-turn test")])
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return PrivateCertificate.loadPEM(pem)
