"""The answers to failed requests: status, description and error type of each exception, and Junebug's form of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from attrs import frozen

from junebug_turn import errors


@frozen
class Answer:
    """The answer to a failed request, before an API gives it its JSON form.

    :ivar status: the HTTP status
    :ivar description: the kind of fault, in words
    :ivar type: the kind of fault, as one word for programs
    :ivar message: the fault itself, for a person
    :ivar headers: further headers, as names with values
    :ivar faults: as ``InvalidBody`` has them
    """

    status: int
    description: str
    type: str | list[str]
    message: str
    headers: tuple[tuple[str, str], ...] = ()
    faults: tuple[tuple[str, tuple[str | int, ...]], ...] = ()

    @property
    def phrase(self) -> str:
        """The phrase that HTTP has for the status."""
        return HTTPStatus(self.status).phrase


INTERNAL = Answer(500, "internal server error", "InternalServerError", "internal server error")

# exception -> status, description, type
_ANSWERS: dict[type[errors.JunebugTurnError], tuple[int, str, str | list[str]]] = {
    errors.BadRequest: (400, "bad request", "BadRequest"),
    errors.JsonDecodeError: (400, "json decode error", "JsonDecodeError"),
    errors.InvalidBody: (400, "api usage error", "invalid_body"),
    errors.ApiUsageError: (400, "api usage error", "ApiUsageError"),
    errors.MessageTooLong: (400, "message too long", "MessageTooLong"),
    errors.MessageNotFound: (400, "message not found", "MessageNotFound"),
    # Clients of Junebug got these two types as lists.
    errors.InvalidChannelType: (400, "invalid channel type", ["InvalidChannelType"]),
    errors.InvalidRouterType: (400, "invalid router type", ["InvalidRouterType"]),
    errors.InvalidRouterConfig: (400, "invalid router config", "InvalidRouterConfig"),
    errors.InvalidRouterDestinationConfig: (
        400,
        "invalid router destination config",
        "InvalidRouterDestinationConfig",
    ),
    errors.Unauthorized: (401, "unauthorized", "Unauthorized"),
    errors.Forbidden: (403, "forbidden", "Forbidden"),
    errors.NotFound: (404, "not found", "NotFound"),
    errors.ChannelNotFound: (404, "channel not found", "ChannelNotFound"),
    errors.RouterNotFound: (404, "router not found", "RouterNotFound"),
    errors.DestinationNotFound: (404, "destination not found", "DestinationNotFound"),
    errors.MethodNotAllowed: (405, "method not allowed", "MethodNotAllowed"),
    errors.RequestTimeout: (408, "request timeout", "RequestTimeout"),
    errors.ChannelConfigured: (409, "channel configured in a file", "ChannelConfigured"),
    errors.BodyTooLarge: (413, "request body too large", "BodyTooLarge"),
    errors.MessageTooLarge: (413, "message too large", "MessageTooLarge"),
    errors.UnsupportedEncoding: (415, "unsupported content encoding", "UnsupportedEncoding"),
    errors.IdempotencyKeyReused: (422, "idempotency key reused", "IdempotencyKeyReused"),
    errors.RateLimited: (429, "too many requests", "RateLimited"),
    errors.HeadersTooLarge: (431, "request headers too large", "HeadersTooLarge"),
    errors.TooManyConnections: (503, "too many connections", "TooManyConnections"),
    errors.AmqpConnectionError: (503, "amqp connection error", "AmqpConnectionError"),
    errors.NotAnsweredInTime: (503, "not answered in time", "NotAnsweredInTime"),
    errors.QueuesRefused: (503, "queues refused", "QueuesRefused"),
    errors.ShuttingDown: (503, "shutting down", "ShuttingDown"),
    errors.Unroutable: (503, "message not routed", "Unroutable"),
    errors.ChangedMeanwhile: (503, "changed meanwhile", "ChangedMeanwhile"),
    errors.CacheError: (503, "cache error", "CacheError"),
}


def answer_for(error: BaseException | None) -> Answer:
    """Return the answer to ``error``; for an exception that is not in the table it is ``INTERNAL``, without details."""
    row = _ANSWERS.get(type(error))  # type: ignore[arg-type]
    if row is None:
        return INTERNAL
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, errors.Passing):
        headers = (("Retry-After", str(max(1, round(error.retry_after)))),)
    elif isinstance(error, errors.MethodNotAllowed):
        headers = (("Allow", ", ".join(error.allowed)),)
    elif isinstance(error, errors.UnsupportedEncoding):
        headers = (("Accept-Encoding", "gzip, deflate"),)
    elif isinstance(error, errors.Unauthorized) and error.challenge:
        headers = (("WWW-Authenticate", error.challenge),)
    faults = error.faults if isinstance(error, errors.InvalidBody) else ()
    return Answer(*row, str(error), headers, faults)


def envelope(answer: Answer) -> tuple[int, Any]:
    """Return the status and the JSON of Junebug's form, which is also that of paths without an application."""
    found: list[dict[str, Any]] = [
        {"type": answer.type, "message": message, "schema_path": list(path)}
        for message, path in answer.faults
    ]
    return answer.status, {
        "status": answer.status,
        "code": answer.phrase,
        "description": answer.description,
        "result": {"errors": found or [{"type": answer.type, "message": answer.message}]},
    }
