"""Klein with routes that are found once; over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
import treq
from twisted.internet import reactor as _reactor
from twisted.web.iweb import IRequest
from twisted.web.server import Site

from junebug_turn.routing import MAX_KEPT, Router

reactor: Any = _reactor


class Api:
    router = Router()

    def __init__(self, name: str) -> None:
        self.name = name

    @router.route("/messages", methods=["POST"])
    def messages(self, request: IRequest) -> str:
        return f"{self.name} messages"

    @router.route("/items/<item>", methods=["GET"])
    def item(self, request: IRequest, item: str) -> str:
        return f"{self.name} item {item}"


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
        assert (await server.request("GET", "/messages"))[0] == 405
        assert (await server.request("POST", "/nothing"))[0] == 404


@pytest_twisted.ensureDeferred
async def test_parts_of_a_path(server: Server) -> None:
    """A route with a variable part gets that of each request."""
    for item in ("a", "b", "a"):
        assert await server.request("GET", f"/items/{item}") == (200, f"one item {item}")


def test_bounded() -> None:
    """However many paths there are, only so many are kept, and the others are found as well."""
    url_map = Api("one").router.url_map
    for number in range(2 * MAX_KEPT):
        adapter = url_map.bind("localhost", default_method="GET", path_info=f"/items/{number}")
        assert adapter.match(return_rule=True)[1] == {"item": str(number)}
    assert len(url_map._kept) == MAX_KEPT  # type: ignore[attr-defined]
    with_method = url_map.bind("localhost", default_method="POST", path_info="/messages")
    assert with_method.match(return_rule=True)[0].endpoint == "messages"
