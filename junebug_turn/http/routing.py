"""Klein, for APIs with few paths, whose endpoints answer with bytes, now or later."""

from __future__ import annotations

from typing import Any

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import NotFound


class _Resource(KleinResource):
    """Klein's resource, without what a request pays for there and nothing here uses.

    That is: the adapter that makes URLs for templates, child resources and responses as objects, and walking
    through all rules for a path that has no variable part.  Klein's own ``render`` also leaves a reference cycle with
    all of the request in it: the collector needed several milliseconds for each 300 of them.
    """

    log = Logger()

    def __init__(self, app: Klein) -> None:
        super().__init__(app)
        self._found: dict[tuple[bytes, ...], tuple[str, dict[str, Any]]] = {}

    def render(self, request: Any) -> Any:
        """Let the endpoint answer; when the client goes away before, what it does is cancelled."""
        leaving = request.notifyFinish()
        answering = Deferred.fromCoroutine(self._answer(request, leaving))
        leaving.addErrback(lambda _: answering.cancel())
        return NOT_DONE_YET

    async def _answer(self, request: Any, leaving: Deferred[None]) -> None:
        try:
            body = await self._body(request, leaving)
            if not leaving.called:
                request.write(body)
                request.finish()
        except Exception:
            if leaving.called:
                self.log.failure("a request failed whose client had gone")
            else:
                request.processingFailed(Failure())

    async def _body(self, request: Any, leaving: Deferred[None]) -> bytes:
        try:
            endpoint, variables = self._match(request.method, request.postpath)
            return await _result(self._app.execute_endpoint(endpoint, request, **variables))
        except Exception as fault:
            if not leaving.called:
                return await self._handle(request, Failure())
            if isinstance(fault, CancelledError):
                return b""
            raise

    async def _handle(self, request: Any, failure: Failure) -> bytes:
        """What the API's handler of such failures answers."""
        for kinds, handler in self._app._error_handlers:
            if failure.check(*kinds):
                return await _result(self._app.execute_error_handler(handler, request, failure))
        failure.raiseException()

    def _match(self, method: bytes, segments: list[bytes]) -> tuple[str, dict[str, Any]]:
        """The endpoint of a path, and what stands in its variable parts.

        :raises HTTPException: (werkzeug's) there is none, or none for the method
        """
        key = (method, *segments)
        found = self._found.get(key)
        if found is None:
            try:
                path = "/" + b"/".join(segments).decode()
            except UnicodeDecodeError:
                raise NotFound from None
            adapter = self._app.url_map.bind(
                "localhost", path_info=path, default_method=method.decode("latin-1")
            )
            rule, variables = adapter.match(return_rule=True)
            found = rule.endpoint, dict(variables)
            # Of paths with a variable part there is no end.
            if not variables:
                self._found[key] = found
        return found


async def _result(result: Any) -> bytes:
    return (await result) if isinstance(result, Deferred) else result  # type: ignore[no-any-return]


class Router(Klein):
    """Klein with such a resource."""

    def resource(self) -> KleinResource:
        return _Resource(self)
