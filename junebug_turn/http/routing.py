"""Routing of requests to endpoints by Klein."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as OtherMethods
from werkzeug.exceptions import NotFound as NoRoute

from junebug_turn.errors import MethodNotAllowed, NotAnsweredInTime, NotFound
from junebug_turn.telemetry.tracing import SERVER, TRACEPARENT, TRACESTATE, TraceContext, begin


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
        # All of them, made once: nothing is stored by what a client sends.
        self._fixed = {
            (method.encode("ascii"), *rule.rule.encode("ascii").split(b"/")[1:]): rule.endpoint
            for rule in app.url_map.iter_rules()
            if not rule.arguments
            for method in rule.methods or ()
        }

    def render(self, request: Any) -> Any:
        """Have the endpoint answer; it is cancelled when the client goes away before, or seems to have gone."""
        leaving = request.notifyFinish()
        answering = Deferred.fromCoroutine(self._answer(request, leaving))
        leaving.addErrback(lambda _: answering.cancel())
        request.answering = answering
        return NOT_DONE_YET

    async def _answer(self, request: Any, leaving: Deferred[None]) -> None:
        body: Any = None
        headers = request.requestHeaders.getRawHeaders
        trace = TraceContext.read(headers(TRACEPARENT, ()), headers(TRACESTATE, ()))
        span = begin(SERVER, trace, request.method.decode("ascii"), request.mount.connector)
        try:
            endpoint, variables = self._match(request)
            body = self._app.execute_endpoint(endpoint, request, **variables)
            if isinstance(body, Deferred):
                body.addErrback(without_frames)
                body = await body
            # Not done yet: the endpoint has handed the request on to another resource.
            if body is not NOT_DONE_YET and not leaving.called:
                request.write(body)
                request.finish()
        except Exception as fault:
            if isinstance(body, Deferred):
                # Its failure has this frame, which has it: without this a cycle, with all of the request.
                body.addErrback(lambda failure: None)
            cancelled = isinstance(fault, CancelledError)
            if cancelled:
                fault.__traceback__ = None
            if not leaving.called:
                if cancelled and request.given_up:
                    fault = NotAnsweredInTime(
                        "the request took too long after its connection was half closed"
                    )
                request.processingFailed(Failure(fault))
            elif not cancelled:
                self.log.failure("a request failed after its client had gone")
        finally:
            if span is not None:
                span.end("" if request.code < 500 else f"http_{request.code}")

    def _match(self, request: Any) -> tuple[str, dict[str, Any]]:
        """Return the endpoint of a path, and the values of the path's variable parts.

        :raises NotFound: no route has the path
        :raises MethodNotAllowed: the routes of the path have other methods
        """
        fixed = self._fixed.get((request.method, *request.postpath))
        if fixed is not None:
            return fixed, {}
        path = "/" + b"/".join(request.postpath).decode("ascii")
        method = request.method.decode("ascii")
        whole = unquote(request.path.decode("ascii"))
        adapter = self._app.url_map.bind("localhost", path_info=path, default_method=method)
        try:
            if path.startswith("//"):
                # werkzeug would take all but one of the slashes for none.
                raise NoRoute
            rule, variables = adapter.match(return_rule=True)
        except OtherMethods as error:
            raise _other_methods(whole, error.valid_methods) from None
        except HTTPException:
            raise NotFound(f"there is nothing at {whole}") from None
        if method not in (rule.methods or ()):
            # werkzeug takes a method in any case, HTTP in its own.
            raise _other_methods(whole, rule.methods)
        return rule.endpoint, {name: unquote(value) for name, value in variables.items()}


def without_frames(failure: Failure) -> Failure:
    """Remove the frames from the failure of work that was cancelled.

    They are below the frames that cancelled it, which have the failure: without this a cycle, with all of the request.
    """
    if isinstance(failure.value, CancelledError):
        failure.tb = failure.value.__traceback__ = None
    return failure


def _other_methods(path: str, methods: Iterable[str] | None) -> MethodNotAllowed:
    allowed = tuple(sorted(methods or ()))
    return MethodNotAllowed(f"{path} takes {', '.join(allowed)} only", allowed)


class Router(Klein):
    """Klein with such a resource, which matches a path as it is written; each with and without a trailing slash."""

    def __init__(self) -> None:
        super().__init__()
        # Otherwise it also finds the route of a path with fewer slashes.
        self.url_map.merge_slashes = False
        # Otherwise a path whose route has a default redirects to the same one without its slash.
        self.url_map.redirect_defaults = False

    def route(self, url: str, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Make a method the endpoint of a path; clients write it with a trailing slash or without one."""
        paths = dict.fromkeys((url, f"{url.rstrip('/')}/"))
        register = [super(Router, self).route(path, *args, **kwargs) for path in paths]

        def both(endpoint: Any) -> Any:
            for each in register:
                endpoint = each(endpoint)
            return endpoint

        return both

    def resource(self) -> KleinResource:
        """Return the resource that routes requests."""
        return _Resource(self)
