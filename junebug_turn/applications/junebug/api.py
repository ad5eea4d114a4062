"""Routes of the Junebug Message API."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred

from junebug_turn.applications.api import HttpApi, HttpApplication
from junebug_turn.applications.junebug.messages import OutboundRequest, message_to_json, status_to_json
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.http.content_encoding import decode
from junebug_turn.http.deduplication import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_WINDOW,
    OnPublish,
    read_idempotency_key,
)
from junebug_turn.http.json import line_of_json, read_json, write_body, write_json
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router
from junebug_turn.messages.vumi import Message


class JunebugApi(HttpApi[JunebugOptions, OutboundRequest]):
    """``POST /messages`` and ``GET /messages/<message_id>`` below the application's base path."""

    router = Router()

    def __init__(self, application: HttpApplication[JunebugOptions, OutboundRequest]) -> None:
        super().__init__(application, IDEMPOTENCY_WINDOW)

    # Two routes, so that neither form is redirected to the other.
    @router.route("/messages", methods=["POST"])
    def send_message(self, request: ApiRequest) -> Deferred[bytes]:
        """Send an outbound message; with an ``Idempotency-Key`` once, however often the request comes.

        When the client goes away Klein cancels this Deferred: what was not handed to the broker yet is
        withdrawn (unless a repeat waits for it), the rest goes on without us.
        """
        body = decode(request, request.take_body())
        key = read_idempotency_key(request.requestHeaders.getRawHeaders(IDEMPOTENCY_KEY.encode("ascii"), []))
        if key is None:
            sent = self._start(partial(self._send, body))
        else:
            sent = self._deduplication.run(
                key, partial(self._send, body), content=sha256(body).digest(), withdraw_unawaited=True
            )
        return sent.addCallback(lambda answer: write_body(request, 201, answer))

    async def _send(self, body: bytes, on_publish: OnPublish) -> bytes:
        outbound = OutboundRequest.from_json(read_json(body, self._services.max_json_depth))
        sending = self._application.send(outbound, self._answer, on_publish)
        # It may wait for long: neither is kept.
        del body, outbound
        return await sending

    def _answer(self, message: Message) -> bytes:
        result = message_to_json(message, self._options.connector_name)
        return line_of_json(_success(201, "Created", "message submitted", result))

    @router.route("/messages/<message_id>", methods=["GET"])
    async def message_status(self, request: ApiRequest, message_id: str) -> bytes:
        """Answer with the events of an outbound message; an unknown one has none."""
        events = await self._services.store.fetch_events(message_id)
        result = status_to_json(message_id, events, self._options.connector_name)
        return write_json(request, 200, _success(200, "OK", "message status", result))


def _success(status: int, code: str, description: str, result: Any) -> dict[str, Any]:
    return {"status": status, "code": code, "description": description, "result": result}
