"""What Twisted's HTTP client leaves to its users: a request's body, an answer's body, and what an error means."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, RequestTransmissionFailed, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from junebug_turn.net.guarded import ForbiddenAddress

MAX_ANSWER_BODY = 64 * 1024
"""Bytes of an answer's body that are read (and thrown away); a longer one costs its connection instead."""

MAX_TARGETS = 1000
"""URLs that an agent has parsed and keeps."""


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


@implementer(IStreamClientEndpoint)
class _LateEndpoint:
    """Made when there is no connection to use again: a host name's endpoint begins with IDNA."""

    def __init__(self, agent: Any, uri: URI) -> None:
        self._agent = agent
        self._uri = uri

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        def connect() -> Deferred[IProtocol]:
            endpoint: IStreamClientEndpoint = self._agent._getEndpoint(self._uri)
            return endpoint.connect(protocolFactory)

        return maybeDeferred(connect)


class ReusingAgent(Agent):
    """An agent that parses a URL once, and makes an endpoint only to connect."""

    def _init(self, reactor: Any, endpointFactory: Any, pool: Any) -> None:
        super()._init(reactor, endpointFactory, pool)
        self._target = lru_cache(MAX_TARGETS)(self._make_target)

    def _make_target(self, url: bytes) -> tuple[tuple[bytes, bytes, int], Any, URI, bytes]:
        uri = URI.fromBytes(url)
        return (uri.scheme, uri.host, uri.port), _LateEndpoint(self, uri), uri, uri.originForm

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        key, endpoint, parsed, path = self._target(uri)
        return self._requestWithEndpoint(key, endpoint, method, parsed, headers, bodyProducer, path)


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
