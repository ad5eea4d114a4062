"""A client's HTTP connection: the bounds of a request's size and time, and the refusal of incomplete requests."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from junebug_turn.errors import (
    BadRequest,
    HeadersTooLarge,
    JunebugTurnError,
    RequestTimeout,
    TooManyConnections,
)
from junebug_turn.http.connection_limits import MAX_LINGERING

LINGER = 5
"""Seconds for a client that was refused while it was sending to read the answer."""

HALF_CLOSED = 3
"""Seconds for the answer to a request whose client has closed its half of the connection.

It may wait for the answer, or may have closed all of the connection, which looks the same until something is sent to
it.  So what has not been handed to the broker then is withdrawn, and the answer is a 503.
"""


@implementer(IHalfCloseableProtocol)
class ApiConnection(HTTPChannel):
    """One connection.  Its deadlines count from the first byte to the last: a client that trickles gains nothing.

    Twisted's own timeout starts again with each byte, and its refusals have no body; both are replaced here.

    :ivar closing: the connection is about to be closed, and all further input is dropped
    """

    site: Any
    transport: Any

    closing = False
    _half_closed = False
    _answering = False
    _entered = False
    _lingers = False
    _idle = False
    _silent = True
    _client: str | None = None
    _deadline: float | None = None
    _timer: IDelayedCall | None = None
    _timer_due = 0.0

    def connectionMade(self) -> None:
        """Accept the connection, unless there are too many."""
        limits = self.site.limits
        self.maxHeaders = limits.max_headers
        self.totalHeadersSize = self.MAX_LENGTH = limits.max_header_size
        super().connectionMade()
        # Behind a proxy it counts in all only until the proxy has named the client.
        self._enter(None if getattr(self.transport, "awaits_client", False) else self.transport.getPeer())

    def client_known(self) -> None:
        """Count the connection as the client's, whom a proxy has named."""
        if self._entered:
            self._entered = False
            self.site.connections.leave(self._client)
            self._enter(self.transport.getPeer())

    def _enter(self, peer: Any) -> None:
        limits = self.site.limits
        connections = self.site.connections
        try:
            self._client = connections.enter(peer)
        except TooManyConnections as error:
            if connections.lingering >= MAX_LINGERING:
                self.closing = True
                self.transport.abortConnection()
                return
            connections.lingering += 1
            self._lingers = True
            self.refuse(error)
            return
        self._entered = True
        self._set_deadline(limits.header_timeout)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Release the place among the open connections."""
        self._stop_timer()
        if self._entered:
            self.site.connections.leave(self._client)
        if self._lingers:
            self.site.connections.lingering -= 1
        super().connectionLost(reason)

    def readConnectionLost(self) -> None:
        """Answer the requests that came before the client closed its half, and then end the connection."""
        if self._half_closed:
            return
        self._half_closed = True
        if self._answering:
            self._set_deadline(HALF_CLOSED)
        else:
            self._end_of_input()

    def writeConnectionLost(self) -> None:
        """Pass over the end of our half, which ``refuse`` has closed."""

    def dataReceived(self, data: bytes) -> None:
        """Read input, unless the connection is closing."""
        if self.closing:
            return
        self._silent = False
        if self._idle:
            self._idle = False
            self._set_deadline(self.site.limits.header_timeout)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Read a line of the headers, unless the input before it was refused."""
        if not self.closing:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Read a part of a body, unless the input before it was refused."""
        if not self.closing:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        """Start the time of the body, when the headers are complete."""
        self._set_deadline(self.site.limits.body_timeout)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """End the client's time, when the body is complete, and handle the request."""
        if not self.closing:
            self._answering = True
            self._deadline = None
            if self._half_closed:
                self._set_deadline(HALF_CLOSED)
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Wait for the next request, when one is answered."""
        self._answering = False
        self._idle = self._silent = True
        self._set_deadline(self.site.limits.idle_timeout)
        super().requestDone(request)
        # Unless the next one had come already.
        if self._half_closed and not self._answering:
            self._end_of_input()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that alone is larger than all headers may be."""
        self._refuse_size()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse a request that can't be read; Twisted calls this, and would answer without a body."""
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
        if self.closing:
            return
        self.closing = True
        request: Any = self.requests[-1] if self.requests else self.requestFactory(self)
        # Before the first line's end there is no path.
        request.refuse(error, getattr(self, "_path", b""))
        if self._entered:
            self.site.count_refusal(request)
        # TLS has no half-closed connections.
        if (
            self._half_closed
            or ISSLTransport.providedBy(self.transport)
            or not hasattr(self.transport, "loseWriteConnection")
        ):
            self.loseConnection()
        else:
            self.transport.loseWriteConnection()
        self._set_deadline(LINGER)

    def _end_of_input(self) -> None:
        """End the connection of a client that sends nothing more; it may have stopped within a request."""
        if self.requests and not self.closing:
            self.refuse(BadRequest("the request is incomplete"))
        else:
            self._end()

    def _end(self) -> None:
        self.closing = True
        self.loseConnection()
        self._set_deadline(LINGER)

    def _set_deadline(self, seconds: float) -> None:
        """Give the client ``seconds`` from now for its next step.

        A timer for each deadline, started and stopped again, cost more than most of a request's other work.  So one
        timer is left alone until it is due, which is before any deadline that may be set meanwhile.
        """
        now = self.site.reactor.seconds()
        self._deadline = now + seconds
        if self._timer is None or self._timer_due > self._deadline:
            self._stop_timer()
            self._start_timer(seconds, now)

    def _start_timer(self, seconds: float, now: float) -> None:
        limits = self.site.limits
        seconds = min(seconds, limits.header_timeout, limits.body_timeout, limits.idle_timeout)
        self._timer_due = now + seconds
        self._timer = self.site.reactor.callLater(seconds, self._timer_fired)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _timer_fired(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        now = self.site.reactor.seconds()
        if now < self._deadline:
            self._start_timer(self._deadline - now, now)
        else:
            self._time_out()

    def _time_out(self) -> None:
        if self.closing:
            self.transport.abortConnection()
        elif self._answering:
            self.requests[0].give_up()
            if self._answering:
                self.transport.abortConnection()
        elif self._silent:
            # No request has begun, so there is none to answer.
            self._end()
        else:
            self.refuse(RequestTimeout("the request took too long to arrive"))
