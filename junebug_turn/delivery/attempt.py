"""A single attempt of a delivery: one POST, through treq."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http_headers import Headers

from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.http_client import WholeBody, failure_reason, read_away
from junebug_turn.delivery.retry import is_misconfiguration, is_passing, retry_after
from junebug_turn.delivery.signature import Webhook


@frozen
class Fault:
    """How one attempt failed: ``retry_after`` is in seconds, where the destination asked for them.

    :ivar misconfigured: whether the answer blames a configured URL or its credentials
    """

    reason: str
    status: int | None = None
    retry_after: float | None = None
    misconfigured: bool = False

    @property
    def passing(self) -> bool:
        if self.reason == "forbidden_address":
            return False
        return self.status is None or self.misconfigured or is_passing(self.status)

    @property
    def cause(self) -> str:
        """A word for the metrics."""
        return f"http_{self.status}" if self.reason == "http_status" else self.reason

    def __str__(self) -> str:
        return f"HTTP status {self.status}" if self.reason == "http_status" else self.reason


@frozen
class Post:
    """What a chain sends with each attempt."""

    destination: Destination
    body: bytes
    timeout: float
    webhook: Webhook | None
    configured: bool

    def headers(self, now: float) -> Headers:
        """Those of an attempt that is made at ``now``, in Unix seconds."""
        headers = self.destination.headers
        if self.webhook is not None:
            headers = headers.copy()
            for name, value in self.webhook.headers(now, self.body).items():
                headers.setRawHeaders(name, [value])
        return headers


class Poster:
    """Makes attempts.

    :param clock: counts their time limits
    """

    def __init__(self, reactor: Any, clock: Any) -> None:
        self._reactor = reactor
        self._clock = clock

    async def post(self, client: HTTPClient, post: Post) -> Fault | None:
        """How one POST failed; None after a 2xx.  Can be cancelled."""
        expired = cancelled = False

        def expire() -> None:
            nonlocal expired
            expired = True
            request.cancel()

        def cancel(_: Deferred[Fault | None]) -> None:
            nonlocal cancelled
            cancelled = True
            request.cancel()

        # What a request that is cancelled fails with depends on how far it has come: ask who cancelled it.
        done: Deferred[Fault | None] = Deferred(cancel)
        request = Deferred.fromCoroutine(self._request(client, post))
        request.chainDeferred(done)
        limit = self._clock.callLater(post.timeout, expire)
        try:
            return await done
        except Exception as error:
            if cancelled:
                raise CancelledError() from None
            if expired:
                return Fault("timeout")
            reason = failure_reason(error)
            if reason is None:
                raise
            return Fault(reason)
        finally:
            if limit.active():
                limit.cancel()

    async def _request(self, client: HTTPClient, post: Post) -> Fault | None:
        response: Any = await client.request(
            "POST",
            post.destination.wire_url,
            headers=post.headers(self._clock.seconds()),
            data=post.body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        await read_away(response)
        status = response.code
        if 200 <= status < 300:
            return None
        wait = None
        if status in (429, 503):
            header = response.headers.getRawHeaders(b"Retry-After", [None])[0]
            wait = retry_after(header, self._clock.seconds())
        return Fault("http_status", status, wait, post.configured and is_misconfiguration(status))


class _Client(HTTPClient):
    """treq's client, which only posts: no cookies, redirects or unpacking are made ready for each request."""

    def request(
        self, method: str, url: Any, *, headers: Any = None, data: Any = None, **options: Any
    ) -> Deferred[Any]:
        return self._agent.request(
            method.encode("ascii"), url.to_text().encode("ascii"), headers, WholeBody(data)
        )


def make_client(agent: Any) -> HTTPClient:
    """A client for ``Poster`` that makes its requests with ``agent``."""
    return _Client(agent)
