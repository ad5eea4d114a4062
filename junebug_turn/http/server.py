"""The HTTP server: which application has which path, and requests under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site

from junebug_turn.errors import Answer, ChannelNotFound, NotFound, ShuttingDown
from junebug_turn.http.connection import ApiChannel
from junebug_turn.http.connection_limits import Connections
from junebug_turn.http.options import LimitOptions
from junebug_turn.http.request import ApiRequest
from junebug_turn.telemetry.logging.level import debugging
from junebug_turn.telemetry.metrics import Metrics


@frozen
class Mount:
    """What is at a path and below it.

    :ivar connector: that of its application, for the metrics; empty where it is of none
    :ivar to_json: the JSON of an error that is told before the resource is asked
    """

    resource: IResource
    connector: str = ""
    to_json: Callable[[Answer], Any] = Answer.envelope


class Root(Resource):
    """Routes a request to the resource that is mounted at the longest prefix of its path.

    :param mounts: path, as ``/channels/demo`` or the empty string -> what is there
    """

    isLeaf = True

    def __init__(self, mounts: Mapping[str, Mount]) -> None:
        super().__init__()
        self._mounts = {tuple(path.encode("utf-8").split(b"/")[1:]): mounts[path] for path in mounts}
        self._lengths = sorted({len(segments) for segments in self._mounts}, reverse=True)
        self._elsewhere = Mount(self)

    def find(self, segments: list[bytes]) -> tuple[Mount, int]:
        """What is mounted at a path of these segments, and how many of them lead to it; elsewhere the root itself."""
        for length in self._lengths:
            mount = self._mounts.get(tuple(segments[:length]))
            if mount is not None:
                return mount, length
        return self._elsewhere, 0

    def render(self, request: Any) -> Any:
        """Let the mounted resource answer.

        :raises NotFound: there is none
        """
        segments = request.postpath
        path = _text(segments)
        mount, length = request.mount, request.depth
        if mount is not self._elsewhere:
            request.postpath = segments[length:]
            return mount.resource.render(request)
        if segments[0] == b"channels" and len(segments) > 1:
            raise ChannelNotFound(f"there is no channel {_text(segments[1:2])[1:]} here")
        raise NotFound(f"there is nothing at {path}")


def _text(segments: list[bytes]) -> str:
    try:
        return "/" + b"/".join(segments).decode("utf-8")
    except UnicodeDecodeError:
        raise NotFound("the path is not UTF-8") from None


class ApiSite(Site):
    """The server behind one address.

    :ivar limits: what a client may send, and in which time
    :ivar connections: counts those of all servers of the daemon
    """

    protocol = ApiChannel  # type: ignore[assignment]  # by itself: nobody negotiates HTTP/2 past it
    requestFactory = ApiRequest
    displayTracebacks = False
    noisy = False
    access = Logger()

    def __init__(
        self,
        root: Root,
        reactor: IReactorTime,
        *,
        limits: LimitOptions | None = None,
        connections: Connections | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(root, reactor=reactor)
        self.timeOut = None  # the channel has its own
        self._metrics = metrics or Metrics()
        self._root = root
        self.limits = limits or LimitOptions()
        self.connections = connections or Connections(
            reactor, self.limits.max_connections, self.limits.max_connections_per_client
        )
        self._under_way = 0
        self._draining: Deferred[None] | None = None

    def find(self, segments: list[bytes]) -> tuple[Mount, int]:
        """See ``Root.find``."""
        return self._root.find(segments)

    def refused(self, mount: Mount, status: int) -> None:
        """Count a request that was answered before it had arrived as a whole."""
        self._metrics.request(mount.connector, str(status), None)

    def admit(self, request: ApiRequest) -> None:
        """Count a request until it ends, and have the metrics learn how it does, and after how long.

        :raises ShuttingDown: the server is going down
        """
        start, admitted = self.reactor.seconds(), self._draining is None

        def ended(gone: object) -> None:
            status = str(request.code) if gone is None else "gone"
            self._metrics.request(request.mount.connector, status, self.reactor.seconds() - start)
            if admitted:
                self._ended()

        request.notifyFinish().addBoth(ended)
        if not admitted:
            request.setHeader(b"connection", b"close")
            raise ShuttingDown("the service is shutting down")
        self._under_way += 1

    def _ended(self) -> None:
        self._under_way -= 1
        if self._under_way == 0 and self._draining is not None and not self._draining.called:
            self._draining.callback(None)

    def log(self, request: Any) -> None:
        """Tell of an answered request, for who debugs: a line for each would cost a sixth of the request."""
        if debugging():
            self.access.debug(
                "{client} {method} {path}: {status}",
                client=getattr(request.getClientAddress(), "host", "?"),
                method=request.method.decode("ascii", "replace"),
                path=request.path.decode("utf-8", "replace"),
                status=request.code,
            )

    def drain(self) -> Deferred[None]:
        """Refuse new requests from now on; fires when none is under way."""
        self._draining = succeed(None) if self._under_way == 0 else Deferred()
        return self._draining

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS can negotiate: HTTP/1.1 only, the one that the limits are for."""
        return [b"http/1.1"]
