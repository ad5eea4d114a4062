"""Part of the OpenAPI document for Kannel's HTTP interface.

Tested by tests/unit/applications/test_openapi.py.
"""

from __future__ import annotations

from typing import Any

from junebug_turn.applications.kannel.api import KannelApi
from junebug_turn.http.deduplication import IDEMPOTENCY_KEY
from junebug_turn.http.openapi import (
    FORM,
    TEXT,
    TEXT_SCHEMA,
    Operation,
    Part,
    body,
    parameter,
    record,
    request_to,
)

_PARAMETERS = {
    "to": "The numbers of the receivers, with a space or a plus between them.",
    "text": "The text.",
    "from": "The number that it is sent from.",
    "username": "The user; also user.",
    "password": "The password; also pass.",
    "coding": "0: 7 bits, 1: 8 bits, 2: UCS-2.",
    "charset": "The character set of the text.",
    "dlr-mask": "The sum of the delivery reports that are wanted.",
    "dlr-url": "The URL for delivery reports, with Kannel's escapes.",
    "priority": "Not used.",
    "udh": "Refused.",
}
_QUERY = (
    *(parameter(name, text) for name, text in _PARAMETERS.items()),
    parameter(IDEMPOTENCY_KEY, "The same key sends one message, however often the request comes.", "header"),
)
_INBOUND = record(dict.fromkeys(("id", "ts", "message", "sender", "to"), TEXT_SCHEMA))


def _send(id: str, url: str, **more: Any) -> Operation:
    return Operation(
        id=id,
        summary="Send a message to each receiver.",
        status=202,
        schema=TEXT_SCHEMA,
        media=TEXT,
        parameters=_QUERY,
        errors=(413, 415, 422, 429),
        callbacks={"delivery_report": request_to(url, "A delivery report.", TEXT_SCHEMA, method="get")},
        **more,
    )


def _methods(name: str) -> dict[str, Operation]:
    form = record(dict.fromkeys(_PARAMETERS, TEXT_SCHEMA), ())
    return {
        "get": _send(f"get_{name}", "{$request.query.dlr-url}"),
        "post": _send(
            f"post_{name}",
            "{$request.body#/dlr-url}",
            body=body(form, FORM, TEXT, "application/octet-stream", required=False),
        ),
    }


PART = Part(
    title="Kannel's HTTP interface",
    router=KannelApi.router,
    operations={"/cgi-bin/sendsms": _methods("sendsms"), "/send": _methods("send")},
    error=TEXT_SCHEMA,
    error_media=TEXT,
    unauthorized=403,
    statuses={408: 503, 429: 503},
    webhooks={
        "receive_url": request_to(None, "An inbound message; with receive_method get a GET.", _INBOUND, FORM)
    },
)
