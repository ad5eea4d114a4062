"""The parts of the OpenAPI document for Junebug's API of channels and routers.

Tested by tests/unit/applications/test_openapi.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from junebug_turn.http.admin.channels import schemas
from junebug_turn.http.admin.channels.api import ChannelsApi
from junebug_turn.http.admin.channels.routers_api import RoutersApi
from junebug_turn.http.openapi import OBJECT, Operation, Part, body, parameter, record, success

_IDS = success({"type": "array", "items": {"type": "string"}})
_FOUND = success(record({"id": {"type": "string"}}))
_DONE = success(OBJECT)
_LOGS = success({"type": "array", "items": OBJECT})
_LIMIT = (parameter("n", "How many lines at most."),)


def _operation(
    id: str, summary: str, schema: Mapping[str, Any], *errors: int, changes: Any = None, **more: Any
) -> Operation:
    """Return an operation; with ``changes``, which is the check of its body, it takes one."""
    if changes is not None:
        more["body"] = body(changes if isinstance(changes, Mapping) else changes.schema)
    return Operation(id=id, summary=summary, schema=schema, errors=errors, **more)


def channels_part(send: Operation, status: Operation) -> Part:
    """Return the part of ``/channels``.

    :param send: the operation of an application that sends a message
    :param status: that of a message's status
    """
    return Part(
        title="Channels at run time",
        router=ChannelsApi.router,
        operations={
            "/channels": {
                "get": _operation("list_channels", "The ids of all channels.", _IDS),
                "post": _operation(
                    "create", "Make a channel.", _FOUND, status=201, changes=schemas.NEW_CHANNEL
                ),
            },
            "/channels/{id}": {
                "get": _operation("show", "A channel's properties and status.", _FOUND, 404),
                "post": _operation(
                    "update",
                    "Change properties of a channel.",
                    _FOUND,
                    404,
                    409,
                    changes=schemas.CHANNEL_CHANGES,
                ),
                "delete": _operation("delete", "Delete a channel.", _DONE, 404, 409),
            },
            "/channels/{id}/restart": {
                "post": _operation("restart", "Restart a channel's consumers.", _DONE, 404, 409)
            },
            "/channels/{id}/logs": {
                "get": _operation(
                    "logs", "The last log lines about a channel.", _LOGS, 404, parameters=_LIMIT
                )
            },
            "/channels/{id}/messages": {"post": _of_application(send)},
            "/channels/{id}/messages/{message_id}": {"get": _of_application(status)},
        },
    )


def routers_part(send: Operation, status: Operation) -> Part:
    """Return the part of ``/routers``; the parameters are those of ``channels_part``."""
    return Part(
        title="Routers at run time",
        router=RoutersApi.router,
        operations={
            "/routers": {
                "get": _operation("list_routers", "The ids of all routers.", _IDS),
                "post": _operation("create", "Make a router.", _FOUND, status=201, changes=schemas.ROUTER),
            },
            "/routers/{id}": {
                "get": _operation("show", "A router's definition.", _FOUND, 404),
                "put": _operation(
                    "replace", "Replace all properties of a router.", _FOUND, 404, changes=schemas.ROUTER
                ),
                "patch": _operation(
                    "update", "Change properties of a router.", _FOUND, 404, changes=schemas.ROUTER_CHANGES
                ),
                "delete": _operation("delete", "Delete a router with its destinations.", _DONE, 404),
            },
            "/routers/{id}/logs": {
                "get": _operation("logs", "The last log lines about a router.", _LOGS, 404, parameters=_LIMIT)
            },
            "/routers/{id}/destinations": {
                "get": _operation("list_destinations", "The ids of a router's destinations.", _IDS, 404),
                "post": _operation(
                    "create_destination",
                    "Make a destination.",
                    _FOUND,
                    404,
                    status=201,
                    changes=schemas.DESTINATION,
                ),
            },
            "/routers/{id}/destinations/{destination}": {
                "get": _operation("show_destination", "A destination's definition.", _FOUND, 404),
                "put": _operation(
                    "replace_destination",
                    "Replace all properties of a destination.",
                    _FOUND,
                    404,
                    changes=schemas.DESTINATION,
                ),
                "patch": _operation(
                    "update_destination",
                    "Change properties of a destination.",
                    _FOUND,
                    404,
                    changes=schemas.DESTINATION_CHANGES,
                ),
                "delete": _operation("delete_destination", "Delete a destination.", _DONE, 404),
            },
            "/routers/{id}/destinations/{destination}/messages": {"post": _of_application(send)},
            "/routers/{id}/destinations/{destination}/messages/{message_id}": {
                "get": _of_application(status)
            },
        },
    )


def _of_application(operation: Operation) -> Operation:
    """Return an application's operation where the application may not be there."""
    return Operation(
        id=operation.id,
        summary=operation.summary,
        status=operation.status,
        schema=operation.schema,
        body=operation.body,
        parameters=operation.parameters,
        callbacks=operation.callbacks,
        errors=(*operation.errors, 404),
    )
