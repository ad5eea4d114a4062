"""HTTP client of deliveries: treq's, with the connection pools under it.

Each set of host rules has its own pool, so that a connection accepted under one is never reused under another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from attrs import frozen
from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.content import content
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import URI, HostnameCachingHTTPSPolicy, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from junebug_turn.delivery.answer_body import Refusal, read_away
from junebug_turn.delivery.pool import MAX_CLIENT_CONNECTIONS, BoundedPool
from junebug_turn.delivery.proxy_agent import make_agent
from junebug_turn.delivery.status_line import StatusLineFactory, unreadable_answer
from junebug_turn.net.addresses import HostRules
from junebug_turn.net.endpoints import UrlEndpoints, host_of
from junebug_turn.net.lookups import Lookups
from junebug_turn.net.proxies import DIRECT, Proxies, Proxy

IDLE_TIMEOUT = 60
"""Seconds that an idle connection is kept for the next delivery."""

MAX_UNREADABLE = 1000
"""Origins that are remembered because a warning was logged about their answers."""


class HttpClient:
    """Client that makes requests over the connections of one pool.

    :param unreadable: called with the origin and the cause where an answer can't be read after its status line
    :param unkept: a pool that keeps no connection
    """

    def __init__(
        self,
        reactor: Any,
        pool: HTTPConnectionPool,
        endpoints: UrlEndpoints,
        unreadable: Callable[[str, str], None],
        unkept: HTTPConnectionPool,
    ) -> None:
        self._reactor = reactor
        self._endpoints = endpoints
        agent = _AnswerDroppingAgent(make_agent(reactor, pool, endpoints, unkept), unreadable)
        self._treq = HTTPClient(agent, _NO_COOKIES, data_to_body_producer=_BytesBody)

    def proxy(self, origin: str) -> Proxy | None:
        """Return the proxy that a request to an origin goes through."""
        url = URI.fromBytes(origin.encode("ascii"))
        return self._endpoints.proxies.proxy(url.scheme.decode("ascii"), host_of(url), url.port)

    def request(self, method: str, url: EncodedURL, headers: Headers, body: bytes) -> Deferred[IResponse]:
        """Make a request; fires with the answer once its body is read away, and follows no redirect.

        An answer that can't be read after its status line counts as one with that status.
        Cancelling closes the connection.
        """
        answer: Deferred[Any] = self._treq.request(
            method,
            url,
            headers=headers,
            data=None if method == "GET" else body,
            cookies=_NO_COOKIES,  # in place of a new jar for each request
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        return answer


async def excerpt(response: IResponse) -> bytes:
    """Return the first ``MAX_EXCERPT`` bytes of the body of an answer of ``HttpClient``; none of a compressed one.

    :param response: one with a status of 400 or more: of others nothing is kept
    """
    beginning: bytes = await content(response)
    return beginning


@frozen
class ClientPair:
    """Two clients with the same rules: one reuses the connections of ``pool``, one makes a new one for each request."""

    pool: HTTPConnectionPool
    pooled: HttpClient
    fresh: HttpClient


class Clients:
    """The HTTP clients, two for each set of host rules.

    :param tls_policy: verifies the destinations' certificates
    :param connections_per_host: how many idle connections to one origin are kept
    :param proxies: those that requests go through
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        tls_policy: IPolicyForHTTPS,
        connections_per_host: int,
        proxies: Proxies = DIRECT,
    ) -> None:
        self._proxies = proxies
        self._reactor = reactor
        self._tls = self._guarded_tls = _cached(tls_policy)
        self._connections_per_host = connections_per_host
        self._pairs: dict[HostRules | None, ClientPair] = {}
        self._unreadable: OrderedDict[str, None] = OrderedDict()
        # The operator's hosts never wait for those that clients give.
        self._lookups, self._guarded_lookups = Lookups(reactor), Lookups(reactor)

    def use_tls(self, policy: IPolicyForHTTPS, guarded_policy: IPolicyForHTTPS) -> None:
        """Verify certificates with these policies from now on; a client that is in use already goes on as before.

        :param guarded_policy: for URLs with rules
        """
        self._tls, self._guarded_tls = _cached(policy), _cached(guarded_policy)
        before, self._pairs = self._pairs, {}
        for pair in before.values():
            pair.pool.closeCachedConnections()

    def pair(self, rules: HostRules | None) -> ClientPair:
        """The clients for URLs with these rules."""
        pair = self._pairs.get(rules)
        if pair is None:
            pool = HTTPConnectionPool(self._reactor)
            if rules is not None:
                pool = BoundedPool(self._reactor, MAX_CLIENT_CONNECTIONS)
            pool.maxPersistentPerHost = self._connections_per_host
            pool.cachedConnectionTimeout = IDLE_TIMEOUT
            # The pool's own retry would be an attempt that is not counted.
            pool.retryAutomatically = False
            unkept = HTTPConnectionPool(self._reactor, persistent=False)
            factory: Any = StatusLineFactory
            pool._factory = unkept._factory = factory
            tls = self._tls if rules is None else self._guarded_tls
            lookups = self._lookups if rules is None else self._guarded_lookups
            endpoints = UrlEndpoints(self._reactor, tls, rules, lookups, self._proxies)
            pair = self._pairs[rules] = ClientPair(
                pool,
                HttpClient(self._reactor, pool, endpoints, self._note_unreadable, unkept),
                HttpClient(self._reactor, unkept, endpoints, self._note_unreadable, unkept),
            )
        return pair

    async def close(self) -> None:
        """Close the idle connections."""
        for pair in self._pairs.values():
            await pair.pool.closeCachedConnections()

    def _note_unreadable(self, origin: str, cause: str) -> None:
        """Warn of a destination's answers, once."""
        if origin in self._unreadable:
            return
        self._unreadable[origin] = None
        if len(self._unreadable) > MAX_UNREADABLE:
            self._unreadable.popitem(last=False)
        self.log.warn(
            "An answer of {origin} can't be read after its status line ({error}): the status counts all the same; "
            "see docs/deliveries.md",
            origin=origin,
            error=cause,
        )


def _cached(policy: Any) -> Any:
    # A TLS context is slow to make.
    return HostnameCachingHTTPSPolicy(policy, cacheSize=100)


class _NoCookies(IndexableCookieJar):
    """Cookie jar that stays empty: a destination must not get a cookie back, and looking for one costs time."""

    def add_cookie_header(self, request: Any) -> None:
        pass

    def extract_cookies(self, response: Any, request: Any) -> None:
        pass


_NO_COOKIES = _NoCookies()


@implementer(IBodyProducer)
class _BytesBody:
    """A request's body, written at once; treq's own producer takes turns of the reactor."""

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


@implementer(IAgent)
@frozen
class _AnswerDroppingAgent:
    """Agent that reads each answer's body away below treq, which would unpack it: a few bytes can become very many.

    So it doesn't offer gzip either.
    """

    agent: IAgent
    unreadable: Callable[[str, str], None]

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        if headers is not None:
            # From treq's ContentDecoderAgent, in a copy of its own.
            headers.removeHeader(b"Accept-Encoding")
        answer: Deferred[Any] = self.agent.request(method, uri, headers, bodyProducer)
        return answer.addCallback(read_away).addErrback(self._status_line, uri)

    def _status_line(self, failure: Failure, uri: bytes) -> Any:
        answer = unreadable_answer(failure.value)
        if answer is None:
            return failure
        origin = b"/".join(uri.split(b"/", 3)[:3])
        self.unreadable(origin.decode("ascii"), answer.cause)
        return Refusal(answer.response, b"")
