"""The Turn Channels API's part of the OpenAPI document.

Tested by tests/unit/applications/test_openapi.py.
"""

from __future__ import annotations

from junebug_turn.applications.message_request import MAX_ADDRESS
from junebug_turn.applications.turn.api import TurnApi
from junebug_turn.applications.turn.signature import HEADER
from junebug_turn.http.openapi import (
    NULLABLE,
    OBJECT,
    TEXT_SCHEMA,
    Operation,
    Part,
    body,
    record,
    request_to,
)

_ADDRESS = {"type": ["string", "null"], "maxLength": MAX_ADDRESS}
_WEBHOOK = record(
    {
        "to": {"type": "string", "minLength": 1, "maxLength": MAX_ADDRESS},
        "from": _ADDRESS,
        "reply_to": _ADDRESS,
        "content": NULLABLE,
        "waiting_for_user_input": {"type": ["boolean", "null"]},
        "turn": {
            "type": ["object", "null"],
            "properties": {"type": TEXT_SCHEMA, "text": record({"body": TEXT_SCHEMA})},
        },
    },
    ["to"],
)
_FLAT = record(
    {"user_message_id": TEXT_SCHEMA, "timestamp": TEXT_SCHEMA, "status": {"enum": ["sent", "delivered"]}}
)
_NESTED = record(
    {
        "status": record(
            {
                "id": TEXT_SCHEMA,
                "timestamp": TEXT_SCHEMA,
                "status": {"enum": ["sent", "delivered", "failed"]},
                "recipient_id": NULLABLE,
            }
        )
    }
)
_INBOUND = record(
    {
        "contact": record({"id": NULLABLE, "profile": record({"name": NULLABLE})}, ["id"]),
        "message": record(
            {
                "type": {"enum": ["text", "interactive"]},
                "text": record({"body": TEXT_SCHEMA}),
                "interactive": OBJECT,
                "from": NULLABLE,
                "id": TEXT_SCHEMA,
                "timestamp": TEXT_SCHEMA,
            },
            ["type", "from", "id", "timestamp"],
        ),
    }
)

PART = Part(
    title="Turn Channels API",
    router=TurnApi.router,
    operations={
        "/messages": {
            "post": Operation(
                id="send_message",
                summary="Turn's webhook: send a message.",
                schema=record({"messages": {"type": "array", "items": record({"id": TEXT_SCHEMA})}}),
                body=body(_WEBHOOK),
                security=({"signature": []},),
            )
        }
    },
    error=record(
        {"errors": {"type": "array", "minItems": 1, "items": record({"type": {}, "message": TEXT_SCHEMA})}}
    ),
    statuses={429: 503},
    webhooks={
        "messages": request_to(None, "An inbound message, to {turn_api_url}/messages.", _INBOUND),
        "statuses": request_to(
            None,
            "An event, to {turn_api_url}/statuses, in the form of status_format.",
            {"oneOf": [_FLAT, _NESTED]},
        ),
    },
    security_schemes={
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": HEADER,
            "description": "base64 of HMAC-SHA256 of the body with turn_hmac_secret",
        }
    },
)
