"""The limits of open connections; in memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from junebug_turn.http.connection_limits import MAX_LINGERING, ConnectionLimits, client_of
from junebug_turn.http.server import ApiSite
from tests.support.http_harness import Client, make_site


@pytest.fixture
def clock() -> Clock:
    return Clock()


def site(clock: Any, **limits: Any) -> ApiSite:
    return make_site({}, clock, **limits)


def test_connections_in_all(clock: Clock) -> None:
    """A connection over max_connections gets a 503 with Retry-After at once; one that ends makes room."""
    made = site(clock, max_connections=2)
    first, second, third = (Client(made, f"192.0.2.{n}") for n in range(3))
    assert not first.ended
    assert not second.ended
    assert third.refusal() == (503, "TooManyConnections")
    assert b"Retry-After: 5" in third.received
    third.lose()
    first.lose()
    assert not Client(made, "192.0.2.9").ended
    assert made.connections.open == 2


def test_connections_of_one_client(clock: Clock) -> None:
    """One client has max_connections_per_client; for IPv6 its /64 counts, and mapped addresses are IPv4 ones."""
    made = site(clock, max_connections_per_client=1)
    assert not Client(made, "192.0.2.1").ended
    assert Client(made, "192.0.2.1").ended
    assert Client(made, "::ffff:192.0.2.1").ended
    assert not Client(made, "192.0.2.2").ended
    assert not Client(made, "2001:db8::1").ended
    assert Client(made, "2001:db8::ffff:1").ended
    assert not Client(made, "2001:db8:0:1::1").ended


def test_clients_behind_a_socket_file(clock: Clock) -> None:
    """Connections to a socket file have no address and only count in all."""
    assert client_of(UNIXAddress(None)) is None
    connections = ConnectionLimits(clock, 2, 1)  # type: ignore[arg-type]
    connections.leave(connections.enter(UNIXAddress(None)))
    assert connections.enter(UNIXAddress(None)) is None
    assert connections.enter(UNIXAddress(None)) is None
    assert connections.open == 2


def test_refused_connections_don_t_pile_up(clock: Clock) -> None:
    """Only so many refused connections may wait to be read; further ones are cut without an answer."""
    made = site(clock, max_connections=1)
    clients = [Client(made, f"192.0.2.{n}") for n in range(MAX_LINGERING + 2)]
    assert clients[MAX_LINGERING].received
    assert clients[MAX_LINGERING + 1].received == b""
    assert clients[MAX_LINGERING + 1].transport.disconnected
    for client in clients:
        client.lose()
    assert (made.connections.open, made.connections.lingering) == (0, 0)


def test_refused_connections_are_logged_once(clock: Clock) -> None:
    """Refused connections are told once a minute, with their number."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        made = site(clock, max_connections=1)
        for _ in range(11):
            Client(made)
        clock.advance(60)
        Client(made)
    finally:
        globalLogPublisher.removeObserver(events.append)
    lines = [event for event in events if event.get("option") == "max_connections"]
    assert [event["count"] for event in lines] == [1, 10]
