"""Routes of Junebug's HTTP API for channels: ``/channels/`` and all below it.

Tested by tests/integration/test_channels.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote

from twisted.web.resource import IResource, Resource

from junebug_turn.errors import ApiUsageError
from junebug_turn.http.admin.channels import schemas
from junebug_turn.http.admin.channels.backend import Channels
from junebug_turn.http.content_encoding import decode
from junebug_turn.http.json import read_json, write_json
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router

CheckMessage = Callable[[Any], object]
"""Checks the JSON of an outbound message, and raises what its sender gets as the answer."""


class Api:
    """Base of the APIs for channels and for routers.

    :param max_json_depth: the deepest nesting of arrays and objects in a request's JSON
    """

    def __init__(self, max_json_depth: int) -> None:
        self._max_json_depth = max_json_depth

    def _body(self, request: ApiRequest, schema: Any) -> dict[str, Any]:
        return schemas.check(self._json(request), schema)

    def _json(self, request: ApiRequest) -> Any:
        return read_json(decode(request, request.content.read()), self._max_json_depth)


def answer(request: ApiRequest, status: int, description: str, result: Any) -> bytes:
    """Write the answer to a request that succeeded, in Junebug's form."""
    code = "Created" if status == 201 else "OK"
    return write_json(
        request, status, {"status": status, "code": code, "description": description, "result": result}
    )


def limit_of(request: ApiRequest) -> int | None:
    """Return the ``n`` in a request's query.

    :raises ApiUsageError: it is no number
    """
    found = parse_qs(request.uri.partition(b"?")[2].decode("latin-1")).get("n")
    if not found:
        return None
    try:
        return int(found[0][:20])
    except ValueError:
        raise ApiUsageError("n must be a whole number") from None


def hand_on(request: ApiRequest, application: IResource, *path: str) -> Any:
    """Have an application answer a request to its messages, or to one below."""
    request.postpath = []
    return Below(application, "messages", *path).render(request)


class ChannelsApi(Api):
    """The routes below ``/channels``.

    :param check_message: checks a message for a channel that can't take it, so that its sender learns of faults in
        the same order as anywhere
    """

    router = Router()

    def __init__(self, channels: Channels, check_message: CheckMessage, max_json_depth: int) -> None:
        super().__init__(max_json_depth)
        self._channels = channels
        self._check_message = check_message

    @router.route("/channels", methods=["GET"])
    async def list_channels(self, request: ApiRequest) -> bytes:
        """Answer with the ids of all channels."""
        return answer(request, 200, "channels listed", await self._channels.ids())

    @router.route("/channels", methods=["POST"])
    async def create(self, request: ApiRequest) -> bytes:
        """Make a channel."""
        properties = self._body(request, schemas.NEW_CHANNEL)
        return answer(request, 201, "channel created", await self._channels.create(properties))

    @router.route("/channels/<id>", methods=["GET"])
    async def show(self, request: ApiRequest, id: str) -> bytes:
        """Answer with a channel's properties and status."""
        return answer(request, 200, "channel found", await self._channels.show(id))

    @router.route("/channels/<id>", methods=["POST"])
    async def update(self, request: ApiRequest, id: str) -> bytes:
        """Change properties of a channel."""
        changes = self._body(request, schemas.CHANNEL_CHANGES)
        return answer(request, 200, "channel updated", await self._channels.update(id, changes))

    @router.route("/channels/<id>", methods=["DELETE"])
    async def delete(self, request: ApiRequest, id: str) -> bytes:
        """Delete a channel."""
        await self._channels.delete(id)
        return answer(request, 200, "channel deleted", {})

    @router.route("/channels/<id>/restart", methods=["POST"])
    async def restart(self, request: ApiRequest, id: str) -> bytes:
        """Restart a channel's consumers."""
        await self._channels.restart(id)
        return answer(request, 200, "channel restarted", {})

    @router.route("/channels/<id>/logs", methods=["GET"])
    async def logs(self, request: ApiRequest, id: str) -> bytes:
        """Answer with the last log lines about a channel."""
        return answer(request, 200, "logs retrieved", await self._channels.logs(id, limit_of(request)))

    @router.route("/channels/<id>/messages", methods=["POST"])
    async def send(self, request: ApiRequest, id: str) -> Any:
        """Have the channel's application send a message: this daemon may just have learned of the channel."""
        self._check_message(self._json(request))
        request.content.seek(0)
        return await self._hand_on(request, id)

    @router.route("/channels/<id>/messages/<message_id>", methods=["GET"])
    async def message_status(self, request: ApiRequest, id: str, message_id: str) -> Any:
        """Have the channel's application answer with a message's status."""
        return await self._hand_on(request, id, message_id)

    async def _hand_on(self, request: ApiRequest, id: str, *path: str) -> Any:
        return hand_on(request, await self._channels.application(id), *path)


class Below(Resource):
    """A resource that hands requests on with their path below ``start``: one API can be mounted at many paths."""

    isLeaf = True

    def __init__(self, inner: IResource, *start: str) -> None:
        super().__init__()
        self._inner = inner
        self._start = [quote(segment, safe="").encode("ascii") for segment in start]

    def render(self, request: Any) -> Any:
        """Have the API answer."""
        request.postpath = [*self._start, *request.postpath]
        return self._inner.render(request)
