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
_MESSAGE = {
    "id": TEXT_SCHEMA,
    "kind": _KIND,
    "connector": TEXT_SCHEMA,
    "reason": NULLABLE,
    "attempts": _COUNT,
}
_PARKED = record(_MESSAGE)
_DELAYED = record({**_MESSAGE, "queue": TEXT_SCHEMA, "next_try": TEXT_SCHEMA})
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


def _held(state: str, prefix: str) -> dict[str, dict[str, Operation]]:
    """Return the operations on the messages in a state, ``parked`` or ``delayed``.

    :param prefix: what the ids of the operations begin with
    """
    item = _PARKED if state == "parked" else _DELAYED
    words, one = f"{state} messages", f"one {state} message"
    offset = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}
    return {
        f"/{state}": {
            "get": _operation(
                state,
                f"{words.capitalize()}, the oldest of each queue first.",
                record({state: {"type": "array", "items": item}, "more": _BOOLEAN}, [state]),
                parameters=(
                    *_CHOICE,
                    *_FULL,
                    parameter("limit", "How many at most.", schema=_LIMIT),
                    parameter("offset", "After so many.", schema=offset),
                ),
            )
        },
        f"/{state}/replay": {
            "post": _operation(
                f"{prefix}replay",
                f"Put the {words} of a choice back into their queues.",
                _REPLAYED,
                parameters=(*_CHOICE, parameter("limit", "How many at most.", schema=_LIMIT)),
                body=body(record({**_CHOICE_BODY, "limit": _LIMIT}, ()), required=False),
            )
        },
        f"/{state}/{{id}}": {
            "get": _operation(
                f"{state}_message", f"{one.capitalize()}.", OBJECT, parameters=(*_CHOICE, *_FULL)
            ),
            "delete": _operation(
                f"{prefix}drop",
                f"Drop {one} for ever.",
                record({"dropped": {"const": 1}}),
                parameters=_CHOICE,
            ),
        },
        f"/{state}/{{id}}/replay": {
            "post": _operation(
                f"{prefix}replay_one",
                f"Put {one} back into its queue.",
                _REPLAYED,
                parameters=_CHOICE,
                body=body(record(_CHOICE_BODY, ()), required=False),
            )
        },
    }


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
        **_held("parked", ""),
        **_held("delayed", "delayed_"),
        "/messages/{id}": {
            "get": _operation("message", "All that is known of one message.", _TRACE, parameters=_FULL)
        },
    },
)
