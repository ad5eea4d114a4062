"""Scriptable HTTP receiver: a real server that records each request, and answers or fails by a script.

The tests have it in process; the receiver of the demo and the destination of the fault suite build on it.
"""

from __future__ import annotations

import json
import socket
import struct
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from attrs import Factory, frozen
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

PATIENCE = 60.0
"""Seconds that ``Receiver.until`` waits before it fails."""


BACKLOG = 1024
"""Connections that wait to be accepted.  The system tries one more again only after a second."""


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
    """An answer, or a failure to answer.

    ``how`` is a word: ``whole`` as it stands; ``hold`` the same, when the receiver releases it; ``hang`` nothing;
    ``hang_in_body`` the headers and no more; ``trickle`` a byte of the body every 20 ms, without end; ``cut`` half of
    the body, then the end of the connection; ``malformed`` the body in place of HTTP, then the end; ``reset`` and
    ``close``: the connection's end in place of an answer.  ``delay`` is in seconds.
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
MALFORMED = Answer(how="malformed", body=b"no HTTP")
RESET = Answer(how="reset")
CLOSE = Answer(how="close")


class Receiver:
    """The server.

    :ivar requests: all that came, in order
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
        self._port: Any = None
        self._scripts: defaultdict[str | None, deque[Answer]] = defaultdict(deque)
        self._unanswered: dict[Any, Callable[[], None]] = {}
        self.requests: list[Received] = []
        self.default = Answer()
        self.connections = 0
        self.open: set[_Channel] = set()

    def start(self, port: int = 0) -> None:
        """Listen, on a free port if none is given."""
        factory: Any = HTTPFactory(reactor=self._reactor)
        factory.protocol = lambda: _Channel(self)
        if self._tls is None:
            self._port = self._reactor.listenTCP(port, factory, BACKLOG, self._interface)
        else:
            self._port = self._reactor.listenSSL(port, factory, self._tls, BACKLOG, self._interface)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._port is not None
        return int(self._port.getHost().port)

    def url(self, path: str = "/", *, userinfo: str = "") -> str:
        """Return the URL of a path."""
        scheme = "http" if self._tls is None else "https"
        host = f"[{self._interface}]" if ":" in self._interface else self._interface
        return f"{scheme}://{userinfo}{host}:{self.port}{path}"

    def script(self, *answers: Answer | int, path: str | None = None) -> None:
        """Answer the next requests thus, one each; a number is a status.

        :param path: only requests for it, before those of the script for all
        """
        self._scripts[path].extend(
            Answer(answer) if isinstance(answer, int) else answer for answer in answers
        )

    def answer_to(self, request: Received) -> Answer:
        """Choose the answer to a request: the script's next, or the default."""
        script = self._scripts.get(request.path) or self._scripts.get(None)
        return script.popleft() if script else self.default

    def answered(self, request: Received, answer: Answer) -> None:
        """Called when an answer has been written whole; for a subclass."""

    def release(self) -> None:
        """Answer the requests that are held, and reset the connections on which others hang or trickle."""
        for end in list(self._unanswered.values()):
            end()

    async def received(self, n: int) -> list[Received]:
        """Wait for ``n`` requests; all that came."""
        await self.until(lambda: len(self.requests) >= n, f"{n} requests")
        return self.requests

    async def all_closed(self) -> None:
        """Wait until the clients have closed all connections."""
        await self.until(lambda: not self.open, "the end of all connections")

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until ``condition()`` is true.

        :raises AssertionError: it isn't within ``PATIENCE``
        """
        limit = self._reactor.seconds() + PATIENCE
        while not condition():
            if self._reactor.seconds() > limit:
                raise AssertionError(f"waited in vain for {what}")
            await deferLater(self._reactor, 0.005)

    async def stop(self) -> None:
        """Close the port and every connection."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        for channel in tuple(self.open):
            channel.abort()
        await self.all_closed()

    def handle(self, request: Any, connection: int) -> None:
        """Record ``request``, and answer it."""
        received = Received(
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
        self.requests.append(received)
        answer = self.answer_to(received)
        if answer.delay:
            self._reactor.callLater(answer.delay, self._answer, request, received, answer)
        else:
            self._answer(request, received, answer)

    def _answer(self, request: Any, received: Received, answer: Answer) -> None:
        channel = request.channel
        if channel is None:
            # The client has gone.
            return
        if answer.how == "whole":
            self._answer_whole(request, received, answer)
        elif answer.how == "hold":
            self._keep(request, lambda: self._answer_whole(request, received, answer))
        elif answer.how == "hang":
            self._keep(request, channel.abort)
        elif answer.how == "reset":
            channel.abort()
        elif answer.how == "close":
            channel.loseConnection()
        elif answer.how == "malformed":
            channel.transport.write(answer.body)
            channel.loseConnection()
        else:
            _write_head(request, answer, 1_000_000)
            request.write(answer.body)
            if answer.how == "cut":
                channel.loseConnection()
            else:
                self._keep(request, channel.abort)
                if answer.how == "trickle":
                    self._trickle(request)

    def _answer_whole(self, request: Any, received: Received, answer: Answer) -> None:
        _write_head(request, answer, len(answer.body))
        request.write(answer.body)
        request.finish()
        self.answered(received, answer)

    def _trickle(self, request: Any) -> None:
        trickle = LoopingCall(request.write, b" ")
        trickle.clock = self._reactor
        request.notifyFinish().addErrback(lambda _: trickle.stop())
        trickle.start(0.02)

    def _keep(self, request: Any, end: Callable[[], None]) -> None:
        """Keep a request until its end, or until ``release()`` has ``end`` called."""
        self._unanswered[request] = end
        request.notifyFinish().addBoth(lambda _: self._unanswered.pop(request))


def _write_head(request: Any, answer: Answer, length: int) -> None:
    request.setResponseCode(answer.status)
    for name, value in answer.headers.items():
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(length))


class _Request(Request):
    channel: Any

    def process(self) -> None:
        self.channel.receiver.handle(self, self.channel.number)


class _Channel(HTTPChannel):
    requestFactory = _Request
    transport: Any

    def __init__(self, receiver: Receiver) -> None:
        super().__init__()
        self.receiver = receiver
        self.number = 0

    def connectionMade(self) -> None:
        self.receiver.connections += 1
        self.number = self.receiver.connections
        self.receiver.open.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.receiver.open.discard(self)
        super().connectionLost(reason)

    def abort(self) -> None:
        """End the connection at once, over plain TCP by a reset."""
        handle = self.transport.getHandle()
        if isinstance(handle, socket.socket):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abortConnection()
