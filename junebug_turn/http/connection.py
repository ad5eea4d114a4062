"""A client's HTTP connection: the bounds of a request's size and time, and the refusal of incomplete requests."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, ISSLTransport
from twisted.logger import Logger, LogLevel
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
from junebug_turn.http.deadline import Deadline
from junebug_turn.http.syntax import MAX_HEADER_NAME, has_long_name, is_host, is_request_line

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

    Twisted's own timeout starts again with each byte, and its refusals have no body.  And it answers all requests that
    came at once in one turn of the reactor, read or not: here it is one, and none while an answer before it is unread.

    :ivar closing: the connection is about to be closed, and all further input is dropped
    """

    log = Logger()

    site: Any
    transport: Any

    closing = False
    _half_closed = False
    _answering = False
    _entered = False
    _lingers = False
    _idle = False
    _silent = True
    _host_required = False
    _unread = False
    _held: bytes | None = None
    _turn: IDelayedCall | None = None
    _client: str | None = None
    _deadline: Deadline

    @property
    def target(self) -> bytes:
        """The target of the request line; empty before its end."""
        return getattr(self, "_path", b"")

    def connectionMade(self) -> None:
        """Accept the connection, unless there are too many."""
        limits = self.site.limits
        self.maxHeaders = limits.max_headers
        self.totalHeadersSize = self.MAX_LENGTH = limits.max_header_size
        shortest = min(limits.header_timeout, limits.body_timeout, limits.idle_timeout)
        self._deadline = Deadline(self.site.reactor, shortest, self._time_out)
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
        self._deadline.set(limits.header_timeout)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Release the place among the open connections."""
        self._deadline.end()
        self._held = None
        if self._turn is not None:
            self._turn.cancel()
        # It has our methods, which have us.
        self._transferDecoder = None
        if self._entered:
            self.site.connections.leave(self._client)
        if self._lingers:
            self.site.connections.lingering -= 1
        super().connectionLost(reason)
        self.requests.clear()

    def readConnectionLost(self) -> None:
        """Answer the requests that came before the client closed its half, and then end the connection."""
        if self._half_closed:
            return
        self._half_closed = True
        if self._answering or self._held is not None:
            self._deadline.set(HALF_CLOSED)
        else:
            self._end_of_input()

    def writeConnectionLost(self) -> None:
        """Pass over the end of our half, which ``refuse`` has closed."""

    def dataReceived(self, data: bytes) -> None:
        """Read input, unless the connection is closing."""
        if self.closing:
            return
        if self._held is not None:
            self._held += data
            return
        self._silent = False
        if self._idle:
            self._idle = False
            self._deadline.set(self.site.limits.header_timeout)
        try:
            super().dataReceived(data)
        except Exception as fault:
            # The parser's ValueErrors are about the input, such as a length of 5,000 digits.
            if not isinstance(fault, ValueError):
                self.log.failure("A request could not be parsed", level=LogLevel.warn)
            if self._answering:
                self.transport.abortConnection()
            else:
                self.refuse(BadRequest("the request can't be read"))

    def lineReceived(self, line: bytes) -> None:
        """Read a line of the headers, unless the input before it was refused."""
        if self.closing:
            return
        if self.requests:
            if len(line) > MAX_HEADER_NAME and has_long_name(line):
                self.refuse(HeadersTooLarge(f"a header's name is longer than {MAX_HEADER_NAME} bytes"))
                return
        elif line and self.persistent:
            if not is_request_line(line):
                self.refuse(BadRequest("the first line is not one of HTTP/1.1"))
                return
            self._host_required = line.endswith(b"1.1")
        super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Read a part of a body, unless the input before it was refused."""
        if not self.closing:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        """Check the Host and start the time of the body, when the headers are complete."""
        hosts = self.requests[-1].requestHeaders.getRawHeaders(b"host", ())
        if not is_host(hosts, required=self._host_required):
            self.refuse(BadRequest("the request must have one Host header, with a host"))
            return
        self._deadline.set(self.site.limits.body_timeout)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """End the client's time, when the body is complete, and handle the request."""
        if not self.closing:
            self._answering = True
            self._deadline.clear()
            if self._half_closed:
                self._deadline.set(HALF_CLOSED)
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Wait for the next request, when one is answered; one that has come already has its turn later."""
        self._answering = False
        self._idle = self._silent = True
        self._deadline.set(self.site.limits.idle_timeout)
        self._held = b""
        super().requestDone(request)
        self._held += self.clearLineBuffer()
        if self._unread:
            self.transport.pauseProducing()
        elif self._held:
            self._continue_later()
        else:
            self._continue()

    def _continue_later(self) -> None:
        if self._turn is None:
            self._turn = self.site.reactor.callLater(0, self._continue)

    def _continue(self) -> None:
        """Read the input that waited for the answers before it."""
        self._turn = None
        data, self._held = self._held, None
        if data:
            self.dataReceived(data)
        if self._half_closed and not self._answering and self._held is None and not self.closing:
            self._end_of_input()

    def pauseProducing(self) -> None:
        """Note that the client leaves our answers unread."""
        self._unread = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Go on, when the answers are read."""
        self._unread = False
        super().resumeProducing()
        if self._held is not None:
            self._continue_later()

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
        request.refuse(error, self.target)
        if self._entered:
            self.site.count_refusal(request)
        # TLS has no half-closed connections.
        secure = ISSLTransport.providedBy(self.transport)
        if self._half_closed or secure or not hasattr(self.transport, "loseWriteConnection"):
            self.loseConnection()
        else:
            self.transport.loseWriteConnection()
        self._deadline.set(LINGER)

    def _end_of_input(self) -> None:
        """End the connection of a client that sends nothing more; it may have stopped within a request."""
        if self.requests and not self.closing:
            self.refuse(BadRequest("the request is incomplete"))
        else:
            self._end()

    def loseConnection(self) -> None:
        """End the connection when what is written is sent; nothing more is read from it."""
        self.closing = True
        super().loseConnection()

    def _end(self) -> None:
        self.loseConnection()
        self._deadline.set(LINGER)

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
