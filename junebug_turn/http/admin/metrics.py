"""``GET /metrics``, for Prometheus."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from junebug_turn.http.admin.page import Page
from junebug_turn.telemetry.metrics import CONTENT_TYPE, Metrics

MAX_AGE = 1.0
"""Seconds in which the text is made once: making it takes some milliseconds, in which nobody else is answered."""


class MetricsPage(Page):
    """Metrics page, in the text format of Prometheus."""

    path = "/metrics"

    def __init__(self, metrics: Metrics, clock: IReactorTime) -> None:
        super().__init__()
        self._metrics = metrics
        self._clock = clock
        self._text = b""
        self._until: float | None = None

    def write(self, request: IRequest) -> bytes:
        """Answer 200, also when a component doesn't work; all requests within ``MAX_AGE`` have the same text."""
        now = self._clock.seconds()
        if self._until is None or now >= self._until:
            self._text = self._metrics.text()
            self._until = now + MAX_AGE
        body = self._text
        request.setHeader(b"content-type", CONTENT_TYPE.encode("ascii"))
        request.setHeader(b"content-length", b"%d" % len(body))
        return body
