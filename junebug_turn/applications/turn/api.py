"""The Turn Channels API's routes."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource
from twisted.web.server import Request

from junebug_turn.applications.turn.application import TurnApplication
from junebug_turn.applications.turn.messages import OutboundRequest, errors_to_json
from junebug_turn.applications.turn.signature import HEADER, verify
from junebug_turn.http.authentication import Authenticated, Authenticator
from junebug_turn.http.deduplication import Deduplication
from junebug_turn.http.errors import Answer
from junebug_turn.http.json import line_of_json, read_json, within, write_body
from junebug_turn.http.rate_limit import RateLimit
from junebug_turn.http.routing import Router
from junebug_turn.messages.strictjson import MAX_DEPTH
from junebug_turn.telemetry.metrics import Metrics

MAX_UNANSWERED = 10_000
"""Webhooks whose requests went away without an answer that are remembered at most."""


class TurnApi:
    """``POST /messages`` below the application's base path: Turn's webhook.

    Turn sends a webhook again, byte for byte, when it got no answer in time; that is then the same message.
    Once an answer was written the same bytes are a new message: a menu shown twice is ordinary.
    """

    router = Router()

    def __init__(
        self,
        application: TurnApplication,
        clock: IReactorTime,
        *,
        max_json_depth: int = MAX_DEPTH,
        metrics: Metrics | None = None,
    ) -> None:
        self._application = application
        self._metrics = metrics or Metrics()
        self._max_json_depth = max_json_depth
        self._clock = clock
        self._secret = application.options.turn_hmac_secret.encode("utf-8")
        self._authenticator = Authenticator(application.options.api_auth)
        self._rate = RateLimit(clock, application.options.rate_limit)
        self._unanswered = Deduplication(
            clock, application.options.duplicate_window, max_results=MAX_UNANSWERED, on_repeat=self._repeated
        )

    def resource(self) -> IResource:
        """What the site mounts at the base path."""
        resource: IResource = Authenticated(self.router.resource(), self._authenticator)
        return resource

    @staticmethod
    def answer(error: Answer) -> tuple[int, Any]:
        """Return the status and the JSON of an error."""
        # Turn takes any 4xx for the message's end, and comes again after a 5xx.
        status = 503 if error.status == 429 else error.status
        return status, errors_to_json(error)

    # Two routes, so that neither form is redirected to the other.
    @router.route("/messages", methods=["POST"])
    @router.route("/messages/", methods=["POST"])
    def send_message(self, request: Request) -> Deferred[bytes]:
        """Send an outbound message; the signature is checked before anything of the body is read."""
        content: Any = request.content
        body: bytes = content.read()
        verify(self._secret, body, request.requestHeaders.getRawHeaders(HEADER.encode("ascii"), []))
        # After the signature: what a stranger sends takes nothing of the rate that Turn has.
        self._rate.take()
        key = sha256(body).digest()
        request.notifyFinish().addCallbacks(lambda _: self._unanswered.forget(key), lambda _: None)
        sent = self._unanswered.run(key, lambda: self._send(body))
        return sent.addCallback(lambda answer: write_body(request, 200, answer))

    def _repeated(self) -> None:
        self._metrics.repeated(self._application.options.connector_name)

    def _send(self, body: bytes) -> Deferred[bytes]:
        """Send the message of a webhook, within ``request_timeout``; the result is the answer's body."""
        options = self._application.options

        async def send() -> bytes:
            outbound = OutboundRequest.from_json(
                read_json(body, self._max_json_depth), render_interactive=options.render_interactive
            )
            message = await self._application.send(outbound)
            return line_of_json({"messages": [{"id": message.message_id}]})

        return within(options.request_timeout, self._clock, send())
