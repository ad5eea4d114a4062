"""Routes of the Turn Channels API."""

from __future__ import annotations

from functools import partial
from hashlib import sha256

from twisted.internet.defer import Deferred

from junebug_turn.applications.api import HttpApi, HttpApplication
from junebug_turn.applications.turn.messages import OutboundRequest
from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.applications.turn.signature import HEADER, verify
from junebug_turn.config.types import each
from junebug_turn.http.content_encoding import decode
from junebug_turn.http.deduplication import OnPublish
from junebug_turn.http.json import line_of_json, read_json, write_body
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router
from junebug_turn.messages.vumi import Message

MAX_UNANSWERED = 10_000
"""Webhooks whose requests went away without an answer that are remembered at most."""


class TurnApi(HttpApi[TurnOptions, OutboundRequest]):
    """``POST /messages`` below the application's base path: Turn's webhook.

    Turn sends a webhook again, byte for byte, when it got no answer in time; that is then the same message.
    Once an answer was written the same bytes are a new message: a menu shown twice is ordinary.
    """

    router = Router()

    def __init__(self, application: HttpApplication[TurnOptions, OutboundRequest]) -> None:
        options = application.options
        super().__init__(
            application,
            options.duplicate_window,
            max_results=MAX_UNANSWERED,
            until_answered=True,
            signed=True,
            timeout=min(options.request_timeout, options.webhook_answer_timeout),
        )
        self.renew(options)

    def renew(self, options: TurnOptions) -> None:
        """Verify signatures with the secrets of these options from now on."""
        self._secrets = tuple(secret.encode("utf-8") for secret in each(options.turn_hmac_secret))

    # Two routes, so that neither form is redirected to the other.
    @router.route("/messages", methods=["POST"])
    def send_message(self, request: ApiRequest) -> Deferred[bytes]:
        """Send an outbound message; the signature is checked before anything of the body is read."""
        body = request.take_body()
        verify(self._secrets, body, request.requestHeaders.getRawHeaders(HEADER.encode("ascii"), []))
        # After the signature: a stranger's requests take nothing of the rate that Turn has.
        self._rate_limit.take()
        body = decode(request, body)
        key = sha256(body).digest()
        request.notifyFinish().addCallbacks(lambda _: self._deduplication.forget(key), lambda _: None)
        sent = self._deduplication.run(key, partial(self._send, body))
        return sent.addCallback(lambda answer: write_body(request, 200, answer))

    async def _send(self, body: bytes, on_publish: OnPublish) -> bytes:
        outbound = OutboundRequest.from_json(
            read_json(body, self._services.max_json_depth),
            render_interactive=self._options.render_interactive,
            render_media=self._options.render_media,
        )
        sending = self._application.send(outbound, _answer, on_publish)
        # It may wait for long: neither is kept.
        del body, outbound
        return await sending


def _answer(message: Message) -> bytes:
    return line_of_json({"messages": [{"id": message.message_id}]})
