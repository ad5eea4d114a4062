"""One attempt of a delivery: one POST (or GET), and how it failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import attrs
from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.web.client import RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.http_client import HttpClient, excerpt
from junebug_turn.delivery.refusal_text import RefusalReader, clean
from junebug_turn.delivery.retry import is_misconfiguration, is_passing, retry_after
from junebug_turn.delivery.signature import Webhook
from junebug_turn.net.clocks import WALL_CLOCK, WallClock
from junebug_turn.net.endpoints import ForbiddenAddress
from junebug_turn.net.proxies import ProxyFault
from junebug_turn.net.tls import CertificateRefused
from junebug_turn.telemetry.tracing import CLIENT, Span, TraceContext, start


@frozen
class Fault:
    """Failure of one attempt.

    :ivar retry_after: seconds that the destination asked for
    :ivar misconfigured: whether the answer blames a configured URL or its credentials
    :ivar reached: whether the request may have got to the destination
    :ivar text: the destination's own words, safe to log; empty: none
    :ivar detail: further words for the log
    """

    reason: str
    status: int | None = None
    retry_after: float | None = None
    misconfigured: bool = False
    reached: bool = True
    text: str = ""
    detail: str = ""

    @property
    def limited(self) -> bool:
        """Whether the destination asks for fewer calls: that says nothing about the message, nor that it is down."""
        return self.status == 429

    @property
    def passing(self) -> bool:
        if self.reason == "forbidden_address":
            return False
        return self.status is None or self.misconfigured or is_passing(self.status)

    @property
    def cause(self) -> str:
        """A word for the metrics, of bounded number: an unknown HTTP status has the word of its class."""
        if self.status is None:
            return self.reason
        return f"http_{self.status}" if self.status in _KNOWN else f"http_{self.status // 100}xx"

    def __str__(self) -> str:
        words = f"HTTP status {self.status}" if self.reason == "http_status" else self.reason
        return f"{words}, {self.detail}" if self.detail else words

    @property
    def quoted(self) -> str:
        """The destination's own words in brackets, to follow a reason; empty: none."""
        return f" ({self.text})" if self.text else ""


_STATUSES = range(100, 600)
_KNOWN = frozenset(HTTPStatus)

_NO_CONNECTION = (ConnectError, ConnectTimeout, DNSLookupError, ProxyFault)


@frozen
class Post:
    """Request that each attempt of a delivery makes.

    :ivar timeout: seconds
    :ivar configured: whether the URL is from the configuration
    :ivar connector: for the metrics, as ``kind``
    :ivar read_refusal: reads the destination's words from the body of its refusal; None: they are not read
    :ivar trace: goes with the request
    """

    destination: Destination
    body: bytes
    timeout: float
    webhook: Webhook | None
    configured: bool
    connector: str
    kind: str
    read_refusal: RefusalReader | None = None
    trace: TraceContext | None = None

    def headers(self, now: float) -> Headers:
        """Make the headers of an attempt at ``now``, in Unix seconds."""
        headers = self.destination.headers
        if self.webhook is None and self.trace is None:
            return headers
        headers = headers.copy()
        if self.trace is not None:
            for name, value in self.trace.headers().items():
                headers.setRawHeaders(name, [value])
        if self.webhook is not None:
            for name, value in self.webhook.headers(now, self.body).items():
                headers.setRawHeaders(name, [value])
        return headers


def attempt(
    post: Post,
    client: HttpClient,
    clock: Any,
    wall_clock: WallClock = WALL_CLOCK,
    ended: Callable[[IResponse | None], None] = lambda _: None,
) -> Awaitable[Fault | None]:
    """Make the request once; return how it failed, None after a 2xx.  Can be cancelled.

    :param clock: counts the time limit
    :param wall_clock: dates the request
    :param ended: called at its end with the answer, or None where there was none
    """
    destination = post.destination
    span = start(CLIENT, post.trace, destination.method, destination.origin, delivery=post.kind)
    if span is None:
        return _attempt(post, client, clock, wall_clock, ended)
    return _recorded(span, _attempt(attrs.evolve(post, trace=span.context), client, clock, wall_clock, ended))


async def _recorded(span: Span, making: Awaitable[Fault | None]) -> Fault | None:
    """Make a request within its span."""
    fault = None
    try:
        fault = await making
        return fault
    finally:
        span.end("" if fault is None else fault.cause)


async def _attempt(
    post: Post,
    client: HttpClient,
    clock: Any,
    wall_clock: WallClock,
    ended: Callable[[IResponse | None], None],
) -> Fault | None:
    expired = cancelled = False
    response: IResponse | None = None

    def expire() -> None:
        nonlocal expired
        expired = True
        request.cancel()

    def cancel(_: Deferred[IResponse]) -> None:
        nonlocal cancelled
        cancelled = True
        request.cancel()

    # The exception of a request that is cancelled depends on how far it has come, so the canceller is noted.
    done: Deferred[IResponse] = Deferred(cancel)
    limit = clock.callLater(post.timeout, expire)
    try:
        request = client.request(
            post.destination.method, post.destination.wire_url, post.headers(wall_clock.now()), post.body
        )
        request.chainDeferred(done)
        response = await done
    except Exception as error:
        if cancelled:
            raise CancelledError() from None
        if expired:
            return Fault("timeout", detail=_through(post, client))
        reason = failure_reason(error)
        if reason is None:
            raise
        reached = not (reason == "tls" or isinstance(error, _NO_CONNECTION))
        detail = str(error) if isinstance(error, ProxyFault) else _through(post, client)
        return Fault(reason, reached=reached, detail=detail)
    finally:
        if limit.active():
            limit.cancel()
        ended(response)
    status = response.code
    if status not in _STATUSES:
        # No HTTP: what is copied, counted and logged further on has only numbers that can be one.
        return Fault("connection", detail=_through(post, client))
    if 200 <= status < 300:
        return None
    wait = None
    if status in (429, 503):
        header = response.headers.getRawHeaders(b"Retry-After", [None])[0]
        wait = retry_after(header, wall_clock.now())
    proxy = client.proxy(post.destination.origin)
    if status == 407 and proxy is not None:
        # No other than a proxy has this status.
        return Fault("proxy", reached=False, detail=str(proxy.fault(407)))
    text = ""
    if post.read_refusal is not None and status >= 400:
        text = clean(post.read_refusal(await excerpt(response)), post.destination.authorization)
    misconfigured = post.configured and is_misconfiguration(status)
    return Fault("http_status", status, wait, misconfigured, text=text, detail=_through(post, client))


def _through(post: Post, client: HttpClient) -> str:
    """Name the proxy, which may be the cause of a failure; empty without one."""
    proxy = client.proxy(post.destination.origin)
    return "" if proxy is None else f"through {proxy.name}"


def failure_reason(error: BaseException) -> str | None:
    """Return the word for an exception that a request ended with; None for a bug."""
    if isinstance(error, ResponseFailed | RequestTransmissionFailed):
        reasons = [failure_reason(failure.value) for failure in error.reasons]
        return next((reason for reason in reasons if reason), "connection")
    if isinstance(error, ProxyFault):
        return "proxy"
    if isinstance(error, ForbiddenAddress):
        return "forbidden_address"
    if isinstance(error, DNSLookupError):
        return "dns"
    if isinstance(error, SSL.Error | CertificateRefused):
        return "tls"
    if isinstance(error, ConnectTimeout):
        return "timeout"
    if isinstance(error, ConnectError | ConnectionClosed | OSError):
        return "connection"
    return None
