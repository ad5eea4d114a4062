"""What the HTTP APIs have in common, whatever their JSON looks like: bodies in, answers out, errors translated."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from werkzeug import exceptions as routing

from junebug_turn import errors, strictjson

_T = TypeVar("_T")


def read_json(body: bytes) -> Any:
    """The JSON value of a request's body.

    :raises errors.JsonDecodeError: it isn't strict JSON
    """
    try:
        return strictjson.loads(body)
    except ValueError as error:
        raise errors.JsonDecodeError(str(error)) from None


def write_json(request: IRequest, status: int, value: Any, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Set the request's status and headers, and return the body: one line of JSON."""
    body = strictjson.dumps(value) + b"\n"
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    for name, text in headers:
        request.setHeader(name.encode("ascii"), text.encode("ascii"))
    return body


def translate(error: BaseException, path: str) -> BaseException:
    """``error``, where it comes from routing, as one of ours; any other as it is.

    ``path`` is named to the client, who sent it.
    """
    if isinstance(error, routing.MethodNotAllowed):
        allowed = tuple(sorted(error.valid_methods or ()))
        return errors.MethodNotAllowed(f"{path} takes {', '.join(allowed)} only", allowed)
    if isinstance(error, routing.HTTPException):
        return errors.NotFound(f"there is nothing at {path}")
    return error


def within(
    seconds: float,
    clock: IReactorTime,
    work: Coroutine[Deferred[Any], Any, _T],
    error: Callable[[], BaseException],
) -> Deferred[_T]:
    """Run ``work`` for at most ``seconds``; then it is cancelled, and the Deferred fails with ``error()``."""

    def failed(failure: Any) -> Any:
        failure.trap(DeferredTimeout)
        raise error() from None

    return Deferred.fromCoroutine(work).addTimeout(seconds, clock).addErrback(failed)
