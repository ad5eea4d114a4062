"""Routes of RapidPro's External channel."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred

from junebug_turn.applications.api import HttpApi, HttpApplication
from junebug_turn.applications.rapidpro.messages import OutboundRequest, accepted
from junebug_turn.applications.rapidpro.options import RapidProOptions
from junebug_turn.applications.rapidpro.parameters import Parameters
from junebug_turn.http.content_encoding import decode
from junebug_turn.http.deduplication import IDEMPOTENCY_WINDOW, OnPublish
from junebug_turn.http.forms import content_type_of, query_of
from junebug_turn.http.json import line_of_json, write_body
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router
from junebug_turn.messages.vumi import Message

METHODS = ["GET", "POST", "PUT"]


class RapidProApi(HttpApi[RapidProOptions, OutboundRequest]):
    """``/send`` below the application's base path: the send URL of the channel.

    RapidPro sends a message that got no answer, or a 5xx, again: all its parts, each with the id and the text that it
    had.  Each of them is sent once; the repeat gets the answer of the first.
    """

    router = Router()

    def __init__(self, application: HttpApplication[RapidProOptions, OutboundRequest]) -> None:
        super().__init__(application, IDEMPOTENCY_WINDOW)

    # Two routes, so that neither form is redirected to the other.
    @router.route("/send", methods=METHODS)
    def send_message(self, request: ApiRequest) -> Deferred[bytes]:
        """Send an outbound message."""
        body = decode(request, request.take_body())
        media_type, _ = content_type_of(request)
        outbound = OutboundRequest.from_parameters(
            Parameters.read(query_of(request), body, media_type, self._services.max_json_depth)
        )
        start = partial(self._send, outbound)
        if outbound.id:
            sent = self._deduplication.run(outbound.key, start, withdraw_unawaited=True)
        else:
            sent = self._start(start)
        return sent.addCallback(lambda answer: write_body(request, 200, answer))

    async def _send(self, outbound: OutboundRequest, on_publish: OnPublish) -> bytes:
        sending = self._application.send(outbound, _answer, on_publish)
        # It may wait for long, and isn't kept meanwhile.
        del outbound
        return await sending


def _answer(message: Message) -> bytes:
    return line_of_json(accepted(message))
