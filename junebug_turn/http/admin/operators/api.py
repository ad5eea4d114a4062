"""Routes of the operators' JSON API: ``/api/`` and all below it.

Tested by tests/integration/test_operators_api.py.
"""

from __future__ import annotations

from typing import Any

from junebug_turn.errors import InvalidBody
from junebug_turn.http.admin.operators.backend import Operators
from junebug_turn.http.admin.operators.parameters import (
    CHOICE,
    DELAYED,
    MAX_LIMIT,
    MAX_OFFSET,
    PARKED,
    Parameters,
)
from junebug_turn.http.content_encoding import decode
from junebug_turn.http.json import read_json, write_json
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router


class OperatorsApi:
    """The routes below ``/api``.

    :param max_json_depth: the deepest nesting of arrays and objects in a request's JSON
    """

    router = Router()

    def __init__(self, operators: Operators, max_json_depth: int) -> None:
        self._operators = operators
        self._max_json_depth = max_json_depth

    @router.route("/connectors", methods=["GET"])
    def connectors(self, request: ApiRequest) -> bytes:
        """Answer with the state of each connector."""
        Parameters(request, ())
        return write_json(request, 200, {"connectors": self._operators.connectors()})

    @router.route("/connectors/<name>/pause", methods=["POST"])
    async def pause(self, request: ApiRequest, name: str) -> bytes:
        """Pause a connector."""
        return await self._pause(request, name, True)

    @router.route("/connectors/<name>/resume", methods=["POST"])
    async def resume(self, request: ApiRequest, name: str) -> bytes:
        """Resume a connector."""
        return await self._pause(request, name, False)

    async def _pause(self, request: ApiRequest, name: str, paused: bool) -> bytes:
        Parameters(request, ())
        kept = await self._operators.pause(name, paused)
        return write_json(request, 200, {"connector": name, "paused": paused, "kept": kept})

    @router.route("/parked", methods=["GET"], defaults=PARKED)
    @router.route("/delayed", methods=["GET"], defaults=DELAYED)
    async def held(self, request: ApiRequest, state: str) -> bytes:
        """Answer with parked or delayed messages, the oldest of each queue first."""
        given = Parameters(request, (*CHOICE, "limit", "offset", "full"))
        limit, offset = given.number("limit", 100, 1, MAX_LIMIT), given.number("offset", 0, 0, MAX_OFFSET)
        choice = given.choice(state)
        return write_json(request, 200, await self._operators.held(choice, limit, offset, full=given.full))

    @router.route("/parked/replay", methods=["POST"], defaults=PARKED)
    @router.route("/delayed/replay", methods=["POST"], defaults=DELAYED)
    async def replay(self, request: ApiRequest, state: str) -> bytes:
        """Put the messages of a choice back into their queues."""
        given = Parameters(request, (*CHOICE, "limit"), self._body(request))
        limit = given.number("limit", MAX_LIMIT, 1, MAX_LIMIT)
        return write_json(request, 200, await self._operators.replay(given.choice(state), limit))

    @router.route("/parked/<id>", methods=["GET"], defaults=PARKED)
    @router.route("/delayed/<id>", methods=["GET"], defaults=DELAYED)
    async def held_message(self, request: ApiRequest, id: str, state: str) -> bytes:
        """Answer with one message."""
        given = Parameters(request, (*CHOICE, "full"))
        choice = given.choice(state)
        return write_json(request, 200, await self._operators.held_message(id, choice, full=given.full))

    @router.route("/parked/<id>/replay", methods=["POST"], defaults=PARKED)
    @router.route("/delayed/<id>/replay", methods=["POST"], defaults=DELAYED)
    async def replay_one(self, request: ApiRequest, id: str, state: str) -> bytes:
        """Put one message back into its queue."""
        choice = Parameters(request, CHOICE, self._body(request)).choice(state)
        return write_json(request, 200, await self._operators.replay(choice, 1, id))

    @router.route("/parked/<id>", methods=["DELETE"], defaults=PARKED)
    @router.route("/delayed/<id>", methods=["DELETE"], defaults=DELAYED)
    async def drop(self, request: ApiRequest, id: str, state: str) -> bytes:
        """Drop one message for ever."""
        await self._operators.drop(id, Parameters(request, CHOICE).choice(state))
        return write_json(request, 200, {"dropped": 1})

    @router.route("/messages/<id>", methods=["GET"])
    async def message(self, request: ApiRequest, id: str) -> bytes:
        """Answer with all that is known of one message."""
        full = Parameters(request, ("full",)).full
        return write_json(request, 200, await self._operators.message(id, full=full))

    def _body(self, request: ApiRequest) -> dict[str, Any]:
        """Return the JSON object in a request's body; none stands for an empty one."""
        body = decode(request, request.content.read())
        found = read_json(body, self._max_json_depth) if body.strip() else {}
        if not isinstance(found, dict):
            raise InvalidBody("the body must be a JSON object")
        return found
