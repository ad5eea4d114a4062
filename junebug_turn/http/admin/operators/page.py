"""Routes of the operators' page.

Tested by tests/integration/test_operators_page.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial, wraps
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.template import Tag, flattenString

from junebug_turn.errors import InvalidBody, JunebugTurnError
from junebug_turn.http.admin.operators.backend import Operators
from junebug_turn.http.admin.operators.guard import FormTokens
from junebug_turn.http.admin.operators.parameters import (
    CHOICE,
    DELAYED,
    MAX_LIMIT,
    MAX_OFFSET,
    PARKED,
    Parameters,
)
from junebug_turn.http.admin.operators.views.held import held, held_message
from junebug_turn.http.admin.operators.views.layout import fault
from junebug_turn.http.admin.operators.views.message import message
from junebug_turn.http.admin.operators.views.overview import Part, overview
from junebug_turn.http.errors import answer_for
from junebug_turn.http.forms import read_form
from junebug_turn.http.json import write_body
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router
from junebug_turn.net.clocks import WALL_CLOCK

SHOWN = 50
"""Messages on one page."""

_Endpoint = Callable[..., Awaitable[bytes]]


def _with_faults(endpoint: _Endpoint) -> _Endpoint:
    """Answer with a page, too, where the endpoint raises an exception that has an answer."""

    @wraps(endpoint)
    async def answering(self: Any, request: ApiRequest, **variables: str) -> bytes:
        try:
            return await endpoint(self, request, **variables)
        except JunebugTurnError as error:
            answer = answer_for(error)
            for name, value in answer.headers:
                request.setHeader(name, value)
            return await _write(request, fault(answer.phrase, answer.message), answer.status)

    return answering


class OperatorsPage:
    """The pages below ``/``, for a browser."""

    router = Router()

    def __init__(self, operators: Operators, reactor: Any) -> None:
        self._operators = operators
        self._tokens = FormTokens()
        self._turn = partial(deferLater, reactor, 0)
        static = files(__package__) / "static"
        self._static = {
            name: (kind, (static / name).read_bytes())
            for name, kind in (
                ("operators.css", "text/css; charset=utf-8"),
                ("operators.js", "text/javascript; charset=utf-8"),
                ("operators.svg", "image/svg+xml"),
            )
        }

    @router.route("/", methods=["GET"])
    @_with_faults
    async def overview(self, request: ApiRequest) -> bytes:
        """Answer with the overview."""
        given = Parameters(request, ("done", "find", "offset"))
        part = Part(given.get("find", ""), given.number("offset", 0, 0, MAX_OFFSET))
        now = datetime.fromtimestamp(int(WALL_CLOCK.now()), UTC).strftime("%H:%M:%S UTC")
        token, done = self._tokens.token(request), given.get("done", "")
        state = self._operators.overview()
        return await _write(request, overview(state, part, now, token, self._turn, done=done))

    @router.route("/connectors/<name>/pause", methods=["POST"])
    @_with_faults
    async def pause(self, request: ApiRequest, name: str) -> bytes:
        """Pause a connector."""
        self._form(request, ())
        kept = await self._operators.pause(name, True)
        return _see(request, "/", {"done": "paused" if kept else "paused-for-now"})

    @router.route("/connectors/<name>/resume", methods=["POST"])
    @_with_faults
    async def resume(self, request: ApiRequest, name: str) -> bytes:
        """Resume a connector."""
        self._form(request, ())
        await self._operators.pause(name, False)
        return _see(request, "/", {"done": "resumed"})

    @router.route("/parked", methods=["GET"], defaults=PARKED)
    @router.route("/delayed", methods=["GET"], defaults=DELAYED)
    @_with_faults
    async def held(self, request: ApiRequest, state: str) -> bytes:
        """Answer with the list of parked or delayed messages."""
        given = Parameters(request, (*CHOICE, "offset", "done"))
        offset = given.number("offset", 0, 0, MAX_OFFSET)
        choice = given.choice(state)
        found = await self._operators.held(choice, SHOWN, offset, full=False)
        names = [each["name"] for each in self._operators.connectors()]
        token, done = self._tokens.token(request), given.get("done", "")
        return await _write(request, held(found, names, choice, offset, SHOWN, token, done=done))

    @router.route("/parked/replay", methods=["POST"], defaults=PARKED)
    @router.route("/delayed/replay", methods=["POST"], defaults=DELAYED)
    @_with_faults
    async def replay(self, request: ApiRequest, state: str) -> bytes:
        """Put the messages of a choice back into their queues."""
        given = self._form(request, CHOICE)
        result = await self._operators.replay(given.choice(state), MAX_LIMIT)
        return _see(request, f"/{state}", {"done": "some-replayed" if result["more"] else "replayed"})

    @router.route("/parked/<id>", methods=["GET"], defaults=PARKED)
    @router.route("/delayed/<id>", methods=["GET"], defaults=DELAYED)
    @_with_faults
    async def held_message(self, request: ApiRequest, id: str, state: str) -> bytes:
        """Answer with one message."""
        given = Parameters(request, (*CHOICE, "full"))
        choice = given.choice(state)
        found = await self._operators.held_message(id, choice, full=given.full)
        token = self._tokens.token(request)
        return await _write(request, held_message(found, choice, token, full=given.full))

    @router.route("/parked/<id>/replay", methods=["POST"], defaults=PARKED)
    @router.route("/delayed/<id>/replay", methods=["POST"], defaults=DELAYED)
    @_with_faults
    async def replay_one(self, request: ApiRequest, id: str, state: str) -> bytes:
        """Put one message back into its queue."""
        given = self._form(request, CHOICE)
        await self._operators.replay(given.choice(state), 1, id)
        return _see(request, f"/{state}", {"done": "replayed"})

    @router.route("/parked/<id>/drop", methods=["POST"], defaults=PARKED)
    @router.route("/delayed/<id>/drop", methods=["POST"], defaults=DELAYED)
    @_with_faults
    async def drop(self, request: ApiRequest, id: str, state: str) -> bytes:
        """Drop one message for ever."""
        given = self._form(request, CHOICE)
        await self._operators.drop(id, given.choice(state))
        return _see(request, f"/{state}", {"done": "dropped"})

    @router.route("/messages", methods=["GET"])
    @_with_faults
    async def message(self, request: ApiRequest) -> bytes:
        """Answer with all that is known of one message, or with the form that asks for its id."""
        given = Parameters(request, ("id", "full"))
        id = given.get("id", "").strip()
        found = await self._operators.message(id, full=given.full) if id else None
        return await _write(request, message(found, full=given.full))

    @router.route("/static/operators.css", methods=["GET"])
    def style(self, request: ApiRequest) -> bytes:
        """Answer with the style sheet."""
        return self._file(request, "operators.css")

    @router.route("/static/operators.js", methods=["GET"])
    def script(self, request: ApiRequest) -> bytes:
        """Answer with the script."""
        return self._file(request, "operators.js")

    @router.route("/static/operators.svg", methods=["GET"])
    def icon(self, request: ApiRequest) -> bytes:
        """Answer with the icon."""
        return self._file(request, "operators.svg")

    def _file(self, request: ApiRequest, name: str) -> bytes:
        kind, body = self._static[name]
        write_body(request, 200, body, (("Content-Type", kind),))
        return body

    def _form(self, request: ApiRequest, known: tuple[str, ...]) -> Parameters:
        """Return the fields of a form of ours.

        :raises Forbidden: its token is wrong
        :raises InvalidBody: it has other fields
        """
        form = read_form(request.content.read())
        self._tokens.check(request, b"".join(form.pop("token", [])))
        if any(len(values) > 1 for values in form.values()):
            raise InvalidBody("a field is given more than once")
        fields = {name: values[0].decode("utf-8", "replace") for name, values in form.items()}
        return Parameters(request, known, {name: value for name, value in fields.items() if value})


async def _write(request: ApiRequest, page: Tag, status: int = 200) -> bytes:
    flattened: Deferred[bytes] = flattenString(request, page)
    body = b"<!DOCTYPE html>\n" + await flattened
    return write_body(request, status, body, (("Content-Type", "text/html; charset=utf-8"),))


def _see(request: ApiRequest, path: str, query: dict[str, str]) -> bytes:
    """Answer that the browser shall get another page."""
    headers = (("Location", f"{path}?{urlencode(query)}"), ("Content-Type", "text/plain; charset=utf-8"))
    return write_body(request, 303, b"", headers)
