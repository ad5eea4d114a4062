"""``GET /metrics``, for Prometheus."""

from __future__ import annotations

from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from junebug_turn.errors import MethodNotAllowed, NotFound
from junebug_turn.metrics import CONTENT_TYPE, Metrics


class MetricsPage(Resource):
    """The metrics as text."""

    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render(self, request: IRequest) -> bytes:
        """200, whatever is down."""
        if request.postpath not in ([], [b""]):
            raise NotFound("there is nothing below /metrics")
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed("/metrics takes GET only", ("GET", "HEAD"))
        body = self._metrics.text()
        request.setHeader(b"content-type", CONTENT_TYPE.encode("ascii"))
        request.setHeader(b"content-length", b"%d" % len(body))
        return body
