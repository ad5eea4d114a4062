"""The operators' JSON API in the OpenAPI document; their page, which is for people, is not in it.

Tested by tests/unit/applications/test_openapi.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from junebug_turn.http.admin.operators.api import OperatorsApi
from junebug_turn.http.admin.operators.parameters import KINDS, MAX_LIMIT, MAX_OFFSET
from junebug_turn.http.openapi import NULLABLE, OBJECT, TEXT_SCHEMA, Operation, Part, body, parameter, record

_COUNT = {"type": "integer", "minimum": 0}
_BOOLEAN = {"type": "boolean"}
_KIND = {"enum": [*KINDS]}
_DURATION = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? *[smhd]$", "examples": ["2h"]}
_CHOICE = (
    parameter("connector", "Only of this connector."),
    parameter("kind", "Only inbound messages, or only events.", schema=_KIND),
    parameter("reason", "Only with this reason."),
    parameter("destination", "Only for this destination: its origin, or its host."),
    parameter("older_than", "Only those that failed so long ago at least.", schema=_DURATION),
    parameter("newer_than", "Only those that failed so long ago at most.", schema=_DURATION),
)
_FULL = (parameter("full", "Whether with addresses and bodies.", schema=_BOOLEAN),)
_LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}
_PARKED = record(
    {"id": TEXT_SCHEMA, "kind": _KIND, "connector": TEXT_SCHEMA, "reason": NULLABLE, "attempts": _COUNT}
)
_CHOICE_BODY: Mapping[str, Mapping[str, Any]] = {
    "connector": TEXT_SCHEMA,
    "kind": _KIND,
    "reason": TEXT_SCHEMA,
    "destination": TEXT_SCHEMA,
    "older_than": _DURATION,
    "newer_than": _DURATION,
}
_PAUSED = record({"connector": TEXT_SCHEMA, "paused": _BOOLEAN, "kept": _BOOLEAN})
_REPLAYED = record({"replayed": _COUNT, "more": _BOOLEAN}, ["replayed"])
_CONNECTOR = record(
    {
        "name": TEXT_SCHEMA,
        "application": TEXT_SCHEMA,
        "paused": _BOOLEAN,
        "transport": {"enum": ["up", "down", "unknown"]},
        "queues": OBJECT,
        "parked": OBJECT,
        "rates": {},
    }
)
_TRACE = record(
    {
        "id": TEXT_SCHEMA,
        "found": _BOOLEAN,
        "connectors": {
            "type": "array",
            "items": record({"connector": TEXT_SCHEMA, "steps": {"type": "array"}}),
        },
        "waiting": {"type": "array"},
        "unread": {"type": "array"},
        "broker": NULLABLE,
    }
)


def _operation(id: str, summary: str, schema: Mapping[str, Any], **more: Any) -> Operation:
    errors = (403, 404, 429) if more.pop("named", True) else (403, 429)
    return Operation(id=id, summary=summary, schema=schema, errors=errors, **more)


PART = Part(
    title="The operators' API",
    router=OperatorsApi.router,
    operations={
        "/connectors": {
            "get": _operation(
                "connectors",
                "The state of each connector.",
                record({"connectors": {"type": "array", "items": _CONNECTOR}}),
                named=False,
            )
        },
        "/connectors/{name}/pause": {"post": _operation("pause", "Pause a connector.", _PAUSED)},
        "/connectors/{name}/resume": {"post": _operation("resume", "Resume a connector.", _PAUSED)},
        "/parked": {
            "get": _operation(
                "parked",
                "Parked messages, the oldest of each queue first.",
                record({"parked": {"type": "array", "items": _PARKED}, "more": _BOOLEAN}, ["parked"]),
                parameters=(
                    *_CHOICE,
                    *_FULL,
                    parameter("limit", "How many at most.", schema=_LIMIT),
                    parameter(
                        "offset",
                        "After so many.",
                        schema={"type": "integer", "minimum": 0, "maximum": MAX_OFFSET},
                    ),
                ),
            )
        },
        "/parked/replay": {
            "post": _operation(
                "replay",
                "Put the parked messages of a choice back into their queues.",
                _REPLAYED,
                parameters=(*_CHOICE, parameter("limit", "How many at most.", schema=_LIMIT)),
                body=body(record({**_CHOICE_BODY, "limit": _LIMIT}, ()), required=False),
            )
        },
        "/parked/{id}": {
            "get": _operation("parked_message", "One parked message.", OBJECT, parameters=(*_CHOICE, *_FULL)),
            "delete": _operation(
                "drop",
                "Drop one parked message for ever.",
                record({"dropped": {"const": 1}}),
                parameters=_CHOICE,
            ),
        },
        "/parked/{id}/replay": {
            "post": _operation(
                "replay_one",
                "Put one parked message back into its queue.",
                _REPLAYED,
                parameters=_CHOICE,
                body=body(record(_CHOICE_BODY, ()), required=False),
            )
        },
        "/messages/{id}": {
            "get": _operation("message", "All that is known of one message.", _TRACE, parameters=_FULL)
        },
    },
)
