"""JSON Schemas of the bodies that define channels, routers and destinations, and their check.

They are those of Junebug (``junebug/api.py``), and so are the messages: a text of the body is shown with the ``u``
that its clients saw before it.

Tested by tests/integration/test_channels.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jsonschema import Draft4Validator
from jsonschema.exceptions import ValidationError

from junebug_turn.errors import InvalidBody

_MOST_FAULTS = 20
_MOST_TEXT = 300

_TEXT, _OBJECT = {"type": "string"}, {"type": "object"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_COUNT = {"type": "integer", "minimum": 0}

_CHANNEL = {
    "type": _TEXT,
    "label": _TEXT,
    "config": _OBJECT,
    "metadata": _OBJECT,
    "status_url": _TEXT,
    "mo_url": _TEXT,
    "mo_url_auth_token": _TEXT,
    "amqp_queue": _TEXT,
    "rate_limit_count": _COUNT,
    "rate_limit_window": _COUNT,
    "character_limit": _COUNT,
}
_ROUTER = {"type": _TEXT, "label": _TEXT, "config": _OBJECT, "metadata": _OBJECT}
_DESTINATION = {
    "label": _TEXT,
    "config": _OBJECT,
    "metadata": _OBJECT,
    "mo_url": _TEXT,
    "mo_url_token": _TEXT,
    "amqp_queue": _TEXT,
    "character_limit": _COUNT,
}


def _schema(properties: dict[str, Any], *required: str, more: bool = False) -> Draft4Validator:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        # Draft 4 takes no empty list.
        schema["required"] = list(required)
    if not more:
        schema["additionalProperties"] = False
    return Draft4Validator(schema)


NEW_CHANNEL = _schema(_CHANNEL, "type", "config", more=True)
CHANNEL_CHANGES = _schema(
    # Junebug's schema for changes lacks the token and the queue; null takes any of the four away.
    _CHANNEL | dict.fromkeys(("status_url", "mo_url", "mo_url_auth_token", "amqp_queue"), _TEXT_OR_NULL),
    more=True,
)
ROUTER = _schema(_ROUTER, "type", "config")
ROUTER_CHANGES = _schema(_ROUTER)
DESTINATION = _schema(_DESTINATION, "config")
DESTINATION_CHANGES = _schema(_DESTINATION)


def check(body: Any, schema: Draft4Validator) -> dict[str, Any]:
    """Return a request's JSON, if it is as the schema has it.

    :raises InvalidBody: it isn't; with each fault
    """
    found = [(_message(error), tuple(error.schema_path)) for error in schema.iter_errors(body)]
    if found:
        found = sorted(found)[:_MOST_FAULTS]
        raise InvalidBody("; ".join(message for message, _ in found), tuple(found))
    checked: dict[str, Any] = body
    return checked


def _message(error: ValidationError) -> str:
    if error.validator == "additionalProperties":
        schema: Any = error.schema
        body: Any = error.instance
        unknown = sorted(body.keys() - schema["properties"].keys())
        verb = "was" if len(unknown) == 1 else "were"
        return f"Additional properties are not allowed ({_texts(unknown)} {verb} unexpected)"
    shown = repr(error.instance)
    message = str(error.message)
    if isinstance(error.instance, str) and message.startswith(shown):
        # What a client sent may be long, and has to be found in the answer, not in full.
        short = shown if len(shown) <= _MOST_TEXT else f"{shown[:_MOST_TEXT]}..."
        return f"u{short}{message[len(shown) :]}"
    return message[:_MOST_TEXT] if len(shown) < _MOST_TEXT else _without(error)


def _without(error: ValidationError) -> str:
    """Return the message for a value that is too long to be shown."""
    name = "/".join(str(part) for part in error.path) or "the body"
    return f"{name} is not valid under {error.validator} {str(error.validator_value)[:_MOST_TEXT]}"


def _texts(names: Iterable[str]) -> str:
    return ", ".join(f"u'{name[:100]}'" for name in list(names)[:10])
