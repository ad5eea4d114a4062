"""``GET /metrics``."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from junebug_turn.http.admin.metrics import CONTENT_TYPE, MetricsPage
from junebug_turn.http.mounts import Mount
from tests.support.http_harness import Client, make_site


class Counted:
    """Stands in for the metrics: counts how often their text is made."""

    made = 0

    def text(self) -> bytes:
        self.made += 1
        return b"made %d\n" % self.made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(clock: Any) -> Client:
    metrics: Any = Counted()
    return Client(make_site({"/metrics": Mount(MetricsPage(metrics, clock))}, clock))


def asked(client: Client, path: str = "/metrics") -> bytes:
    client.transport.clear()
    client.request("GET", path)
    return client.received


def test_text(client: Client) -> None:
    """The text is in Prometheus' format."""
    assert f"Content-Type: {CONTENT_TYPE}".encode() in asked(client)
    assert client.received.endswith(b"\r\n\r\nmade 1\n")


def test_made_once_a_second(client: Client, clock: Clock) -> None:
    """However often it is asked for, the text is made once a second."""
    for seconds in (0, 0, 0.9):
        clock.advance(seconds)
        assert asked(client).endswith(b"made 1\n")
    clock.advance(0.1)
    assert asked(client).endswith(b"made 2\n")


@pytest.mark.parametrize("path", ["/metrics/", "/metrics/x", "/%6detrics", "/metrics;x", "/Metrics"])
def test_exact_path(client: Client, path: str) -> None:
    """The page has just its path, in one spelling: a proxy's rule for it is passed by in no other."""
    assert asked(client, path).startswith(b"HTTP/1.1 404 ")
