"""Parts of an OpenAPI 3.1 document: each API has one, beside its routes; here they are put together.

Knows no application.

Tested by tests/unit/applications/test_openapi.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from attrs import frozen

from junebug_turn import version

Schema = Mapping[str, Any]

JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"

ALWAYS = (400, 408, 431, 500, 503)
"""Statuses with which any request can be answered: what is no HTTP, what takes too long, what is too large, bugs, and a
daemon that has no room or is about to stop."""

BODY = (413, 415)
"""Those of requests with a body."""

TEXT_SCHEMA: Schema = {"type": "string"}
NULLABLE: Schema = {"type": ["string", "null"]}
OBJECT: Schema = {"type": "object"}

ERRORS: Schema = {
    "type": "object",
    "required": ["status", "code", "description", "result"],
    "properties": {
        "status": {"type": "integer"},
        "code": TEXT_SCHEMA,
        "description": TEXT_SCHEMA,
        "result": {
            "type": "object",
            "required": ["errors"],
            "properties": {
                "errors": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["type", "message"],
                        "properties": {
                            "type": {"type": ["string", "array"]},
                            "message": TEXT_SCHEMA,
                            "schema_path": {"type": "array"},
                        },
                    },
                }
            },
        },
    },
}
"""An error in Junebug's form."""


def record(properties: Mapping[str, Schema], required: Iterable[str] | None = None, **more: Any) -> Schema:
    """Return the schema of an object.

    :param required: by default all of the properties
    """
    names = list(properties if required is None else required)
    return {
        "type": "object",
        "properties": dict(properties),
        **({"required": names} if names else {}),
        **more,
    }


def success(result: Schema) -> Schema:
    """Return the schema of an answer in Junebug's form."""
    return record(
        {"status": {"type": "integer"}, "code": TEXT_SCHEMA, "description": TEXT_SCHEMA, "result": result}
    )


def body(schema: Schema, *media: str, required: bool = True) -> dict[str, Any]:
    """Return a request's body."""
    return {"required": required, "content": {each: {"schema": schema} for each in media or (JSON,)}}


def parameter(name: str, text: str, place: str = "query", **more: Any) -> dict[str, Any]:
    """Return a parameter."""
    return {
        "name": name,
        "in": place,
        "description": text,
        "required": place == "path",
        "schema": TEXT_SCHEMA,
        **more,
    }


@frozen(kw_only=True)
class Operation:
    """A method at a path of an API.

    :ivar status: that of its success, with ``schema`` for its body, of the type ``media``
    :ivar errors: further statuses of its errors, beside ``ALWAYS`` and, with a body, ``BODY``
    """

    id: str
    summary: str
    status: int = 200
    schema: Schema = OBJECT
    media: str = JSON
    errors: tuple[int, ...] = ()
    body: Mapping[str, Any] | None = None
    parameters: tuple[Mapping[str, Any], ...] = ()
    callbacks: Mapping[str, Any] | None = None
    security: tuple[Mapping[str, Any], ...] | None = None

    @property
    def statuses(self) -> tuple[int, ...]:
        """All statuses that it answers with, but that of missing credentials."""
        return tuple(sorted({self.status, *self.errors, *ALWAYS, *(BODY if self.body else ())}))


