"""``GET /metrics``, for Prometheus."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from junebug_turn.http.admin.page import Page
from junebug_turn.telemetry.metrics import CONTENT_TYPE, Metrics

MAX_AGE = 1.0
"""Seconds in which the text is made once: that of 500 connectors takes a second of CPU."""


class MetricsPage(Page):
    """Metrics page, in the text format of Prometheus.

    The text is made in pieces, and others are answered between them.  All requests get the same one until it is
    ``MAX_AGE`` old.
    """

    path = "/metrics"

    def __init__(self, metrics: Metrics, clock: IReactorTime) -> None:
        super().__init__()
        self._metrics = metrics
        self._clock = clock
        # One piece in each turn of the reactor.
        self._cooperator = Cooperator(lambda: lambda: True, partial(clock.callLater, 0))
        self._text = b""
        self._until: float | None = None
        self._making = False
        self._waiting: list[Any] = []

    def write(self, request: Any) -> Any:
        """Answer 200, also when a component doesn't work."""
        if self._until is not None and self._clock.seconds() < self._until:
            return self._body(request)
        self._waiting.append(request)
        request.notifyFinish().addErrback(lambda _: self._waiting.remove(request))
        if not self._making:
            self._make()
        return NOT_DONE_YET

    def _make(self) -> None:
        self._making = True
        pieces: list[bytes] = []
        making = self._cooperator.coiterate(map(pieces.append, self._metrics.text()))
        making.addCallbacks(lambda _: self._made(b"".join(pieces)), self._failed)

    def _made(self, text: bytes) -> None:
        self._making = False
        self._text = text
        self._until = self._clock.seconds() + MAX_AGE
        while self._waiting:
            request = self._waiting.pop()
            request.write(self._body(request))
            request.finish()

    def _failed(self, failure: Failure) -> None:
        self._making = False
        while self._waiting:
            self._waiting.pop().processingFailed(failure)

    def _body(self, request: Any) -> bytes:
        request.setHeader(b"content-type", CONTENT_TYPE.encode("ascii"))
        request.setHeader(b"content-length", b"%d" % len(self._text))
        return self._text
