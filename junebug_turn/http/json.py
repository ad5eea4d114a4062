"""What the HTTP APIs have in common, whatever their JSON looks like: bodies in, answers out, errors translated."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug import exceptions as routing

from junebug_turn import errors
from junebug_turn.messages import strictjson

_T = TypeVar("_T")


def read_json(body: bytes, max_depth: int = strictjson.MAX_DEPTH) -> Any:
    """The JSON value of a request's body.

    :param max_depth: how deep arrays and objects can nest
    :raises errors.JsonDecodeError: it isn't strict JSON
    """
    try:
        return strictjson.loads(body, max_depth)
    except ValueError as error:
        raise errors.JsonDecodeError(str(error)) from None


def line_of_json(value: Any) -> bytes:
    """The body of an answer: one line of JSON."""
    return strictjson.dumps(value) + b"\n"


def write_json(request: IRequest, status: int, value: Any, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Set the request's status and headers, and return the body: one line of JSON."""
    return write_body(request, status, line_of_json(value), headers)


def write_body(request: IRequest, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Set the request's status and headers for ``body``, which is JSON, and return it."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    for name, text in headers:
        request.setHeader(name.encode("ascii"), text.encode("ascii"))
    return body


def translate(failure: Failure, path: bytes) -> BaseException | None:
    """The failure's exception; one that comes from routing as one of ours.

    ``path`` is named to the client, who sent it.
    """
    error = failure.value
    name = path.decode("utf-8", "replace")
    if isinstance(error, routing.MethodNotAllowed):
        allowed = tuple(sorted(error.valid_methods or ()))
        return errors.MethodNotAllowed(f"{name} takes {', '.join(allowed)} only", allowed)
    if isinstance(error, routing.HTTPException):
        return errors.NotFound(f"there is nothing at {name}")
    return error


def within(seconds: float, clock: IReactorTime, work: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
    """Run ``work``, which publishes a message, for at most ``seconds``.

    After these, or when the Deferred is cancelled, what was not handed to the broker yet is withdrawn; the rest
    goes on without us.

    :raises errors.AmqpConnectionError: the time is over
    """

    def failed(failure: Failure) -> Failure:
        failure.trap(DeferredTimeout)
        raise errors.AmqpConnectionError(f"the broker did not confirm the message within {seconds:g} seconds")

    return Deferred.fromCoroutine(work).addTimeout(seconds, clock).addErrback(failed)
