"""``GET /health``: one body that both kinds of old clients can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from junebug_turn.errors import MethodNotAllowed, NotFound
from junebug_turn.jsonapi import write_json


class Health(Resource):
    """Tells whether messages can flow.

    :param components: returns, for each component, its state; the key ``ok`` of each says whether it is well
    """

    isLeaf = True

    def __init__(self, components: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
        super().__init__()
        self._components = components

    def render(self, request: IRequest) -> bytes:
        """200 when all components are well, else 500."""
        if request.postpath not in ([], [b""]):
            raise NotFound("there is nothing below /health")
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed("/health takes GET only", ("GET", "HEAD"))
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
