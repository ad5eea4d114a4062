"""Every answer of an API in the tests is held against the OpenAPI document at the moment when it is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from junebug_turn.applications.junebug.openapi import MESSAGE_STATUS, SEND_MESSAGE
from junebug_turn.applications.registry import APPLICATION_TYPES
from junebug_turn.http.admin.channels.openapi import channels_part, routers_part
from junebug_turn.http.admin.operators.openapi import PART as OPERATORS
from junebug_turn.http.openapi import Operation, Part
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import _Resource  # private: an answer doesn't show which route it is of

PARTS: dict[str, Part] = {
    **{kind.name: part for kind in APPLICATION_TYPES if (part := kind.openapi()) is not None},
    "channels": channels_part(SEND_MESSAGE, MESSAGE_STATUS),
    "routers": routers_part(SEND_MESSAGE, MESSAGE_STATUS),
    "operators": OPERATORS,
}


def operations(part: Part) -> Iterator[tuple[str, str, Operation]]:
    """Each operation, with its method and its path."""
    for path, methods in part.operations.items():
        for method, operation in methods.items():
            yield method, path, operation


def routes(part: Part) -> Iterator[tuple[str, str, str]]:
    """Each route: its method and path as a document writes them, and the name of its endpoint."""
    for rule in part.router.url_map.iter_rules():
        path = rule.rule.replace("<", "{").replace(">", "}")
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            yield method.lower(), path, rule.endpoint


class Answers:
    """The statuses that each endpoint may answer with, and the answers that were given beside them.

    :ivar undocumented: these answers, in words
    """

    def __init__(self) -> None:
        self.undocumented: list[str] = []
        self._known: dict[tuple[int, str, str], tuple[str, set[str]]] = {}
        for name, part in PARTS.items():
            answers = {(method, path): part.answers(each, True) for method, path, each in operations(part)}
            for method, path, endpoint in routes(part):
                found = set(answers.get((method, path.rstrip("/")), ()))
                key = id(part.router), method.upper(), endpoint
                self._known.setdefault(key, (f"{name}: {method} {path}", set()))[1].update(found)

    def watch(self, patch: Any) -> None:
        """Hold each answer against the document from now on; ``patch`` is a MonkeyPatch."""
        # private: an answer doesn't show which route it is of.
        match, finish = _Resource._match, ApiRequest.finish

        def noted(resource: _Resource, request: Any) -> Any:
            found = match(resource, request)
            # private: as above, for the router.
            request.endpoint = id(resource._app), request.method.decode(), found[0]
            return found

        def finished(request: Any) -> None:
            where, statuses = self._known.get(getattr(request, "endpoint", None), ("", set()))  # type: ignore[arg-type]
            if where and str(request.code) not in statuses:
                self.undocumented.append(f"{where} answered {request.code}")
            finish(request)

        patch.setattr(_Resource, "_match", noted)
        patch.setattr(ApiRequest, "finish", finished)
