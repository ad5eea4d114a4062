"""JSON bodies of requests and answers, and the time of a request that publishes."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.web.test.requesthelper import DummyRequest

from junebug_turn.errors import AmqpConnectionError, JsonDecodeError, RateLimited
from junebug_turn.http.json import read_json, within, write_json


def test_read() -> None:
    """A body is one JSON value in UTF-8."""
    assert read_json('{"a": ["é", null]}'.encode()) == {"a": ["é", None]}


@pytest.mark.parametrize("body", [b"", b"{", b"{} {}", b"NaN", b'"\xff"', b"[" * 100 + b"]" * 100])
def test_not_json(body: bytes) -> None:
    """Another body, or one that nests too deep, is a JsonDecodeError."""
    with pytest.raises(JsonDecodeError):
        read_json(body)


def test_byte_order_mark() -> None:
    """A UTF-8 BOM before JSON is 400, as at both peers."""
    with pytest.raises(JsonDecodeError, match="byte order mark"):
        read_json(b'\xef\xbb\xbf{"to": "+1"}')


def test_depth() -> None:
    """The depth that is taken can be given."""
    assert read_json(b"[[1]]", 2) == [[1]]
    with pytest.raises(JsonDecodeError):
        read_json(b"[[[1]]]", 2)


def test_write() -> None:
    """An answer is one line of JSON, with its status, type, length and further headers."""
    request: Any = DummyRequest([])
    body = write_json(request, 503, {"a": "é"}, [("Retry-After", "5")])
    assert body == b'{"a":"\\u00e9"}\n'
    assert request.responseCode == 503
    headers = {name: values[0] for name, values in request.responseHeaders.getAllRawHeaders()}
    assert headers == {
        b"Content-Type": b"application/json",
        b"Content-Length": b"%d" % len(body),
        b"Retry-After": b"5",
    }


class Work:
    """Work that waits for ``step``, and then for ``end``."""

    def __init__(self) -> None:
        self.step: Deferred[None] = Deferred()
        self.cancelled = False

    async def run(self) -> str:
        try:
            await self.step
        except CancelledError:
            self.cancelled = True
            raise
        return "done"


def results_of(deferred: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


def test_in_time() -> None:
    """Work that ends in time has its own result, or its own exception."""
    for result in ("done", RateLimited("m")):
        work = Work()
        results = results_of(within(5, Clock(), work.run()))
        if isinstance(result, Exception):
            work.step.errback(result)
            assert results[0].value is result
        else:
            work.step.callback(None)
            assert results == [result]


def test_too_late() -> None:
    """Work that takes longer is cancelled, and its request hears that the broker did not confirm in time."""
    clock, work = Clock(), Work()
    results = results_of(within(5, clock, work.run()))
    clock.advance(4.9)
    assert not results
    clock.advance(0.2)
    assert results[0].check(AmqpConnectionError)
    assert results[0].getErrorMessage() == "the broker did not confirm the message within 5 seconds"
    assert work.cancelled


def test_cancelled() -> None:
    """A request that is cancelled cancels its work, and that is no fault of the broker."""
    work = Work()
    waiting = within(5, Clock(), work.run())
    results = results_of(waiting)
    waiting.cancel()
    assert work.cancelled
    assert results[0].check(CancelledError)
