"""HTTP agent that sends requests for http URLs to a proxy, with the whole URL in their first line (RFC 9112, 3.2.2).

Requests for https URLs go through a tunnel, which is the endpoints' part: ``net.tunnel``.

Tested by tests/integration/test_proxy.py.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.web.client import URI, Agent, HTTPConnectionPool, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from junebug_turn.net.endpoints import UrlEndpoints, host_of
from junebug_turn.net.proxies import Proxy


def make_agent(
    reactor: Any, pool: HTTPConnectionPool, endpoints: UrlEndpoints, unkept: HTTPConnectionPool
) -> IAgent:
    """Make the agent for these endpoints.

    A URL with rules, which a client gave, is never sent to a proxy as a whole: the proxy would resolve its host.

    :param unkept: a pool that keeps no connection, for requests to the proxy: some proxies close each connection after
        its answer without saying so, and a request that follows at once would be lost with it
    """
    agent: IAgent = Agent.usingEndpointFactory(reactor, endpoints, pool)
    proxy = endpoints.proxies.http
    if proxy is None or endpoints.rules is not None:
        return agent
    by_proxy = ProxyAgent(endpoints.proxy_endpoint(proxy), reactor, unkept)
    return _ProxyingAgent(agent, by_proxy, endpoints, proxy)


@implementer(IAgent)
@frozen
class _ProxyingAgent:
    """Agent that makes a request directly, through a tunnel, or of the proxy."""

    agent: IAgent
    by_proxy: IAgent
    endpoints: UrlEndpoints
    proxy: Proxy

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        url = URI.fromBytes(uri)
        if url.scheme != b"http" or self.endpoints.proxies.proxy("http", host_of(url), url.port) is None:
            return self.agent.request(method, uri, headers, bodyProducer)
        headers = Headers() if headers is None else headers.copy()
        if self.proxy.authorization is not None:
            headers.setRawHeaders(b"Proxy-Authorization", [self.proxy.authorization])
        return self.by_proxy.request(method, uri, headers, bodyProducer)
