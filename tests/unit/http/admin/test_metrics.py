"""``GET /metrics``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from junebug_turn.http.admin.metrics import CONTENT_TYPE, MetricsPage
from junebug_turn.http.mounts import Mount
from junebug_turn.http.server import ApiSite
from tests.support.http_harness import Client, make_site


class Counted:
    """Stands in for the metrics: counts how often their text is begun."""

    made = 0
    fault: Exception | None = None

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._in_a_turn = self.most_in_a_turn = 0

    def text(self) -> Iterator[bytes]:
        self.made += 1
        for piece in (b"a piece\n", b"made %d\n" % self.made):
            self._in_a_turn += 1
            self.most_in_a_turn = max(self.most_in_a_turn, self._in_a_turn)
            self._clock.callLater(0, self._next_turn)
            yield piece
            if self.fault is not None:
                raise self.fault

    def _next_turn(self) -> None:
        self._in_a_turn = 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Counted:
    return Counted(clock)


@pytest.fixture
def site(clock: Clock, metrics: Any) -> ApiSite:
    return make_site({"/metrics": Mount(MetricsPage(metrics, clock))}, clock)


@pytest.fixture
def client(site: ApiSite) -> Client:
    return Client(site)


def asked(client: Client, clock: Clock, path: str = "/metrics") -> bytes:
    client.transport.clear()
    client.request("GET", path)
    clock.pump([0] * 4)
    return client.received


def test_text(client: Client, clock: Clock) -> None:
    """The text is in Prometheus' format."""
    assert f"Content-Type: {CONTENT_TYPE}".encode() in asked(client, clock)
    assert client.received.endswith(b"\r\n\r\na piece\nmade 1\n")


def test_made_once_a_second(client: Client, clock: Clock) -> None:
    """However often it is asked for, the text is made once a second."""
    for seconds in (0, 0, 0.9):
        clock.advance(seconds)
        assert asked(client, clock).endswith(b"made 1\n")
    clock.advance(0.1)
    assert asked(client, clock).endswith(b"made 2\n")


def test_others_are_answered_meanwhile(site: ApiSite, clock: Clock, metrics: Counted) -> None:
    """The text, which takes long with many connectors, is made in several turns of the reactor; who asks for it
    meanwhile waits for it."""
    clients = [Client(site) for _ in range(3)]
    clients[0].request("GET", "/metrics")
    for client in clients[1:]:
        clock.callLater(0, client.request, "GET", "/metrics")
    assert not metrics.made
    clock.advance(0)
    assert all(client.received.endswith(b"made 1\n") for client in clients)
    assert metrics.made == 1
    assert metrics.most_in_a_turn == 1


def test_a_client_that_leaves(site: ApiSite, clock: Clock) -> None:
    """A client that doesn't wait for the text takes it from nobody else."""
    clients = [Client(site) for _ in range(2)]
    for client in clients:
        client.request("GET", "/metrics")
    clients[0].lose()
    clock.pump([0] * 4)
    assert clients[1].received.endswith(b"made 1\n")


def test_a_fault(client: Client, clock: Clock, metrics: Counted) -> None:
    """A text that can't be made is a 500, and the next one is made anew."""
    metrics.fault = ValueError("a gauge")
    with capturedLogs():
        assert asked(client, clock).startswith(b"HTTP/1.1 500 ")
    metrics.fault = None
    assert asked(client, clock).endswith(b"made 2\n")


@pytest.mark.parametrize("path", ["/metrics/", "/metrics/x", "/%6detrics", "/metrics;x", "/Metrics"])
def test_exact_path(client: Client, clock: Clock, path: str) -> None:
    """The page has just its path, in one spelling: a proxy's rule for it is passed by in no other."""
    assert asked(client, clock, path).startswith(b"HTTP/1.1 404 ")
