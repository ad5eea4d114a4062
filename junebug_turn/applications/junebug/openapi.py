"""The Junebug Message API's part of the OpenAPI document.

Tested by tests/unit/applications/test_openapi.py.
"""

from __future__ import annotations

from junebug_turn.applications.junebug.api import JunebugApi
from junebug_turn.applications.junebug.messages import EVENT_TYPES
from junebug_turn.applications.message_request import MAX_ADDRESS
from junebug_turn.http.deduplication import IDEMPOTENCY_KEY
from junebug_turn.http.openapi import (
    NULLABLE,
    OBJECT,
    TEXT_SCHEMA,
    Operation,
    Part,
    body,
    parameter,
    record,
    request_to,
    success,
)
from junebug_turn.messages.vumi import SESSION_EVENTS

_ADDRESS = {"type": ["string", "null"], "maxLength": MAX_ADDRESS}
SEND = record(
    {
        "to": _ADDRESS,
        "from": _ADDRESS,
        "group": _ADDRESS,
        "reply_to": _ADDRESS,
        "content": NULLABLE,
        "event_url": {"type": ["string", "null"], "maxLength": 8192},
        "event_auth_token": {"type": ["string", "null"], "maxLength": 4096},
        "priority": {"type": ["integer", "string", "null"]},
        "channel_data": {
            "type": ["object", "null"],
            "properties": {
                "session_event": {"enum": [None, *SESSION_EVENTS]},
                "continue_session": {"type": ["boolean", "null"]},
            },
        },
    },
    ["content"],
    additionalProperties=False,
    description="Either to or reply_to must be given.",
)
"""An outbound message, as a client sends it."""

_MESSAGE = record(
    {
        "to": NULLABLE,
        "from": NULLABLE,
        "group": NULLABLE,
        "message_id": TEXT_SCHEMA,
        "channel_id": NULLABLE,
        "timestamp": TEXT_SCHEMA,
        "reply_to": NULLABLE,
        "content": NULLABLE,
        "channel_data": OBJECT,
    },
    additionalProperties=False,
)
_EVENT = record(
    {
        "event_type": {"enum": [*EVENT_TYPES.values()]},
        "message_id": TEXT_SCHEMA,
        "channel_id": TEXT_SCHEMA,
        "timestamp": TEXT_SCHEMA,
        "event_details": record({"reason": NULLABLE}, ()),
    },
    additionalProperties=False,
)
_STATUS = record(
    {
        "id": TEXT_SCHEMA,
        "last_event_type": NULLABLE,
        "last_event_timestamp": NULLABLE,
        "events": {"type": "array", "items": _EVENT},
    }
)
_TRANSPORT_STATUS = record(
    {
        "channel_id": TEXT_SCHEMA,
        "component": TEXT_SCHEMA,
        "status": {"enum": ["ok", "degraded", "down"]},
        "type": NULLABLE,
        "message": NULLABLE,
        "details": OBJECT,
    }
)

SEND_MESSAGE = Operation(
    id="send_message",
    summary="Send a message, or a reply.",
    status=201,
    schema=success(_MESSAGE),
    body=body(SEND),
    parameters=(
        parameter(
            IDEMPOTENCY_KEY, "The same key sends one message, however often the request comes.", "header"
        ),
    ),
    errors=(422, 429),
    callbacks={"event": request_to("{$request.body#/event_url}", "An event of the message.", _EVENT)},
)
MESSAGE_STATUS = Operation(
    id="message_status", summary="The events of an outbound message.", schema=success(_STATUS), errors=(429,)
)

PART = Part(
    title="Junebug Message API",
    router=JunebugApi.router,
    operations={"/messages": {"post": SEND_MESSAGE}, "/messages/{message_id}": {"get": MESSAGE_STATUS}},
    webhooks={
        "mo_message_url": request_to(None, "An inbound message.", _MESSAGE),
        "default_event_url": request_to(None, "An event of a message that has no event_url.", _EVENT),
        "status_url": request_to(None, "A status of the transport.", _TRANSPORT_STATUS),
    },
)
