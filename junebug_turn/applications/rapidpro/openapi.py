"""The External channel's part of the OpenAPI document.

Tested by tests/unit/applications/test_openapi.py.
"""

from __future__ import annotations

from typing import Any

from junebug_turn.applications.rapidpro.api import RapidProApi
from junebug_turn.applications.rapidpro.application import FINAL
from junebug_turn.http.openapi import (
    FORM,
    JSON,
    TEXT_SCHEMA,
    Operation,
    Part,
    body,
    parameter,
    record,
    request_to,
)

_PARAMETERS = {
    "to": "The number of the receiver.",
    "text": "The text.",
    "from": "The number that it is sent from.",
    "id": "RapidPro's id of the message, which its events carry.",
    "uuid": "The same, where there is no id.",
    "session_status": "W: the session goes on; C or empty: it ends.",
    "quick_reply": "A quick reply; can be given again.",
    "quick_replies": "Quick replies, as an array in JSON.",
    "channel": "Not used.",
}
_QUERY = tuple(parameter(name, text) for name, text in _PARAMETERS.items())
_BODY = record(
    {
        name: {"type": ["string", "integer" if name == "id" else "array", "null"]}
        if name in ("id", "quick_reply", "quick_replies")
        else {"type": ["string", "null"]}
        for name in _PARAMETERS
    },
    (),
)
_ID = record({"id": TEXT_SCHEMA})


def _send(method: str, **more: Any) -> Operation:
    return Operation(
        id=f"{method}_message",
        summary="Send a message. A parameter of the URL wins over that of the body; to and text are required.",
        schema=record({"message_id": TEXT_SCHEMA, "status": {"const": "accepted"}}),
        parameters=_QUERY,
        errors=(413, 415, 429),
        **more,
    )


PART = Part(
    title="RapidPro's External channel",
    router=RapidProApi.router,
    operations={
        "/send": {
            "get": _send("get"),
            "post": _send("post", body=body(_BODY, FORM, JSON, required=False)),
            "put": _send("put", body=body(_BODY, FORM, JSON, required=False)),
        }
    },
    error=record({"error": record({"type": {}, "message": TEXT_SCHEMA})}),
    statuses=FINAL,
    webhooks={
        "receive": request_to(
            None,
            "An inbound message, to {rapidpro_url}/receive.",
            record({"from": TEXT_SCHEMA, "text": TEXT_SCHEMA, "date": TEXT_SCHEMA}),
            FORM,
        ),
        **{
            name: request_to(None, f"An event, to {{rapidpro_url}}/{name}.", _ID, FORM)
            for name in ("sent", "delivered", "failed")
        },
    },
)
