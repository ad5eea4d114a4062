"""The table from exception to HTTP answer, and the envelope."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from junebug_turn import errors
from junebug_turn.http.errors import INTERNAL, answer_for, envelope


@pytest.mark.parametrize(
    ("error", "status", "code", "description", "kind"),
    [
        (errors.JsonDecodeError("m"), 400, "Bad Request", "json decode error", "JsonDecodeError"),
        (errors.InvalidBody("m"), 400, "Bad Request", "api usage error", "invalid_body"),
        (errors.ApiUsageError("m"), 400, "Bad Request", "api usage error", "ApiUsageError"),
        (errors.MessageNotFound("m"), 400, "Bad Request", "message not found", "MessageNotFound"),
        (errors.ChannelNotFound("m"), 404, "Not Found", "channel not found", "ChannelNotFound"),
        (errors.CacheError("m"), 503, "Service Unavailable", "cache error", "CacheError"),
        (
            errors.IdempotencyKeyReused("m"),
            422,
            HTTPStatus(422).phrase,
            "idempotency key reused",
            "IdempotencyKeyReused",
        ),
        (
            errors.AmqpConnectionError("m"),
            503,
            "Service Unavailable",
            "amqp connection error",
            "AmqpConnectionError",
        ),
    ],
)
def test_envelope(error: Exception, status: int, code: str, description: str, kind: str) -> None:
    """Every row of the contract's error table has its status, code, description and type."""
    assert envelope(answer_for(error)) == (
        status,
        {
            "status": status,
            "code": code,
            "description": description,
            "result": {"errors": [{"type": kind, "message": "m"}]},
        },
    )


def test_a_bug_tells_nothing() -> None:
    """An exception that is not in the table is a 500 with no detail."""
    answer = answer_for(KeyError("secret"))
    assert answer.status == 500
    assert answer.description == "internal server error"
    assert "secret" not in str(envelope(answer))


def test_headers() -> None:
    """A passing fault says when to come again, a wrong method which ones are right."""
    assert answer_for(errors.Unroutable("m", retry_after=7.2)).headers == (("Retry-After", "7"),)
    assert answer_for(errors.Unroutable("m", retry_after=0.1)).headers == (("Retry-After", "1"),)
    assert answer_for(errors.MethodNotAllowed("m", ("GET", "HEAD"))).headers == (("Allow", "GET, HEAD"),)


def test_every_class_of_ours() -> None:
    """Each exception that can reach a client has a row of its own; the others are bugs there."""
    unanswered = set()
    for cls in vars(errors).values():
        if isinstance(cls, type) and not issubclass(cls, errors.DeliveryFailed):
            error = cls("m", ()) if cls is errors.MethodNotAllowed else cls("m")
            answer = answer_for(error)
            if answer is INTERNAL:
                unanswered.add(cls.__name__)
            else:
                assert (answer.message, 400 <= answer.status < 600) == ("m", True)
    assert unanswered == {
        "JunebugTurnError",
        "Passing",
        "ConfigError",
        "UnreadableMessage",
        "UnreadableEntry",
        "DamagedBody",
    }
