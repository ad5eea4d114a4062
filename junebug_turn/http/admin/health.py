"""``GET /health``: one body that both kinds of old clients can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from twisted.web.iweb import IRequest

from junebug_turn.http.admin.page import Page
from junebug_turn.http.json import write_json


class Health(Page):
    """Tells whether messages can flow.

    :param components: returns, for each component, its state; the key ``ok`` of each says whether it is well
    """

    path = "/health"

    def __init__(self, components: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
        super().__init__()
        self._components = components

    def write(self, request: IRequest) -> bytes:
        """200 when all components are well, else 500."""
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
