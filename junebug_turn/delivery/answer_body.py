"""Bodies of answers: they are read away within a bound, and of a refusal the beginning is kept.

Tested by tests/unit/delivery/test_http_client.py.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

MAX_ANSWER_BODY = 64 * 1024
"""Bytes of an answer's body that are read (and thrown away); a longer one costs its connection instead."""

MAX_EXCERPT = 4 * 1024
"""Bytes of a refusal's body that are kept."""


class Refusal:
    """Answer whose body was read away, but for the beginning, which it delivers."""

    def __init__(self, response: IResponse, beginning: bytes) -> None:
        self._response = response
        self._beginning = beginning

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)

    def deliverBody(self, protocol: Any) -> None:
        if self._beginning:
            protocol.dataReceived(self._beginning)
        protocol.connectionLost(Failure(ResponseDone()))


def read_away(response: IResponse) -> Deferred[IResponse]:
    """Read the body of an answer; fires with the answer, for a refusal with a ``Refusal``."""
    reader = _BodyReader(response)
    response.deliverBody(reader)
    return reader.done


class _BodyReader(Protocol):
    """Reads at most ``MAX_ANSWER_BODY`` bytes of an answer, and keeps the first ones of a refusal; ``done`` fires at
    the end."""

    def __init__(self, response: IResponse) -> None:
        self.done: Deferred[IResponse] = Deferred(lambda done: self._abort())
        self._response = response
        self._left = MAX_ANSWER_BODY
        self._kept = b""
        # What is compressed is not unpacked.
        compressed = response.headers.hasHeader(b"Content-Encoding")
        self._keep = 0 if response.code < 400 or compressed else MAX_EXCERPT

    def dataReceived(self, data: bytes) -> None:
        if len(self._kept) < self._keep:
            self._kept += data[: self._keep - len(self._kept)]
        self._left -= len(data)
        if self._left < 0:
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        # PotentialDataLoss: the end of the connection is the body's end, as HTTP/1.0 has it.
        if self._left < 0 or reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(self._response if self._response.code < 400 else self._refusal())
        else:
            self.done.errback(reason)

    def _refusal(self) -> Any:
        return Refusal(self._response, self._kept)

    def _abort(self) -> None:
        # A response's transport is a proxy that only knows loseConnection, which waits for a TLS peer's
        # goodbye: one that hangs or never stops sending would keep the connection for ever.
        transport: Any = self.transport
        transport = getattr(transport, "_producer", None) or transport
        getattr(transport, "abortConnection", transport.loseConnection)()
