"""The Junebug Message API's routes."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request

from junebug_turn.applications.junebug.application import JunebugApplication
from junebug_turn.applications.junebug.messages import OutboundRequest, message_to_json
from junebug_turn.connectors.connector import Publishing
from junebug_turn.http.authentication import Authenticated, Authenticator
from junebug_turn.http.deduplication import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_WINDOW,
    Deduplication,
    read_idempotency_key,
)
from junebug_turn.http.errors import envelope
from junebug_turn.http.json import line_of_json, read_json, within, write_body, write_json
from junebug_turn.http.rate_limit import RateLimit
from junebug_turn.http.routing import Router
from junebug_turn.messages.strictjson import MAX_DEPTH
from junebug_turn.telemetry.metrics import Metrics


class JunebugApi:
    """``POST /messages`` and ``GET /messages/<message_id>`` below the application's base path."""

    answer = staticmethod(envelope)
    router = Router()

    def __init__(
        self,
        application: JunebugApplication,
        clock: IReactorTime,
        *,
        max_json_depth: int = MAX_DEPTH,
        metrics: Metrics | None = None,
    ) -> None:
        self._application = application
        self._metrics = metrics or Metrics()
        self._max_json_depth = max_json_depth
        self._clock = clock
        self._authenticator = Authenticator(application.options.api_auth)
        self._rate = RateLimit(clock, application.options.rate_limit)
        self._deduplication = Deduplication(clock, IDEMPOTENCY_WINDOW, on_repeat=self._repeated)

    def resource(self) -> IResource:
        """What the site mounts at the base path."""
        resource: IResource = Authenticated(self.router.resource(), self._authenticator, self._rate)
        return resource

    # Two routes, so that neither form is redirected to the other.
    @router.route("/messages", methods=["POST"])
    @router.route("/messages/", methods=["POST"])
    def send_message(self, request: Request) -> Deferred[bytes]:
        """Send an outbound message; with an ``Idempotency-Key`` once, however often the request comes.

        When the client goes away Klein cancels this Deferred: what was not handed to the broker yet is
        withdrawn (unless a repeat waits for it), the rest goes on without us.
        """
        content: Any = request.content
        body: bytes = content.read()
        key = read_idempotency_key(request.requestHeaders.getRawHeaders(IDEMPOTENCY_KEY.encode("ascii"), []))
        if key is None:
            sent = self._send(body)
        else:
            published: list[Publishing] = []
            sent = self._deduplication.run(
                key,
                lambda: self._send(body, published.append),
                content=sha256(body).digest(),
                # What is not published yet goes on, so that a repeat gets its answer.
                withdraw=lambda: any(each.withdraw() for each in published),
            )
        return sent.addCallback(lambda answer: write_body(request, 201, answer))

    def _repeated(self) -> None:
        self._metrics.repeated(self._application.options.connector_name)

    def _send(
        self, body: bytes, on_publish: Callable[[Publishing], None] = lambda _: None
    ) -> Deferred[bytes]:
        """Send the message of a request, within ``request_timeout``; the result is the answer's body."""
        options = self._application.options

        async def send() -> bytes:
            outbound = OutboundRequest.from_json(read_json(body, self._max_json_depth))
            message = await self._application.send(outbound, on_publish)
            answer = {
                "status": 201,
                "code": "Created",
                "description": "message submitted",
                "result": message_to_json(message, options.connector_name),
            }
            return line_of_json(answer)

        return within(options.request_timeout, self._clock, send())

    @router.route("/messages/<message_id>", methods=["GET"])
    async def message_status(self, request: IRequest, message_id: str) -> bytes:
        """What became of an outbound message."""
        answer = {
            "status": 200,
            "code": "OK",
            "description": "message status",
            "result": await self._application.status(message_id),
        }
        return write_json(request, 200, answer)
