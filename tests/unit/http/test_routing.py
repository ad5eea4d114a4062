"""Klein with a resource that does less; over real sockets."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
import treq
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException

from junebug_turn.http.routing import Router
from tests.support.daemon import until

reactor: Any = _reactor


class Fault(Exception):
    """What an endpoint or a handler raises."""


class Api:
    router = Router()

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: list[Deferred[bytes]] = []
        self.ended: list[object] = []

    @router.route("/messages", methods=["POST"])
    def messages(self, request: Request) -> bytes:
        return f"{self.name} messages".encode()

    @router.route("/items/<item>", methods=["GET"])
    async def item(self, request: Request, item: str) -> bytes:
        await deferLater(reactor, 0)
        return f"{self.name} item {item}".encode()

    @router.route("/slow", methods=["GET"])
    async def slow(self, request: Request) -> bytes:
        self.waiting.append(Deferred())
        try:
            return await self.waiting[-1]
        except CancelledError:
            self.ended.append("cancelled")
            raise

    @router.route("/fails", methods=["GET"])
    def fails(self, request: Request) -> bytes:
        raise Fault(self.name)

    @router.route("/fails-twice", methods=["GET"])
    async def fails_twice(self, request: Request) -> bytes:
        await deferLater(reactor, 0)
        raise ValueError("no handler is for this")

    @router.handle_errors(HTTPException)
    def http_error(self, request: Request, failure: Failure) -> bytes:
        request.setResponseCode(failure.value.code)
        return b"http error"

    @router.handle_errors(Fault)
    async def fault(self, request: Request, failure: Failure) -> bytes:
        await deferLater(reactor, 0)
        request.setResponseCode(503)
        return f"fault of {failure.value}".encode()


class Server:
    def __init__(self) -> None:
        self.api, self.other = Api("one"), Api("other")
        self.ports = [
            reactor.listenTCP(0, Site(api.router.resource()), interface="127.0.0.1")
            for api in (self.api, self.other)
        ]

    async def request(self, method: str, path: str, at: int = 0) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.ports[at].getHost().port}{path}"
        response = await treq.request(method, url, persistent=False)
        return response.code, await response.text()


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    for port in server.ports:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_again(server: Server) -> None:
    """A request for a path that was found before has the same handler, of its own application."""
    for _ in range(3):
        assert await server.request("POST", "/messages") == (200, "one messages")
        assert await server.request("POST", "/messages", at=1) == (200, "other messages")


@pytest_twisted.ensureDeferred
async def test_nothing_there(server: Server) -> None:
    """A path or a method without a route is refused each time, also next to one that was found."""
    for _ in range(2):
        assert (await server.request("POST", "/messages"))[0] == 200
        assert await server.request("GET", "/messages") == (405, "http error")
        assert await server.request("POST", "/nothing") == (404, "http error")
        assert await server.request("POST", "/%ff") == (404, "http error")


@pytest_twisted.ensureDeferred
async def test_parts_of_a_path(server: Server) -> None:
    """A route with a variable part gets that of each request, and none of them is kept."""
    for item in ("a", "b", "a"):
        assert await server.request("GET", f"/items/{item}") == (200, f"one item {item}")
    resource = server.ports[0].factory.resource
    assert await server.request("POST", "/messages") == (200, "one messages")
    assert list(resource._found) == [(b"POST", b"messages")]


@pytest_twisted.ensureDeferred
async def test_failures(server: Server) -> None:
    """An endpoint's failure is answered by the handler for it; without one it is the request's own affair."""
    assert await server.request("GET", "/fails") == (503, "fault of one")
    status, text = await server.request("GET", "/fails-twice")
    assert status == 500
    assert "no handler" not in text


@pytest_twisted.ensureDeferred
async def test_client_goes_away(server: Server) -> None:
    """What is done for a client that goes away is cancelled, and nobody hears of it."""
    with capturedLogs() as logs:
        asked = ensureDeferred(server.request("GET", "/slow")).addErrback(lambda failure: failure.type)
        await until(lambda: server.api.waiting)
        asked.cancel()
        await until(lambda: server.api.ended)
        await asked
    assert not [event for event in logs if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_nothing_left_for_the_collector(server: Server) -> None:
    """A request leaves no reference cycles behind, whose collection would hold up others."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(20):
            await server.request("POST", "/messages")
            await server.request("GET", "/items/a")
        gc.collect()
        left = [found for found in gc.garbage if isinstance(found, Request)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []
