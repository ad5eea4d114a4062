"""Routing of requests to endpoints by Klein."""

from __future__ import annotations

from typing import Any

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as OtherMethods

from junebug_turn.errors import MethodNotAllowed, NotAnsweredInTime, NotFound


class _Resource(KleinResource):
    """Klein's resource with a ``render`` of its own, for endpoints that return bytes, now or later.

    Klein still has the routes (``url_map``) and calls the endpoints (``execute_endpoint``).  Klein's ``render`` also
    decodes the request's host and binds the rules to it, walks through all rules for every request, makes an adapter
    for URLs in templates, and looks for child resources, templates and response objects in the result: none of these is
    used here.  And it leaves a reference cycle with all of the request in it, for which the garbage collector stopped
    the daemon for 4 to 15 ms at a time.  Without these an outbound request takes 0.82 of the CPU, as measured in
    docs/performance.md.

    Errors, with those of routing, go to the request's ``processingFailed``, in place of Klein's error handlers.
    """

    log = Logger()

    def __init__(self, app: Klein) -> None:
        super().__init__(app)
        self._found: dict[tuple[bytes, ...], tuple[str, dict[str, Any]]] = {}

    def render(self, request: Any) -> Any:
        """Have the endpoint answer; it is cancelled when the client goes away before, or seems to have gone."""
        leaving = request.notifyFinish()
        answering = Deferred.fromCoroutine(self._answer(request, leaving))
        leaving.addErrback(lambda _: answering.cancel())
        request.answering = answering
        return NOT_DONE_YET

    async def _answer(self, request: Any, leaving: Deferred[None]) -> None:
        try:
            endpoint, variables = self._match(request)
            body = self._app.execute_endpoint(endpoint, request, **variables)
            if isinstance(body, Deferred):
                body = await body
            if not leaving.called:
                request.write(body)
                request.finish()
        except Exception as fault:
            if not leaving.called:
                if isinstance(fault, CancelledError) and request.given_up:
                    fault = NotAnsweredInTime(
                        "the request took too long after its connection was half closed"
                    )
                request.processingFailed(Failure(fault))
            elif not isinstance(fault, CancelledError):
                self.log.failure("a request failed after its client had gone")

    def _match(self, request: Any) -> tuple[str, dict[str, Any]]:
        """Return the endpoint of a path, and the values of the path's variable parts.

        :raises NotFound: no route has the path
        :raises MethodNotAllowed: the routes of the path have other methods
        """
        key = (request.method, *request.postpath)
        found = self._found.get(key)
        if found is None:
            path = "/" + b"/".join(request.postpath).decode("utf-8")
            method = request.method.decode("latin-1")
            adapter = self._app.url_map.bind("localhost", path_info=path, default_method=method)
            whole = request.path.decode("utf-8", "replace")
            try:
                rule, variables = adapter.match(return_rule=True)
            except OtherMethods as error:
                allowed = tuple(sorted(error.valid_methods or ()))
                raise MethodNotAllowed(f"{whole} takes {', '.join(allowed)} only", allowed) from None
            except HTTPException:
                raise NotFound(f"there is nothing at {whole}") from None
            found = rule.endpoint, dict(variables)
            # The number of paths with a variable part has no bound.
            if not variables:
                self._found[key] = found
        return found


class Router(Klein):
    """Klein with such a resource."""

    def resource(self) -> KleinResource:
        """Return the resource that routes requests."""
        return _Resource(self)
