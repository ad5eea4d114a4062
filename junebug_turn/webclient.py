"""What Twisted's HTTP client leaves to its users: a request's body, an answer's body, and what an error means."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from junebug_turn.guarded import ForbiddenAddress

MAX_ANSWER_BODY = 64 * 1024
"""Bytes of an answer's body that are read (and thrown away); a longer one costs its connection instead."""


def failure_reason(error: BaseException) -> str | None:
    """The word for an exception that a request ended with; None for one that can only be a bug."""
    if isinstance(error, ResponseFailed | RequestTransmissionFailed):
        reasons = [failure_reason(failure.value) for failure in error.reasons]
        return next((reason for reason in reasons if reason), "connection")
    if isinstance(error, ForbiddenAddress):
        return "forbidden_address"
    if isinstance(error, DNSLookupError):
        return "dns"
    if isinstance(error, SSL.Error | VerificationError):
        return "tls"
    if isinstance(error, ConnectTimeout):
        return "timeout"
    if isinstance(error, ConnectError | ConnectionClosed | OSError):
        return "connection"
    return None


@implementer(IBodyProducer)
class WholeBody:
    """A request's body, written at once (treq's own producer takes turns of the reactor)."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class _BodyReader(Protocol):
    """Reads at most ``MAX_ANSWER_BODY`` bytes of an answer and keeps none; ``done`` fires at the end."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred(lambda done: self._abort())
        self._left = MAX_ANSWER_BODY

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        # PotentialDataLoss: the end of the connection is the body's end, as HTTP/1.0 has it.
        if self._left < 0 or reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(None)
        else:
            self.done.errback(reason)

    def _abort(self) -> None:
        # A response's transport is a proxy that only knows loseConnection, which waits for a TLS peer's
        # goodbye: one that hangs or never stops sending would keep the connection for ever.
        transport: Any = self.transport
        transport = getattr(transport, "_producer", None) or transport
        getattr(transport, "abortConnection", transport.loseConnection)()


def read_away(response: Any) -> Deferred[None]:
    """Read the body of ``response`` and throw it away; cancelling closes the connection."""
    # treq and its decoder of gzip stand around the Agent's response: what is thrown away needs no unpacking,
    # and a few compressed bytes can become very many.
    while (inner := getattr(response, "original", None)) is not None:
        response = inner
    reader = _BodyReader()
    response.deliverBody(reader)
    return reader.done
