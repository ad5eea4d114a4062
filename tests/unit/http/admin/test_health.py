"""``GET /health``."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from junebug_turn.http.admin.health import Health
from junebug_turn.http.mounts import Mount
from tests.support.http_harness import Client, make_site


@pytest.fixture
def components() -> dict[str, Any]:
    return {"amqp": {"ok": True, "connected": True}}


@pytest.fixture
def client(components: dict[str, Any]) -> Client:
    return Client(make_site({"/health": Mount(Health(lambda: components))}, Clock()))


def test_well(client: Client) -> None:
    """While all components are ok it is a 200, whose body clients of both old services can read."""
    client.request("GET", "/health")
    response = client.response()
    assert response.status == 200
    assert response.body == {
        "health": "ok",
        "components": {"amqp": {"ok": True, "connected": True}},
        "status": 200,
        "code": "OK",
        "description": "health ok",
        "result": {"amqp": {"ok": True, "connected": True}},
    }


def test_down(client: Client, components: dict[str, Any]) -> None:
    """While a component is not ok it is a 500, in the body too."""
    components["amqp"]["ok"] = False
    client.request("GET", "/health")
    response = client.response()
    assert (response.status, response.body["status"]) == (500, 500)
    assert (response.body["health"], response.body["description"]) == ("down", "health down")


def test_head(client: Client, components: dict[str, Any]) -> None:
    """HEAD has the status without a body."""
    components["amqp"]["ok"] = False
    client.request("HEAD", "/health")
    assert client.received.startswith(b"HTTP/1.1 500 ")
    assert client.received.endswith(b"\r\n\r\n")


def test_wrong_method(client: Client) -> None:
    """Another method is a 405 in the envelope that names the right ones."""
    client.request("POST", "/health")
    response = client.response()
    assert (response.status, response.body["description"]) == (405, "method not allowed")
    assert response.headers["allow"] == "GET, HEAD"


def test_path_below(client: Client) -> None:
    """A path below is a 404 in the envelope; with a slash at its end it is the page."""
    client.request("GET", "/health/more")
    assert (client.response().status, client.response().body["description"]) == (404, "not found")
    client.transport.clear()
    client.request("GET", "/health/")
    assert client.response().status == 200
