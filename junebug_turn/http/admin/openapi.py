"""``GET /openapi.json``, and the part of the document for the daemon's own pages.

Tested by tests/integration/test_openapi.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from twisted.web.iweb import IRequest

from junebug_turn.http.admin.health import Health
from junebug_turn.http.admin.metrics import MetricsPage
from junebug_turn.http.admin.page import Page
from junebug_turn.http.admin.probes import Liveness, Readiness
from junebug_turn.http.json import line_of_json, write_body
from junebug_turn.http.openapi import OBJECT, TEXT, TEXT_SCHEMA, Operation, Part, record


class OpenApiPage(Page):
    """OpenAPI document of every API that runs.

    :param document: makes it, when it is asked for the first time
    """

    path = "/openapi.json"

    def __init__(self, document: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__()
        self._document = document
        self._body = b""

    def write(self, request: IRequest) -> bytes:
        """Answer 200."""
        self._body = self._body or line_of_json(self._document())
        return write_body(request, HTTPStatus.OK, self._body)


_COMPONENTS = record({"health": {"enum": ["ok", "down"]}, "components": OBJECT, "result": {}})

PAGES = Part(
    title="Pages of the daemon",
    operations={
        Health.path: {
            "get": Operation(
                id="health",
                summary="Whether messages can flow, with the state of each part: 200, or 500 when they can't.",
                schema=_COMPONENTS,
            )
        },
        Liveness.path: {
            "get": Operation(
                id="live", summary="Whether the process runs.", schema=record({"live": {"const": True}})
            )
        },
        Readiness.path: {
            "get": Operation(
                id="ready",
                summary="Whether requests can be served now: 200, or 503 when they can't.",
                schema=record({"ready": {"type": "boolean"}}),
            )
        },
        MetricsPage.path: {
            "get": Operation(
                id="metrics", summary="The metrics, for Prometheus.", schema=TEXT_SCHEMA, media=TEXT
            )
        },
        OpenApiPage.path: {"get": Operation(id="openapi", summary="This document.")},
    },
    failures={
        "health": {500: _COMPONENTS},
        "ready": {503: record({"ready": {"const": False}, "reason": TEXT_SCHEMA})},
    },
)
