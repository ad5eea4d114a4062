"""Messages of the benchmark, of one size and shape, so that all figures are of the same work.

Tested by tests/tools/bench/test_receiver.py.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hmac import digest
from typing import Any

from junebug_turn.messages.vumi import Event, Message

TEXT = "Thank you for registering. Reply with 1 to hear more, or with STOP to hear no more. Message no. {}"
SECRET = "bench"


def number(n: int) -> str:
    """A phone number."""
    return f"+2782{n % 10_000_000:07}"


def inbound_body(message_id: str, n: int = 0) -> bytes:
    """Build an inbound message, as a transport publishes it."""
    return Message(
        to_addr="8110",
        from_addr=number(n),
        content=TEXT.format(n),
        transport_name="bench",
        transport_type="sms",
        message_id=message_id,
        helper_metadata={"session": {"operator": "any", "network": "any"}},
    ).to_json()


def event_body(message_id: str) -> bytes:
    """Build an ack, as a transport publishes it when the network has taken a message."""
    return Event(user_message_id=message_id, event_type="ack", sent_message_id=f"smsc-{message_id}").to_json()


def junebug_request(n: int, event_url: str) -> bytes:
    """The body of an outbound request, as RapidPro sends it."""
    body: dict[str, Any] = {
        "to": number(n),
        "from": "8110",
        "content": TEXT.format(n),
        "event_url": event_url,
        "event_auth_token": "bench",
        "channel_data": {"flow": "registration"},
    }
    return json.dumps(body).encode()


def turn_request(n: int) -> bytes:
    """The body of a webhook of Turn."""
    body = {"to": number(n), "from": "8110", "turn": {"text": {"body": TEXT.format(n)}, "type": "text"}}
    return json.dumps(body).encode()


def signature(body: bytes) -> bytes:
    """Sign ``body`` as Turn does."""
    return b64encode(digest(SECRET.encode(), body, "sha256"))
