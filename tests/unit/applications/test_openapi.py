"""The OpenAPI document and the code agree, both ways: routes and paths, answers and documented answers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from twisted.internet.task import Clock

from junebug_turn import errors
from junebug_turn.applications.base import ApplicationType
from junebug_turn.applications.registry import APPLICATION_TYPES
from junebug_turn.applications.turn.signature import HEADER, sign
from junebug_turn.daemon.openapi import daemon_document
from junebug_turn.daemon.settings import load
from junebug_turn.http.admin.channels.api import ChannelsApi
from junebug_turn.http.admin.channels.routers_api import RoutersApi
from junebug_turn.http.admin.operators.api import OperatorsApi
from junebug_turn.http.authentication import Authenticator, Credentials
from junebug_turn.http.errors import answer_for, envelope
from junebug_turn.http.mounts import Mount
from junebug_turn.http.openapi import Operation, Part
from tests.support.application_harness import Face
from tests.support.configurations import JUNEBUG, KANNEL, RAPIDPRO, TURN
from tests.support.documented import PARTS, operations, routes
from tests.support.http_harness import Client, Response, make_site

CONFIGURATIONS = {"junebug": JUNEBUG, "turn": TURN, "rapidpro": RAPIDPRO, "kannel": KANNEL}
TOKEN = "a-token"
HANDLED_BEFORE = {400, 408, 431}
"""Statuses of requests that reach no route: they are answered by the connection (tests/unit/http)."""


@pytest.mark.parametrize("name", list(PARTS))
def test_routes(name: str) -> None:
    """Each documented path is a route, with and without a slash at its end but for operators, and each route is
    documented."""
    documented = {(method, path) for method, path, _ in operations(PARTS[name])}
    found = {(method, path) for method, path, _ in routes(PARTS[name])}
    assert {(method, path.rstrip("/")) for method, path in found} == documented
    assert documented <= found
    assert name == "operators" or found == documented | {(method, f"{path}/") for method, path in documented}


def test_each_application_has_a_part() -> None:
    """Every application contributes its part, and its operations have ids of their own."""
    for part in PARTS.values():
        ids = [operation.id for _, _, operation in operations(part)]
        assert len(ids) == len(set(ids))


def test_valid() -> None:
    """The document of a daemon with every face is valid OpenAPI 3.1."""
    applications = [JUNEBUG, TURN, RAPIDPRO, KANNEL]
    flags = {"applications": json.dumps([{**each, "api_auth": {"tokens": [TOKEN]}} for each in applications])}
    flags |= {"channels_store": "sqlite", "channels_path": "/x", "channels_http_bind": "127.0.0.1:8081"}
    document = daemon_document(load(flags, {}))
    OpenAPIV31SpecValidator(document).validate()
    assert set(document["paths"]) >= {"/messages", "/turn/messages", "/rapidpro/send", "/kannel/send"}
    assert document["paths"]["/messages"]["post"]["callbacks"]["event"]
    assert {"sms.mo_message_url", "ussd.statuses", "flows.delivered", "kannel.receive_url"} <= set(
        document["webhooks"]
    )


# answers


def fault_of(status: int) -> Exception:
    """An exception that is answered with this status."""
    if status == 500:
        return ZeroDivisionError()
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.JunebugTurnError):
            try:
                fault = kind("fault") if kind is not errors.MethodNotAllowed else None
            except TypeError:
                continue
            if fault is not None and answer_for(fault).status == status:
                return fault
    raise AssertionError(f"no exception has the status {status}")


def check_documented(part: Part, operation: Operation, secured: bool, response: Response) -> int:
    """The answer is documented, with its body's schema; its status."""
    answers = part.answers(operation, secured)
    assert str(response.status) in answers, f"{operation.id} answers {response.status}"
    ((media, content),) = answers[str(response.status)]["content"].items()
    assert response.headers["content-type"].startswith(media)
    Draft202012Validator(content["schema"]).validate(response.body)
    return response.status


class Backend:
    """Channels or routers of which every call succeeds, or fails with ``fault``."""

    def __init__(self, application: Any) -> None:
        self.fault: Exception | None = None
        self._application = application

    def __getattr__(self, name: str) -> Any:
        async def call(*_: Any, **__: Any) -> Any:
            if self.fault is not None:
                raise self.fault
            if name == "application":
                return self._application
            if name in RESULTS:
                return RESULTS[name]
            return [] if name in ("ids", "logs", "destinations") else {"id": "x"}

        return call

    def connectors(self) -> list[Any]:
        """Of operators, which doesn't wait."""
        if self.fault is not None:
            raise self.fault
        return []


TRACE = {"id": "x", "found": True, "connectors": [], "waiting": [], "unread": [], "broker": None}
RESULTS = {
    "pause": True,
    "held": {"parked": [], "delayed": []},
    "replay": {"replayed": 1},
    "drop": None,
    "message": TRACE,
}
SEND = json.dumps({"to": "+27", "from": "8110", "content": "c"}).encode()
BODIES = {
    "create": {"type": "telnet", "config": {}},
    "replace": {"type": "from_address", "config": {}},
    "create_destination": {"config": {}},
    "replace_destination": {"config": {}},
}


