"""``GET /health``: the state of the daemon, in one body for the clients of both old services."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from twisted.web.iweb import IRequest

from junebug_turn.http.admin.page import Page
from junebug_turn.http.json import write_json


class Health(Page):
    """Health page: whether messages can flow.

    :param components: returns the state of each component, in which ``ok`` is true for a component that works
    """

    path = "/health"
    slash = True  # as the other paths of Junebug's API

    def __init__(self, components: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
        super().__init__()
        self._components = components

    def write(self, request: IRequest) -> bytes:
        """Answer 200 when all components are ok, else 500."""
        components = self._components()
        well = all(component["ok"] for component in components.values())
        status = HTTPStatus.OK if well else HTTPStatus.INTERNAL_SERVER_ERROR
        word = "ok" if well else "down"
        body = {
            "health": word,
            "components": components,
            "status": status.value,
            "code": status.phrase,
            "description": f"health {word}",
            "result": components,
        }
        return write_json(request, status, body)
