"""A client's connection: what it may send, how long it may take, and how it is refused in JSON."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers

from junebug_turn.errors import (
    BadRequest,
    HeadersTooLarge,
    JunebugTurnError,
    RequestTimeout,
    TooManyConnections,
    answer_for,
)
from junebug_turn.http.connection_limits import MAX_LINGERING
from junebug_turn.http.json import line_of_json
from junebug_turn.http.request import segments_of

LINGER = 5
"""Seconds that a client that was refused while it was sending may take to read the answer."""


class ApiChannel(HTTPChannel):
    """One connection.  Its times run from the first byte to the last: a client that trickles gains nothing.

    Twisted's own timeout starts again with each byte, and its refusals have no body; both are replaced here.

    :ivar over: a refusal was sent, and what still comes is thrown away
    """

    site: Any
    transport: Any

    over = False
    _entered = False
    _lingers = False
    _idle = False
    _silent = True
    _client: str | None = None
    _deadline: float | None = None
    _timer: IDelayedCall | None = None
    _rings = 0.0  # when the timer does

    def connectionMade(self) -> None:
        """Take the connection, if there are not too many."""
        limits = self.site.limits
        self.maxHeaders = limits.max_headers
        self.totalHeadersSize = self.MAX_LENGTH = limits.max_header_size
        super().connectionMade()
        connections = self.site.connections
        try:
            self._client = connections.enter(self.transport.getPeer())
        except TooManyConnections as error:
            if connections.lingering >= MAX_LINGERING:
                self.over = True
                self.transport.abortConnection()
                return
            connections.lingering += 1
            self._lingers = True
            self.refuse(error)
            return
        self._entered = True
        self._within(limits.header_timeout)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The connection is over."""
        self._stop()
        if self._entered:
            self.site.connections.leave(self._client)
        if self._lingers:
            self.site.connections.lingering -= 1
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Read on, unless the connection is refused."""
        if self.over:
            return
        self._silent = False
        if self._idle:
            self._idle = False
            self._within(self.site.limits.header_timeout)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Read a line of the headers, unless the connection was refused since it came."""
        if not self.over:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Read a part of a body, unless the connection was refused since it came."""
        if not self.over:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        """The headers are complete: the body's time begins."""
        self._within(self.site.limits.body_timeout)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """The body is complete: the client's time ends, and ours begins."""
        if not self.over:
            self._deadline = None
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """A request is answered: wait for the next one."""
        self._idle = self._silent = True
        self._within(self.site.limits.idle_timeout)
        super().requestDone(request)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line alone is larger than all headers may be."""
        self._refuse_size()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Twisted's word for "this can't be read", which it says without a body."""
        limits = self.site.limits
        if self._receivedHeaderCount > limits.max_headers:
            self.refuse(HeadersTooLarge(f"there are more than {limits.max_headers} headers"))
        elif self._receivedHeaderSize > limits.max_header_size:
            self._refuse_size()
        else:
            self.refuse(BadRequest("the request can't be read: it is not HTTP/1.1"))

    def _refuse_size(self) -> None:
        size = self.site.limits.max_header_size
        self.refuse(HeadersTooLarge(f"the first line and the headers are larger than {size} bytes"))

    def refuse(self, error: JunebugTurnError) -> None:
        """Answer a request that is not complete, and close the connection.

        Only our half is closed at first: closing all of it while the client sends would reset it, and the
        answer would be lost.
        """
        if self.over:
            return
        self.over = True
        answer = answer_for(error)
        # Before the first line's end, or after a request's, it has no path.
        path = getattr(self, "_path", b"").partition(b"?")[0]
        mount, _ = self.site.find(segments_of(path))
        if self._entered:
            self.site.refused(mount, answer.status)
        body = line_of_json(mount.to_json(answer))
        headers = Headers(
            {
                b"Content-Type": [b"application/json"],
                b"Content-Length": [b"%d" % len(body)],
                b"Connection": [b"close"],
                b"Server": [b"junebug-turn"],
            }
        )
        for name, text in answer.headers:
            headers.setRawHeaders(name, [text])
        self.writeHeaders(b"HTTP/1.1", b"%d" % answer.status, answer.code.encode("ascii"), headers)
        self.transport.write(body)
        # TLS has no half-closed connections.
        if ISSLTransport.providedBy(self.transport) or not hasattr(self.transport, "loseWriteConnection"):
            self.loseConnection()
        else:
            self.transport.loseWriteConnection()
        self._within(LINGER)

    def _within(self, seconds: float) -> None:
        """Give the client ``seconds`` from now for what comes next.

        A timer for each of them, started and stopped again, cost more than most of what a request needs.  One is
        left alone until it rings, which it does before any deadline that may be set meanwhile.
        """
        now = self.site.reactor.seconds()
        self._deadline = now + seconds
        if self._timer is None or self._rings > self._deadline:
            self._stop()
            self._ring_within(seconds, now)

    def _ring_within(self, seconds: float, now: float) -> None:
        limits = self.site.limits
        seconds = min(seconds, limits.header_timeout, limits.body_timeout, limits.idle_timeout)
        self._rings = now + seconds
        self._timer = self.site.reactor.callLater(seconds, self._ring)

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        now = self.site.reactor.seconds()
        if now < self._deadline:
            self._ring_within(self._deadline - now, now)
        else:
            self._late()

    def _late(self) -> None:
        if self.over:
            self.transport.abortConnection()
        elif self._silent:
            # It has not begun to ask: there is nothing to answer.
            self.over = True
            self.loseConnection()
            self._within(LINGER)
        else:
            self.refuse(RequestTimeout("the request took too long to arrive"))
