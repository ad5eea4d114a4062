"""``GET /health/live`` and ``GET /health/ready``."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from junebug_turn.http.admin.probes import Liveness, Readiness
from junebug_turn.http.mounts import Mount
from tests.support.http_harness import Client, make_site


@pytest.fixture
def obstacles() -> list[str]:
    return []


@pytest.fixture
def client(obstacles: list[str]) -> Client:
    readiness = Readiness(lambda: obstacles[0] if obstacles else None)
    return Client(make_site({"/health/live": Mount(Liveness()), "/health/ready": Mount(readiness)}, Clock()))


def test_live(client: Client) -> None:
    """It is 200 as long as the process answers."""
    client.request("GET", "/health/live")
    assert (client.response().status, client.response().body) == (200, {"live": True})


def test_ready(client: Client) -> None:
    """It is 200 when requests can be served now."""
    client.request("GET", "/health/ready")
    assert (client.response().status, client.response().body) == (200, {"ready": True})


def test_not_ready(client: Client, obstacles: list[str]) -> None:
    """It is 503 otherwise, with the reason."""
    obstacles.append("starting")
    client.request("GET", "/health/ready")
    assert (client.response().status, client.response().body) == (503, {"ready": False, "reason": "starting"})


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
@pytest.mark.parametrize(
    ("method", "below", "status"), [("POST", "", 405), ("GET", "/", 404), ("HEAD", "", 200)]
)
def test_other_requests(client: Client, path: str, method: str, below: str, status: int) -> None:
    """Another method is a 405, another path a 404; HEAD has the status without a body."""
    client.request(method, path + below)
    assert client.received.startswith(b"HTTP/1.1 %d " % status)
    if method == "HEAD":
        assert client.received.endswith(b"\r\n\r\n")
