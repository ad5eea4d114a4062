"""The Junebug Message API's routes."""

from __future__ import annotations

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource

from junebug_turn.apiauth import Authenticator, Guarded, RateLimit
from junebug_turn.errors import INTERNAL, answer_for
from junebug_turn.jsonapi import read_json, translate, within, write_json
from junebug_turn.junebug.application import JunebugApplication
from junebug_turn.junebug.messages import OutboundRequest, message_to_json
from junebug_turn.strictjson import MAX_DEPTH


class JunebugApi:
    """``POST /messages`` below the application's base path."""

    log = Logger()
    router = Klein()

    def __init__(
        self, application: JunebugApplication, clock: IReactorTime, *, max_json_depth: int = MAX_DEPTH
    ) -> None:
        self._application = application
        self._max_json_depth = max_json_depth
        self._clock = clock
        self._authenticator = Authenticator(application.options.api_auth)
        self._rate = RateLimit(clock, application.options.rate_limit)

    def resource(self) -> IResource:
        """What the site mounts at the base path."""
        resource: IResource = Guarded(self.router.resource(), self._check, self.failed)
        return resource

    def _check(self, headers: Headers) -> None:
        # In this order: what a stranger sends takes nothing of the rate that clients have.
        self._authenticator.check(headers)
        self._rate.take()

    # Two routes, so that neither form is redirected to the other.
    @router.route("/messages", methods=["POST"])
    @router.route("/messages/", methods=["POST"])
    def send_message(self, request: IRequest) -> Deferred[bytes]:
        """Send an outbound message.

        When the client goes away Klein cancels this Deferred: what was not handed to the broker yet is
        withdrawn, the rest goes on without us.
        """
        return within(self._application.options.request_timeout, self._clock, self._send(request))

    async def _send(self, request: IRequest) -> bytes:
        outbound = OutboundRequest.from_json(read_json(request.content.read(), self._max_json_depth))
        message = await self._application.send(outbound)
        answer = {
            "status": 201,
            "code": "Created",
            "description": "message submitted",
            "result": message_to_json(message, self._application.options.connector_name),
        }
        return write_json(request, 201, answer)

    @router.handle_errors(Exception)
    def failed(self, request: IRequest, failure: Failure) -> bytes:
        """Answer with the envelope that the table of errors has for it."""
        answer = answer_for(translate(failure, request.path))
        if answer is INTERNAL:
            self.log.failure("a request to the Junebug Message API failed", failure=failure)
        return write_json(request, answer.status, answer.envelope(), answer.headers)