def api_of(name: str, backend: Any) -> Any:
    if name == "operators":
        return OperatorsApi(backend, 10)
    return (ChannelsApi if name == "channels" else RoutersApi)(backend, lambda body: None, 10)


@pytest.mark.parametrize("name", ["channels", "routers", "operators"])
def test_answers_of_the_daemon(name: str) -> None:
    """Each documented answer of the APIs for channels and operators occurs, and each that occurs is documented."""
    part = PARTS[name]
    backend = Backend(Face.of(APPLICATION_TYPES[0], JUNEBUG).application.resource)
    api = api_of(name, backend)
    authenticator = Authenticator(Credentials((TOKEN,), {}))
    mount = Mount(api.router.resource(), "", envelope, authenticator)
    clock = Clock()
    site = make_site({"": mount}, clock, max_body_size=1000)
    for method, path, operation in operations(part):
        sends = operation.id == "send_message"
        body = SEND if sends else json.dumps(BODIES.get(operation.id, {})).encode() if operation.body else b""
        url = path.replace("{", "").replace("}", "")

        def ask(body: bytes = body, url: str = url, method: str = method, **headers: str) -> Response:
            client = Client(site)
            client.request(method.upper(), url, body, **{"Authorization": f"Token {TOKEN}", **headers})
            clock.advance(0)  # one that is decompressed has a turn of its own
            return client.response()

        seen = {check_documented(part, operation, True, ask(Authorization="Token wrong"))}
        if not sends:  # it waits for the broker
            seen.add(check_documented(part, operation, True, ask()))
        if operation.body:
            for response in (ask(b"{"), ask(b"x" * 1001), ask(body, Content_Encoding="br")):
                seen.add(check_documented(part, operation, True, response))
        for status in set(operation.statuses) - HANDLED_BEFORE - seen - {operation.status}:
            backend.fault = fault_of(status)
            seen.add(check_documented(part, operation, True, ask()))
            backend.fault = None
        missing = {int(status) for status in part.answers(operation, True)} - seen - HANDLED_BEFORE
        assert missing <= ({201} if sends else set()), (operation.id, missing)


def face_of(kind: ApplicationType, **options: Any) -> Face:
    given = {**CONFIGURATIONS[kind.name], "default_from_addr": "8110", "api_auth": {"tokens": [TOKEN]}}
    return Face.of(
        kind, {**given, **({"turn_api_url": "http://turn"} if kind.name == "turn" else {}), **options}
    )


def request_of(kind: ApplicationType, method: str, path: str) -> tuple[str, bytes, dict[str, str]]:
    """A request that succeeds: its path with its query, its body and its headers."""
    headers = {"Authorization": f"Token {TOKEN}"}
    if kind.name == "junebug":
        return path.replace("{message_id}", "m"), SEND if method == "post" else b"", headers
    if kind.name == "turn":
        body = json.dumps({"to": "+27", "turn": {"text": {"body": "c"}}}).encode()
        return path, body, {**headers, HEADER.replace("-", "_"): sign(b"hm4c", body).decode()}
    query = urlencode({"to": "+27", "text": "c"})
    if method == "get":
        return f"{path}?{query}", b"", headers
    return path, query.encode(), {**headers, "Content_Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("kind", APPLICATION_TYPES, ids=lambda kind: kind.name)
def test_answers_of_an_application(kind: ApplicationType) -> None:
    """Each documented answer of an application occurs, and each that occurs is documented."""
    part = PARTS[kind.name]
    for method, path, operation in operations(part):
        url, body, headers = request_of(kind, method, path)
        face = face_of(kind)

        def ask(
            face: Face = face,
            body: bytes = body,
            headers: Any = headers,
            url: str = url,
            method: str = method,
        ) -> int:
            client = face.begin(method.upper(), url, body, **headers)
            face.clock.advance(0)  # one that is decompressed has a turn of its own
            return check_documented(part, operation, True, client.response())  # noqa: B023

        wrong = {**headers, "Authorization": "Token wrong", "X_Turn_Hook_Signature": "wrong"}
        seen = {ask(), ask(headers=wrong)}
        limited = face_of(kind, rate_limit=0.001)
        seen |= {ask(limited), ask(limited)}
        if operation.body is not None:
            damaged = b"{"
            signed = {**headers, "X_Turn_Hook_Signature": sign(b"hm4c", damaged).decode()}
            seen |= {ask(body=damaged, headers=signed), ask(headers={**headers, "Content_Encoding": "br"})}
        for status in set(operation.statuses) - HANDLED_BEFORE - seen - {operation.status}:
            broken = face_of(kind)

            async def fail(*_: Any, status: int = status, **__: Any) -> Any:
                raise fault_of(status)

            broken.application.send = fail
            broken.store.fetch_events = fail  # type: ignore[method-assign]
            seen.add(ask(broken))
        missing = {int(status) for status in part.answers(operation, True)} - seen - HANDLED_BEFORE
        assert not missing, (operation.id, missing)
