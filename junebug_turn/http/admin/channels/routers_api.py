"""Routes of Junebug's HTTP API for routers and their destinations: ``/routers/`` and all below it.

Tested by tests/integration/test_routers.py.
"""

from __future__ import annotations

from typing import Any

from junebug_turn.http.admin.channels import schemas
from junebug_turn.http.admin.channels.api import Api, CheckMessage, answer, hand_on, limit_of
from junebug_turn.http.admin.channels.backend import Routers
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router


class RoutersApi(Api):
    """The routes below ``/routers``.

    :param check_message: as ``ChannelsApi`` has it
    """

    router = Router()

    def __init__(self, routers: Routers, check_message: CheckMessage, max_json_depth: int) -> None:
        super().__init__(max_json_depth)
        self._routers = routers
        self._check_message = check_message

    @router.route("/routers", methods=["GET"])
    async def list_routers(self, request: ApiRequest) -> bytes:
        """Answer with the ids of all routers."""
        return answer(request, 200, "routers retrieved", await self._routers.ids())

    @router.route("/routers", methods=["POST"])
    async def create(self, request: ApiRequest) -> bytes:
        """Make a router."""
        properties = self._body(request, schemas.ROUTER)
        return answer(request, 201, "router created", await self._routers.create(properties))

    @router.route("/routers/<id>", methods=["GET"])
    async def show(self, request: ApiRequest, id: str) -> bytes:
        """Answer with a router's definition."""
        return answer(request, 200, "router found", await self._routers.show(id))

    @router.route("/routers/<id>", methods=["PUT"])
    async def replace(self, request: ApiRequest, id: str) -> bytes:
        """Replace all properties of a router."""
        properties = self._body(request, schemas.ROUTER)
        found = await self._routers.update(id, properties, replace=True)
        return answer(request, 200, "router updated", found)

    @router.route("/routers/<id>", methods=["PATCH"])
    async def update(self, request: ApiRequest, id: str) -> bytes:
        """Change properties of a router."""
        changes = self._body(request, schemas.ROUTER_CHANGES)
        found = await self._routers.update(id, changes, replace=False)
        return answer(request, 200, "router updated", found)

    @router.route("/routers/<id>", methods=["DELETE"])
    async def delete(self, request: ApiRequest, id: str) -> bytes:
        """Delete a router with its destinations."""
        await self._routers.delete(id)
        return answer(request, 200, "router deleted", {})

    @router.route("/routers/<id>/logs", methods=["GET"])
    async def logs(self, request: ApiRequest, id: str) -> bytes:
        """Answer with the last log lines about a router."""
        return answer(request, 200, "logs retrieved", await self._routers.logs(id, limit_of(request)))

    @router.route("/routers/<id>/destinations", methods=["GET"])
    async def list_destinations(self, request: ApiRequest, id: str) -> bytes:
        """Answer with the ids of a router's destinations."""
        return answer(request, 200, "destinations retrieved", await self._routers.destinations(id))

    @router.route("/routers/<id>/destinations", methods=["POST"])
    async def create_destination(self, request: ApiRequest, id: str) -> bytes:
        """Make a destination."""
        properties = self._body(request, schemas.DESTINATION)
        found = await self._routers.create_destination(id, properties)
        return answer(request, 201, "destination created", found)

    @router.route("/routers/<id>/destinations/<destination>", methods=["GET"])
    async def show_destination(self, request: ApiRequest, id: str, destination: str) -> bytes:
        """Answer with a destination's definition."""
        found = await self._routers.show_destination(id, destination)
        return answer(request, 200, "destination found", found)

    @router.route("/routers/<id>/destinations/<destination>", methods=["PUT"])
    async def replace_destination(self, request: ApiRequest, id: str, destination: str) -> bytes:
        """Replace all properties of a destination."""
        properties = self._body(request, schemas.DESTINATION)
        found = await self._routers.update_destination(id, destination, properties, replace=True)
        return answer(request, 200, "destination updated", found)

    @router.route("/routers/<id>/destinations/<destination>", methods=["PATCH"])
    async def update_destination(self, request: ApiRequest, id: str, destination: str) -> bytes:
        """Change properties of a destination."""
        changes = self._body(request, schemas.DESTINATION_CHANGES)
        found = await self._routers.update_destination(id, destination, changes, replace=False)
        return answer(request, 200, "destination updated", found)

    @router.route("/routers/<id>/destinations/<destination>", methods=["DELETE"])
    async def delete_destination(self, request: ApiRequest, id: str, destination: str) -> bytes:
        """Delete a destination."""
        await self._routers.delete_destination(id, destination)
        return answer(request, 200, "destination deleted", {})

    @router.route("/routers/<id>/destinations/<destination>/messages", methods=["POST"])
    async def send(self, request: ApiRequest, id: str, destination: str) -> Any:
        """Have the destination's application send a message."""
        self._check_message(self._json(request))
        request.content.seek(0)
        return await self._hand_on(request, id, destination)

    @router.route("/routers/<id>/destinations/<destination>/messages/<message_id>", methods=["GET"])
    async def message_status(self, request: ApiRequest, id: str, destination: str, message_id: str) -> Any:
        """Have the destination's application answer with a message's status."""
        return await self._hand_on(request, id, destination, message_id)

    async def _hand_on(self, request: ApiRequest, id: str, destination: str, *path: str) -> Any:
        return hand_on(request, await self._routers.application(id, destination), *path)
