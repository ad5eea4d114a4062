"""The HTTP server of one address: its mounts, its limits, and the requests under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Site

from junebug_turn.errors import ShuttingDown
from junebug_turn.http.connection import ApiConnection
from junebug_turn.http.connection_limits import ConnectionLimits
from junebug_turn.http.mounts import Mount, Mounts
from junebug_turn.http.options import LimitOptions
from junebug_turn.http.request import ApiRequest
from junebug_turn.telemetry.context import debugging
from junebug_turn.telemetry.metrics import Metrics


class ApiSite(Site):
    """The server of one address.

    :param mounts: path, as ``/channels/demo`` or the empty string -> mount
    :param limits: the bounds of a request's size and time
    :param connections: counts the connections of all servers of the daemon
    :ivar under_way: the number of requests under way
    """

    protocol = ApiConnection  # type: ignore[assignment]  # not Twisted's, which could negotiate HTTP/2
    requestFactory = ApiRequest
    displayTracebacks = False
    noisy = False
    access = Logger()

    def __init__(
        self,
        mounts: Mapping[str, Mount],
        reactor: IReactorTime,
        *,
        limits: LimitOptions,
        connections: ConnectionLimits,
        metrics: Metrics,
    ) -> None:
        # Site's own resource is never used: a request finds its resource by the mounts.
        super().__init__(Resource(), reactor=reactor)
        self.timeOut = None  # the connection has its own
        self.mounts = Mounts(mounts)
        self.limits = limits
        self.connections = connections
        self._metrics = metrics
        self.under_way = 0
        self._closing = False
        self._large: deque[ApiRequest] = deque()
        self._draining: Deferred[None] | None = None

    def count_refusal(self, request: ApiRequest) -> None:
        """Count a request that was answered before it was complete."""
        self._metrics.request(request.mount.connector, str(request.code), None)

    def process_in_turn(self, request: ApiRequest) -> None:
        """Process a large request in a turn of the reactor that no other large one has.

        Those of many connections that came in one turn would take all of it together, and everybody else would wait.
        """
        self._large.append(request)
        if len(self._large) == 1:
            self.reactor.callLater(0, self._process_next)

    def _process_next(self) -> None:
        request = self._large.popleft()
        if self._large:
            self.reactor.callLater(0, self._process_next)
        request.process()

    def admit(self, request: ApiRequest) -> None:
        """Count a request as under way until it ends, and give its status and duration to the metrics then.

        :raises ShuttingDown: the server is draining
        """
        start, admitted = self.reactor.seconds(), self._draining is None

        def ended(gone: object) -> None:
            status = str(request.code) if gone is None else "gone"
            self._metrics.request(request.mount.connector, status, self.reactor.seconds() - start)
            if admitted:
                self._ended()

        request.notifyFinish().addBoth(ended)
        if self._closing:
            request.setHeader(b"connection", b"close")
            request.channel.persistent = False
        if admitted:
            self.under_way += 1
        elif not request.mount.while_stopping:
            raise ShuttingDown("the service is shutting down")

    def _ended(self) -> None:
        self.under_way -= 1
        if self.under_way == 0 and self._draining is not None and not self._draining.called:
            self._draining.callback(None)

    def log(self, request: Any) -> None:
        """Log an answered request at debug only: a line for each would cost a sixth of the request."""
        if debugging():
            self.access.debug(
                "{client} {method} {path}: {status}",
                client=getattr(request.getClientAddress(), "host", "?"),
                method=request.method.decode("ascii", "replace"),
                path=request.path.decode("utf-8", "replace"),
                status=request.code,
            )

    def close_connections(self) -> None:
        """Have each answer from now on end its connection, so that the client's next request goes elsewhere."""
        self._closing = True

    def drain(self) -> Deferred[None]:
        """Refuse new requests from now on; the Deferred fires when none is under way."""
        self._closing = True
        self._draining = succeed(None) if self.under_way == 0 else Deferred()
        return self._draining

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols that TLS can negotiate: HTTP/1.1 only, since the limits are for it."""
        return [b"http/1.1"]
