"""What can go wrong, and the one table that says how an HTTP client is told.

A class says what kind of fault it is; its message is for the person at the other side, so it never carries
a secret or a traceback.  ``Passing`` faults may work later and carry ``retry_after``; the others are permanent.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from attrs import frozen


class JunebugTurnError(Exception):
    """Any fault that this project names."""


class ConfigError(JunebugTurnError):
    """The configuration can't be used; ``lines`` has a line for each fault, naming the key and its source."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class UnreadableMessage(JunebugTurnError):
    """An AMQP body that isn't a message or event of vumi; the text says what is wrong, not what it held."""


class JsonDecodeError(JunebugTurnError):
    """A request's body isn't strict JSON in UTF-8; the message says what is wrong and where."""


class InvalidBody(JunebugTurnError):
    """A request's JSON has a field that is missing, unknown or of a wrong type; the message names it."""


class ApiUsageError(JunebugTurnError):
    """A request's fields are each right, but not together."""


class MessageTooLong(JunebugTurnError):
    """The content of a message is longer than ``character_limit``."""


class MessageNotFound(JunebugTurnError):
    """``reply_to`` names an inbound message that isn't (or is no longer) known."""


class IdempotencyKeyReused(JunebugTurnError):
    """An ``Idempotency-Key`` came again with another body."""


class Unauthorized(JunebugTurnError):
    """A request's signature or credentials are missing or wrong; ``challenge`` says which would do."""

    def __init__(self, message: str, challenge: str | None = None) -> None:
        super().__init__(message)
        self.challenge = challenge


class NotFound(JunebugTurnError):
    """Nothing is at this path."""


class ChannelNotFound(NotFound):
    """The path is one of a channel, but no channel of that name is configured."""


class MethodNotAllowed(JunebugTurnError):
    """The path is there, for other methods: ``allowed`` has their names."""

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class BodyTooLarge(JunebugTurnError):
    """A request's body is over the size limit."""


class BadRequest(JunebugTurnError):
    """What came isn't HTTP."""


class HeadersTooLarge(JunebugTurnError):
    """A request's headers are too many, or too large."""


class RequestTimeout(JunebugTurnError):
    """A request took too long to arrive."""


class Passing(JunebugTurnError):
    """A fault that may be over when the client comes again, after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AmqpConnectionError(Passing):
    """The broker is away, or did not confirm in time."""


class ShuttingDown(Passing):
    """The daemon takes no new requests, since it is about to stop."""


class TooManyConnections(Passing):
    """As many connections are open as there may be."""


class RateLimited(Passing):
    """The client makes more requests than ``rate_limit`` allows."""


class Unroutable(Passing):
    """The broker has no queue for the message: it came back."""


class DeliveryFailed(JunebugTurnError):
    """An HTTP delivery was given up.

    :ivar reason: a word for headers and metrics: ``http_status``, ``timeout``, ``connection``, ``dns``, ``tls``,
        ``bad_url``, ``forbidden_address``, ``circuit_open``
    :ivar last_status: the last HTTP status, None where there was no answer
    :ivar attempts: how many were made
    :ivar first_failure: when the first one failed, in Unix seconds
    :ivar last_failure: when the last one failed, in Unix seconds
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        last_status: int | None,
        attempts: int,
        first_failure: float,
        last_failure: float,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.last_status = last_status
        self.attempts = attempts
        self.first_failure = first_failure
        self.last_failure = last_failure


class DeliveryRefused(DeliveryFailed):
    """The destination's answer is permanent: the same request would get it again."""


class DeliveryExhausted(DeliveryFailed):
    """Every attempt met a passing fault."""


class DeliveryDeferred(DeliveryExhausted):
    """No attempt was made, since the destination is known to be down; the reason is ``circuit_open``."""


@frozen
class Answer:
    """How an HTTP client is told of a fault."""

    status: int
    description: str
    type: str
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def code(self) -> str:
        """The phrase that HTTP has for the status."""
        return HTTPStatus(self.status).phrase

    def envelope(self) -> dict[str, Any]:
        """The JSON that Junebug answers with, and this daemon on every path that no other API claims."""
        return {
            "status": self.status,
            "code": self.code,
            "description": self.description,
            "result": {"errors": [{"type": self.type, "message": self.message}]},
        }


INTERNAL = Answer(500, "internal server error", "InternalServerError", "internal server error")

# exception -> status, description, type
_ANSWERS: dict[type[JunebugTurnError], tuple[int, str, str]] = {
    BadRequest: (400, "bad request", "BadRequest"),
    JsonDecodeError: (400, "json decode error", "JsonDecodeError"),
    InvalidBody: (400, "api usage error", "invalid_body"),
    ApiUsageError: (400, "api usage error", "ApiUsageError"),
    MessageTooLong: (400, "message too long", "MessageTooLong"),
    MessageNotFound: (400, "message not found", "MessageNotFound"),
    Unauthorized: (401, "unauthorized", "Unauthorized"),
    NotFound: (404, "not found", "NotFound"),
    ChannelNotFound: (404, "channel not found", "ChannelNotFound"),
    MethodNotAllowed: (405, "method not allowed", "MethodNotAllowed"),
    RequestTimeout: (408, "request timeout", "RequestTimeout"),
    BodyTooLarge: (413, "request body too large", "BodyTooLarge"),
    IdempotencyKeyReused: (422, "idempotency key reused", "IdempotencyKeyReused"),
    RateLimited: (429, "too many requests", "RateLimited"),
    HeadersTooLarge: (431, "request headers too large", "HeadersTooLarge"),
    TooManyConnections: (503, "too many connections", "TooManyConnections"),
    AmqpConnectionError: (503, "amqp connection error", "AmqpConnectionError"),
    ShuttingDown: (503, "shutting down", "ShuttingDown"),
    Unroutable: (503, "message not routed", "Unroutable"),
}


def answer_for(error: BaseException | None) -> Answer:
    """The answer for ``error``; ``INTERNAL`` (which tells nothing) for whatever is not in the table."""
    row = _ANSWERS.get(type(error))  # type: ignore[arg-type]
    if row is None:
        return INTERNAL
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, Passing):
        headers = (("Retry-After", str(max(1, round(error.retry_after)))),)
    elif isinstance(error, MethodNotAllowed):
        headers = (("Allow", ", ".join(error.allowed)),)
    elif isinstance(error, Unauthorized) and error.challenge:
        headers = (("WWW-Authenticate", error.challenge),)
    return Answer(*row, str(error), headers)
