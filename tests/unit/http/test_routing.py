"""Klein with a resource that does less; over real sockets."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.web.server import Request

from junebug_turn.errors import CacheError
from junebug_turn.http.mounts import Mount
from junebug_turn.http.routing import Router
from tests.support.daemon import until
from tests.support.http_harness import Client, make_site

reactor: Any = _reactor


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

    @router.route("/new", methods=["GET"], defaults={"state": "new"})
    @router.route("/old", methods=["GET"], defaults={"state": "old"})
    def state(self, request: Request, state: str) -> bytes:
        return f"{self.name} {state}".encode()

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
        raise CacheError("at once")

    @router.route("/fails-later", methods=["GET"])
    async def fails_later(self, request: Request) -> bytes:
        await deferLater(reactor, 0)
        raise CacheError("later")

    @router.route("/bug", methods=["GET"])
    async def bug(self, request: Request) -> bytes:
        raise ValueError("secret")


class Server:
    def __init__(self) -> None:
        self.api, self.other = Api("one"), Api("other")
        self.ports = [
            reactor.listenTCP(0, make_site({"": self.mount(api)}, reactor), interface="127.0.0.1")
            for api in (self.api, self.other)
        ]

    def mount(self, api: Api) -> Mount:
        return Mount(api.router.resource(), answer=lambda error: (error.status, [api.name, error.message]))

    async def request(self, method: str, path: str, at: int = 0) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.ports[at].getHost().port}{path}"
        response = await treq.request(method, url, persistent=False)
        return response.code, await response.text()


async def raw(server: Server, method: str, target: str) -> int:
    """Send a request as it is written; the status of its answer."""
    client = Client(server.ports[0].factory)
    client.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await until(lambda: b"\r\n\r\n" in client.received)
    status = int(client.received.split(b" ")[1])
    client.lose()
    return status


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
        assert await server.request("GET", "/messages") == (405, '["one","/messages takes POST only"]\n')
        assert await server.request("POST", "/nothing") == (404, '["one","there is nothing at /nothing"]\n')
        assert (await server.request("POST", "/%ff"))[0] == 404


@pytest_twisted.ensureDeferred
async def test_a_trailing_slash(server: Server) -> None:
    """Each path is served with and without a trailing slash, without a redirect; also one with a default."""
    for slash in ("", "/"):
        for state in ("new", "old"):
            assert await server.request("GET", f"/{state}{slash}") == (200, f"one {state}")
        assert await server.request("POST", f"/messages{slash}") == (200, "one messages")
        assert await server.request("GET", f"/messages{slash}") == (
            405,
            f'["one","/messages{slash} takes POST only"]\n',
        )
        assert await server.request("GET", f"/items/a{slash}") == (200, "one item a")


@pytest_twisted.ensureDeferred
async def test_parts_of_a_path(server: Server) -> None:
    """A route with a variable part gets that of each request, without its escapes."""
    for item, value in (("a", "a"), ("b", "b"), ("a", "a"), ("%61%2Fc%20d", "a/c d")):
        assert await server.request("GET", f"/items/{item}") == (200, f"one item {value}")


@pytest.mark.parametrize(
    "path",
    ["//messages", "/%2F/messages", "/messages//", "/%6dessages", "/./messages", "//items/a", "/items//a"],
)
@pytest_twisted.ensureDeferred
async def test_another_spelling(server: Server, path: str) -> None:
    """A path is matched as it is written."""
    for method in ("GET", "POST"):
        assert (await raw(server, method, path)) == 404


@pytest.mark.parametrize("method", ["post", "Post", "poST", "DELETE"])
@pytest_twisted.ensureDeferred
async def test_another_method(server: Server, method: str) -> None:
    """A method is matched as it is written, too: HTTP's names are in upper case."""
    assert await raw(server, method, "/messages") == 405
    assert await raw(server, method, "/items/a") == 405


@pytest_twisted.ensureDeferred
async def test_nothing_is_kept_of_a_path(server: Server) -> None:
    """No request leaves anything behind that is found by its path or method."""
    mount, _ = server.ports[0].factory.mounts.find(b"/")
    resource: Any = mount.resource
    kept = {name: len(value) for name, value in vars(resource).items() if isinstance(value, dict)}
    for number in range(20):
        for path in (f"/items/{number}", f"/{'/' * number}messages", f"/nothing{number}", "/messages"):
            for method in ("GET", "POST", f"M{number}"):
                await raw(server, method, path)
    assert kept == {name: len(value) for name, value in vars(resource).items() if isinstance(value, dict)}


@pytest_twisted.ensureDeferred
async def test_failures(server: Server) -> None:
    """An exception of an endpoint, at once or later, is answered by the request, in the form of its mount."""
    assert await server.request("GET", "/fails") == (503, '["one","at once"]\n')
    assert await server.request("GET", "/fails-later", at=1) == (503, '["other","later"]\n')
    assert await server.request("GET", "/bug") == (500, '["one","internal server error"]\n')


@pytest_twisted.ensureDeferred
async def test_client_goes_away(server: Server) -> None:
    """The work for a client that goes away is cancelled, and nothing is logged."""
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
            await server.request("GET", "/fails")
            await server.request("GET", "/nothing")
        gc.collect()
        requests = [found for found in gc.garbage if isinstance(found, Request)]
        # Others are of earlier tests.
        left = [
            found for found in requests if found.path in (b"/messages", b"/items/a", b"/fails", b"/nothing")
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []
