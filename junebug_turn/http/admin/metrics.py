"""``GET /metrics``, for Prometheus."""

from __future__ import annotations

from twisted.web.iweb import IRequest

from junebug_turn.http.admin.page import Page
from junebug_turn.telemetry.metrics import CONTENT_TYPE, Metrics


class MetricsPage(Page):
    """Metrics page, in the text format of Prometheus."""

    path = "/metrics"

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def write(self, request: IRequest) -> bytes:
        """Answer 200, also when a component doesn't work."""
        body = self._metrics.text()
        request.setHeader(b"content-type", CONTENT_TYPE.encode("ascii"))
        request.setHeader(b"content-length", b"%d" % len(body))
        return body
