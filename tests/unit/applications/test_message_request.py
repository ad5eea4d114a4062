"""The request for an outbound message: how it becomes a reply or a new message, whatever the API."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from junebug_turn.applications.message_request import MessageRequest
from junebug_turn.errors import ApiUsageError
from junebug_turn.messages.vumi import Message

INBOUND = Message(
    to_addr="8110",
    from_addr="+26612345678",
    transport_name="ussd_transport",
    transport_type="ussd",
    group="g",
    provider="mtn",
    to_addr_type="short",
    from_addr_type="msisdn",
    session_event="new",
    transport_metadata={"session": 7},
    helper_metadata={"b": 2},
    routing_metadata={"c": 3},
    message_id="inbound-id",
)


def reply(inbound: Message = INBOUND, **fields: Any) -> Message:
    return MessageRequest(content="hi", **fields).as_reply(
        inbound, transport_name="conn", transport_type="sms"
    )


def new(default_from_addr: str | None = None, *, require_from: bool = True, **fields: Any) -> Message:
    return MessageRequest(content="hi", to="+27123", **fields).as_new(
        default_from_addr=default_from_addr,
        transport_name="conn",
        transport_type="sms",
        require_from=require_from,
    )


def test_reply() -> None:
    """A reply goes to where the inbound message came from, by its transport and with its group, provider and transport
    metadata; the request's own addresses and group are ignored.

    to_addr_type and from_addr_type are null: the peers reject types that they don't know.
    """
    message = reply(to="x", from_addr="y", group="other", channel_data={"a": 1})
    assert message == Message(
        to_addr="+26612345678",
        from_addr="8110",
        transport_name="ussd_transport",
        transport_type="ussd",
        group="g",
        provider="mtn",
        in_reply_to="inbound-id",
        content="hi",
        transport_metadata={"session": 7},
        helper_metadata={"a": 1},
        message_id=message.message_id,
        timestamp=message.timestamp,
    )
    assert message.message_id != INBOUND.message_id


@pytest.mark.parametrize("transport_type", [None, "pigeon"])
def test_reply_always_has_a_transport_type(transport_type: str | None) -> None:
    """transport_type of what we send is never null or unknown: a reply falls back to the configured one."""
    message = reply(attrs.evolve(INBOUND, transport_type=transport_type, transport_name=None))
    assert (message.transport_type, message.transport_name) == ("sms", "conn")


@pytest.mark.parametrize(
    ("session_event", "continue_session", "expected"),
    [(None, None, None), (None, True, None), (None, False, "close"), ("resume", False, "resume")],
)
def test_session(session_event: str | None, continue_session: bool | None, expected: str | None) -> None:
    """A reply without a session event of its own closes the session when it is not to go on; a new message doesn't."""
    session = {"session_event": session_event, "continue_session": continue_session}
    assert reply(**session).session_event == expected
    assert new("8110", **session).session_event == session_event


def test_new() -> None:
    """A new message has the request's addresses and group, and the connector's transport."""
    message = new(from_addr="8110", group="g", channel_data={"a": 1})
    assert message == Message(
        to_addr="+27123",
        from_addr="8110",
        group="g",
        content="hi",
        transport_name="conn",
        transport_type="sms",
        helper_metadata={"a": 1},
        message_id=message.message_id,
        timestamp=message.timestamp,
    )


def test_from_addr() -> None:
    """A new message without a from address takes the default one; without either it is refused."""
    assert new("8110").from_addr == "8110"
    assert new("8110", from_addr="9").from_addr == "9"
    with pytest.raises(ApiUsageError, match="default_from_addr"):
        new()


def test_no_from_addr() -> None:
    """Where none is required, a new message without a from address has null there, unless there is a default one."""
    assert new(require_from=False).from_addr is None
    assert new("8110", require_from=False).from_addr == "8110"