@frozen(kw_only=True)
class Part:
    """The part of one API.

    :ivar router: its routes; None for a page of the daemon's own
    :ivar operations: path below its mount -> method -> operation
    :ivar error: the schema of its errors, of the type ``error_media``
    :ivar unauthorized: the status of missing credentials
    :ivar statuses: status of the table of errors -> the one with which this API answers
    :ivar failures: id of an operation -> status -> the schema of its own answer with that status
    :ivar webhooks: requests that the daemon makes to configured URLs
    :ivar security_schemes: name -> a scheme of its own, beside those of ``api_auth``
    """

    title: str
    router: Any = None
    operations: Mapping[str, Mapping[str, Operation]]
    error: Schema = ERRORS
    error_media: str = JSON
    unauthorized: int = 401
    statuses: Mapping[int, int] = {}
    failures: Mapping[str, Mapping[int, Schema]] = {}
    webhooks: Mapping[str, Any] = {}
    security_schemes: Mapping[str, Any] = {}

    def answers(self, operation: Operation, secured: bool) -> dict[str, Any]:
        """Return the documented answers of an operation, by their status."""
        found = {
            str(operation.status): {
                "description": HTTPStatus(operation.status).phrase,
                "content": {operation.media: {"schema": operation.schema}},
            }
        }
        statuses = [self.statuses.get(status, status) for status in operation.statuses]
        if secured or operation.security is not None:
            statuses.append(self.unauthorized)
        for status in sorted(set(statuses)):
            own = self.failures.get(operation.id, {}).get(status)
            schema = self.error if own is None else {"anyOf": [own, self.error]}
            content = {self.error_media: {"schema": schema}}
            shown: dict[str, Any] = {"description": HTTPStatus(status).phrase, "content": content}
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                shown["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
            found.setdefault(str(status), shown)
        return found


@frozen(kw_only=True)
class Mounted:
    """A part at its place.

    :ivar name: the connector, or another name; no other part has it
    :ivar path: where its paths begin
    :ivar secured: whether its requests need the credentials of ``api_auth``
    """

    name: str
    part: Part
    path: str = ""
    secured: bool = False


_AUTH: Mapping[str, Any] = {
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "Token, a blank, and a token of api_auth",
    },
    "basic": {"type": "http", "scheme": "basic"},
}
_VARIABLE = re.compile(r"\{(\w+)\}")


def document(parts: Iterable[Mounted]) -> dict[str, Any]:
    """Return the document of these parts."""
    paths: dict[str, Any] = {}
    webhooks: dict[str, Any] = {}
    schemes: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    tags = []
    for mounted in parts:
        part = mounted.part
        tags.append({"name": mounted.name, "description": part.title})
        if mounted.secured:
            schemes |= _AUTH
        schemes |= {f"{mounted.name}.{name}": scheme for name, scheme in part.security_schemes.items()}
        for path, operations in part.operations.items():
            there = paths.setdefault(mounted.path + path, {})
            for method, operation in operations.items():
                there.setdefault(method, _operation(mounted, path, operation, responses))
        for name, hook in part.webhooks.items():
            webhooks[f"{mounted.name}.{name}"] = hook
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "junebug-turn",
            "version": version() or "unknown",
            "description": "The paths of applications, channels and routers exist with a slash at their end, too.",
        },
        "tags": tags,
        "paths": paths,
    }
    if webhooks:
        found["webhooks"] = webhooks
    found["components"] = {"responses": dict(sorted(responses.items())), "securitySchemes": schemes}
    return found


def _operation(
    mounted: Mounted, path: str, operation: Operation, responses: dict[str, Any]
) -> dict[str, Any]:
    """Return an operation; its errors are added to ``responses``, since they are those of others too."""
    answers = mounted.part.answers(operation, mounted.secured)
    for status, answer in answers.items():
        ((_, content),) = answer["content"].items()
        if content["schema"] is mounted.part.error:
            responses.setdefault(name := f"{mounted.name}.{status}", answer)
            answers[status] = {"$ref": f"#/components/responses/{name}"}
    variables = [parameter(name, name, "path") for name in _VARIABLE.findall(path)]
    found: dict[str, Any] = {
        "operationId": f"{mounted.name}.{operation.id}",
        "tags": [mounted.name],
        "summary": operation.summary,
        "responses": answers,
    }
    if parameters := [*variables, *operation.parameters]:
        found["parameters"] = parameters
    if operation.body is not None:
        found["requestBody"] = operation.body
    if operation.callbacks is not None:
        found["callbacks"] = operation.callbacks
    if operation.security is not None:
        found["security"] = [
            {f"{mounted.name}.{name}": scopes for name, scopes in each.items()} for each in operation.security
        ]
    elif mounted.secured:
        found["security"] = [{name: []} for name in _AUTH]
    return found


def request_to(
    url: str | None, summary: str, schema: Schema, media: str = JSON, method: str = "post"
) -> dict[str, Any]:
    """Return a callback to ``url``, or with None a webhook, as the daemon makes its requests."""
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "2XX": {"description": "It is delivered."},
            "429": {"description": "It is tried again after Retry-After."},
            "5XX": {"description": "It is tried again."},
            "default": {"description": "It is refused for good, and parked."},
        },
    }
    if method != "get":
        operation["requestBody"] = body(schema, media)
    item = {method: operation}
    return item if url is None else {url: item}
