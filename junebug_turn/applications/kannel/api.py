"""Routes of Kannel's HTTP interface."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.applications.api import HttpApi, HttpApplication
from junebug_turn.applications.kannel.messages import ACCEPTED, OutboundRequest
from junebug_turn.applications.kannel.options import KannelOptions
from junebug_turn.applications.kannel.parameters import Parameters
from junebug_turn.errors import JunebugTurnError
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.deduplication import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_WINDOW,
    OnPublish,
    read_idempotency_key,
)
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router, without_frames
from junebug_turn.http.text import line_of_text, write_text
from junebug_turn.messages.vumi import Message

METHODS = ["GET", "POST"]


class KannelApi(HttpApi[KannelOptions, OutboundRequest]):
    """``/cgi-bin/sendsms`` and ``/send`` below the application's base path."""

    log = Logger()
    router = Router()

    def __init__(self, application: HttpApplication[KannelOptions, OutboundRequest]) -> None:
        super().__init__(application, IDEMPOTENCY_WINDOW, signed=True)
        self._authenticator = Authenticator(application.options.api_auth)

    # A route for each form, so that none is redirected to another.
    @router.route("/cgi-bin/sendsms", methods=METHODS)
    @router.route("/send", methods=METHODS)
    def send_message(self, request: ApiRequest) -> Deferred[bytes]:
        """Send a message to each receiver."""
        parameters = Parameters.read(request)
        self._check(request, parameters)
        outbound = OutboundRequest.all_of(parameters)
        key = read_idempotency_key(request.requestHeaders.getRawHeaders(IDEMPOTENCY_KEY.encode("ascii"), []))
        start = partial(self._send, outbound)
        if key is None:
            sent = self._start(start)
        else:
            content = sha256(repr(sorted(parameters.form.items())).encode()).digest()
            sent = self._deduplication.run(key, start, content=content, withdraw_unawaited=True)
        return sent.addCallback(lambda answer: write_text(request, 202, answer))

    def _check(self, request: ApiRequest, parameters: Parameters) -> None:
        """Check the credentials, which are parameters, or stand in the header of other APIs; then the rate limit.

        :raises Unauthorized: they are missing or wrong
        :raises RateLimited: there are too many requests
        """
        if request.requestHeaders.hasHeader(b"authorization"):
            self._authenticator.check(request.requestHeaders)
        else:
            user, password = parameters.first("username", "user"), parameters.first("password", "pass")
            self._authenticator.check_user(user, password)
        self._rate_limit.take()

    async def _send(self, requests: list[OutboundRequest], on_publish: OnPublish) -> bytes:
        """Send the messages of a request; returns the answer, which names the receivers that have failed.

        :raises JunebugTurnError: all have failed
        """
        work: list[Deferred[Any]] = [
            Deferred.fromCoroutine(self._application.send(each, _answer, on_publish)).addErrback(
                without_frames
            )
            for each in requests
        ]
        results = await DeferredList(work, consumeErrors=True)
        failures = [failure for _, failure in results if isinstance(failure, Failure)]
        for failure in failures:
            if not failure.check(JunebugTurnError, CancelledError):
                self.log.failure("a message of a request failed", failure=failure)
        if len(failures) == len(requests):
            failures[0].raiseException()
        failed = [each.to for each, (succeeded, _) in zip(requests, results, strict=True) if not succeeded]
        return line_of_text(" ".join([f"{ACCEPTED}. Failed for:", *failed]) if failed else ACCEPTED)


def _answer(message: Message) -> bytes:
    # The answer to the request is that of all its messages together.
    return b""
