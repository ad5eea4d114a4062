"""HTTP connections for which the status line of an answer counts, even where the rest can't be parsed.

Twisted's client ends such a request like one whose connection was lost, and forgets the status that it has read.  It
reads headers without any bound: here they have one, after which the rest counts as one that can't be parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol, HTTPParser
from twisted.web.client import ResponseFailed
from twisted.web.iweb import IResponse

MAX_HEAD = 64 * 1024
"""Bytes of an answer up to the end of its headers, in all of its interim answers together."""

MAX_HEADERS = 100
"""Headers of an answer."""


class HeadTooLarge(Exception):
    """An answer whose headers are too many, or too large."""


class UnreadableAnswer(Exception):
    """An answer that can't be parsed after its status line.

    :ivar response: its status, and the headers that could be read
    :ivar cause: the parser's exception, by its name: its text quotes the answer
    """

    def __init__(self, response: IResponse, cause: str) -> None:
        super().__init__(cause)
        self.response = response
        self.cause = cause


class StatusLineProtocol(HTTP11ClientProtocol):
    """Connection that fails a request with ``UnreadableAnswer`` among its reasons, where it has read a status line."""

    transport: Any
    _head_size = _headers = 0

    def request(self, request: Any) -> Deferred[IResponse]:
        """Send a request; fires with its response."""
        self._head_size = self._headers = 0
        answer: Deferred[IResponse] = super().request(request)
        parser: Any = self._parser
        if parser is not None:
            # Twisted's parser closes the connection, as if the peer had, for a header that is too long.
            parser.lineLengthExceeded = _refuse_line
            parser.headerReceived = self._header_received
        return answer

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        parser: Any = self._parser
        if parser is not None and parser.line_mode:
            # All of it was head, as its end hasn't come.
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._giveUp(Failure(HeadTooLarge()))

    def _header_received(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise HeadTooLarge()
        parser: Any = self._parser
        HTTPParser.headerReceived(parser, name, value)

    def _giveUp(self, reason: Failure) -> None:
        if not reason.check(ConnectionClosed):
            response = getattr(self._parser, "response", None)
            if response is not None and response.code >= 200:
                reason = Failure(UnreadableAnswer(response, getattr(reason.type, "__name__", "?")))
            # Losing it would wait for a TLS peer's goodbye, and read on.
            self.transport.abortConnection()
        super()._giveUp(reason)


class StatusLineFactory(Factory):
    """Factory of these connections, in the form that a pool of Twisted's has."""

    noisy = False

    def __init__(self, quiescent: Callable[[HTTP11ClientProtocol], None], metadata: str) -> None:
        self._quiescent = quiescent

    def buildProtocol(self, addr: IAddress | None) -> StatusLineProtocol:
        return StatusLineProtocol(self._quiescent)


def unreadable_answer(error: BaseException | None) -> UnreadableAnswer | None:
    """Return the answer whose status line was read before a request failed; None where none was."""
    if isinstance(error, ResponseFailed):
        for failure in error.reasons:
            if isinstance(failure.value, UnreadableAnswer):
                return failure.value
    return None


def _refuse_line(line: bytes) -> None:
    raise ValueError("a line that is too long")
