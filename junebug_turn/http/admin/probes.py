"""Probes of an orchestrator: ``GET /health/live`` and ``GET /health/ready``."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from twisted.web.iweb import IRequest

from junebug_turn.http.admin.page import Page
from junebug_turn.http.json import write_json


class Liveness(Page):
    """Liveness probe: whether the process still answers.

    A process without its broker is alive: a new start would help nobody.
    """

    path = "/health/live"

    def write(self, request: IRequest) -> bytes:
        """Answer 200."""
        return write_json(request, HTTPStatus.OK, {"live": True})


class Readiness(Page):
    """Readiness probe: whether requests can be served now.

    :param obstacle: returns the reason, in a few words, why none can; None where they can
    """

    path = "/health/ready"

    def __init__(self, obstacle: Callable[[], str | None]) -> None:
        super().__init__()
        self._obstacle = obstacle

    def write(self, request: IRequest) -> bytes:
        """Answer 200, or 503 with the reason."""
        reason = self._obstacle()
        if reason is None:
            return write_json(request, HTTPStatus.OK, {"ready": True})
        return write_json(request, HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "reason": reason})
