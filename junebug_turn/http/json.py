"""JSON bodies of requests and answers, for all HTTP APIs."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from junebug_turn.errors import AmqpConnectionError, JsonDecodeError
from junebug_turn.messages import strictjson

_T = TypeVar("_T")


def read_json(body: bytes, max_depth: int = strictjson.MAX_DEPTH) -> Any:
    """Return the JSON value of a request's body.

    :param max_depth: the deepest nesting of arrays and objects that is taken
    :raises JsonDecodeError: the body isn't strict JSON
    """
    # RFC 8259 forbids to write one; Junebug and vumi2 refuse it.  Messages of AMQP may have one.
    if body.startswith(BOM_UTF8):
        raise JsonDecodeError("byte order mark before the JSON value: char 0")
    try:
        return strictjson.loads(body, max_depth)
    except ValueError as error:
        raise JsonDecodeError(str(error)) from None


def line_of_json(value: Any) -> bytes:
    """Return the body of an answer: one line of JSON."""
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


def no_confirm(seconds: float) -> AmqpConnectionError:
    """Return the error of a request whose message was not confirmed in time."""
    return AmqpConnectionError(f"the broker did not confirm the message within {seconds:g} seconds")


def within(
    seconds: float, clock: IReactorTime, work: Coroutine[Deferred[Any], Any, _T] | Deferred[_T]
) -> Deferred[_T]:
    """Run ``work``, which publishes a message, for at most ``seconds``.

    After these, or when the Deferred is cancelled, a message that was not handed to the broker yet is withdrawn;
    publishing one that was goes on.

    :raises AmqpConnectionError: the time is over
    """

    def failed(failure: Failure) -> Failure:
        if failure.check(DeferredTimeout):
            raise no_confirm(seconds)
        return failure  # not raised again, as by trap(): nobody would have the first failure, which has its frames

    return ensureDeferred(work).addTimeout(seconds, clock).addErrback(failed)
