"""What the broker's reason for closing a channel says of the message that it was for, and of the limit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from junebug_turn.amqp.frames import publish_arguments
from junebug_turn.amqp.refusals import SMALL, MessageSizes, Refusal
from junebug_turn.errors import AmqpConnectionError, MessageTooLarge


def read(code: int, text: str) -> Refusal | None:
    return Refusal.read(SimpleNamespace(reply_code=code, reply_text=text))


@pytest.mark.parametrize(
    "text",
    ["message size 30 is larger than configured max size 20", "message size 30 larger than max size 20"],
)
def test_a_message_that_is_too_large(text: str) -> None:
    """RabbitMQ's texts name the size and the limit; the first message of that size is meant."""
    refusal = read(406, f"PRECONDITION_FAILED - {text}")
    assert refusal is not None
    assert isinstance(refusal.error, MessageTooLarge)
    assert (refusal.size, refusal.limit) == (30, 20)
    assert refusal.concerns(publish_arguments("vumi", "q"), 30)
    assert not refusal.concerns(publish_arguments("vumi", "q"), 29)


@pytest.mark.parametrize(("name", "exchange"), [("vumi", "vumi"), ("amq.default", "")])
def test_an_exchange_that_is_refused(name: str, exchange: str) -> None:
    """Every message for that exchange is meant; the default exchange has a name only there."""
    refusal = read(403, f"ACCESS_REFUSED - access to exchange '{name}' in vhost '/' refused for user 'u'")
    assert refusal is not None
    assert isinstance(refusal.error, AmqpConnectionError)
    assert refusal.concerns(publish_arguments(exchange, "q"), 30)
    assert not refusal.concerns(publish_arguments("other", "q"), 30)


@pytest.mark.parametrize("text", ["NOT_FOUND - no exchange 'vumi' in vhost '/'", "INTERNAL_ERROR", ""])
def test_another_reason(text: str) -> None:
    """Another reason doesn't say which message was meant, nor does a lost connection."""
    assert read(404, text) is None
    assert Refusal.read("lost") is None


def test_sizes() -> None:
    """A size is proven by a confirm; a limit that was named holds until another connection."""
    sizes = MessageSizes()
    assert sizes.proven == SMALL
    sizes.taken(10000)
    sizes.taken(9000)
    assert sizes.proven == 10000
    sizes.refused(5000)
    assert (sizes.proven, sizes.limit) == (5000, 5000)
    sizes.check(5000)
    with pytest.raises(MessageTooLarge, match=r"5001 bytes.*5000 at most"):
        sizes.check(5001)
