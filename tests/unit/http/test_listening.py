"""Addresses that several processes can share, and those that can't."""

from __future__ import annotations

import selectors
import socket
from contextlib import ExitStack
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory, Protocol

from junebug_turn.daemon.build import make_daemon
from junebug_turn.daemon.settings import load
from junebug_turn.errors import ConfigError
from junebug_turn.http import listening
from junebug_turn.http.listening import ListenAddress, server_endpoint

JUNEBUG = {
    "application": "junebug",
    "connector_name": "c",
    "mo_message_url": "http://127.0.0.1/",
    "reuse_port": "true",
}


@pytest.mark.parametrize(
    ("http_bind", "description"),
    [
        ("127.0.0.1:8080", "tcp:8080:interface=127.0.0.1"),
        ("localhost:8080", "tcp:8080:interface=localhost"),
        ("localhost", "tcp:8000:interface=localhost"),
        ("0.0.0.0", "tcp:8000:interface=0.0.0.0"),
        (":8000", "tcp:8000"),
        ("0.0.0.0:0", "tcp:0:interface=0.0.0.0"),
        ("[::1]:8080", r"tcp6:8080:interface=\:\:1"),
        ("[::]:8080", r"tcp6:8080:interface=\:\:"),
        ("unix:/run/x.sock", "unix:/run/x.sock:mode=660"),
        ("unix:/run/x.sock:mode=600", "unix:/run/x.sock:mode=600"),
        ("tcp:8080", "tcp:8080"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ("ssl:443:privateKey=k.pem", "ssl:443:privateKey=k.pem"),
    ],
)
def test_forms(http_bind: str, description: str) -> None:
    """host:port, [v6]:port, unix:/path and endpoint descriptions become what Twisted listens on.

    A host alone has port 8000, as vumi2's server has it, and a port alone is at every IPv4 address.
    """
    address = ListenAddress.of(http_bind)
    assert address.description == description
    assert address == ListenAddress.of(description)
    (options,) = load({**JUNEBUG, "http_bind": http_bind}, {}).applications
    assert (options.http_bind, str(options.http_bind)) == (address, http_bind)


def test_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 connectors start in seconds: Twisted's plugin folders are searched once, not for each connector's address."""
    searches: list[Any] = []
    monkeypatch.setattr(listening, "getPlugins", lambda kind: searches.append(kind) or ())
    listening._kinds.cache_clear()  # private: another test may have filled it
    try:
        for port in range(1, 20):
            ListenAddress.of(f"127.0.0.1:{port}")
    finally:
        listening._kinds.cache_clear()  # private: it is without Twisted's plugins
    assert len(searches) == 1


@pytest.mark.parametrize(
    ("http_bind", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:8080", ("::1", 8080)),
        ("tcp:8080", ("", 8080)),
        ("tcp:8080:interface=127.0.0.1", ("127.0.0.1", 8080)),
    ],
)
def test_shared(http_bind: str, address: tuple[str, int]) -> None:
    """host:port and [v6]:port can be shared, however they are written."""
    assert ListenAddress.of(http_bind).interface_and_port() == address


@pytest.mark.parametrize("http_bind", ["unix:/run/s", "systemd:domain=INET:index=0", "tcp:80:backlog=5"])
def test_not_shared(http_bind: str) -> None:
    """Any other address with reuse_port is a line that names the option and the application."""
    from twisted.internet import reactor

    with pytest.raises(ConfigError, match=r"^reuse_port: .*host:port.* \(application c\)$"):
        make_daemon(reactor, load({**JUNEBUG, "http_bind": http_bind}, {}))


@pytest.mark.parametrize(("more", "fits"), [("", True), (":backlog=5", False)])
@pytest_twisted.ensureDeferred
async def test_a_burst_of_connections(more: str, fits: bool) -> None:
    """Hundreds of clients can connect while the daemon does other things, or as many as http_bind says."""
    from twisted.internet import reactor

    endpoint, _ = server_endpoint(reactor, ListenAddress.of(f"tcp:0:interface=127.0.0.1{more}"))
    port: Any = await endpoint.listen(Factory.forProtocol(Protocol))
    with ExitStack() as clients:
        selector = clients.enter_context(selectors.DefaultSelector())
        # The reactor stands still here, so nobody accepts them.
        for _ in range(300):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port.getHost().port))
            selector.register(client, selectors.EVENT_WRITE)
        connected = len(selector.select(timeout=0.2))
        assert (connected == 300) is fits
    await port.stopListening()


@pytest.mark.parametrize(
    ("http_bind", "local"),
    [
        ("127.0.0.1:80", True),
        ("127.3.2.1:80", True),
        ("[::1]:80", True),
        (r"tcp6:80:interface=\:\:1:backlog=5", True),
        ("tcp:80:interface=127.0.0.1:backlog=5", True),
        ("haproxy:tcp:80:interface=127.0.0.1", True),
        ("unix:/run/x", True),
        ("haproxy:unix:/run/x", True),
        ("localhost:80", True),
        ("[::]:80", False),
        ("0.0.0.0:80", False),
        ("host.example:80", False),
        ("tcp:80", False),
        ("tcp:80:backlog=5", False),
        ("systemd:domain=INET:index=0", False),
        ("haproxy:tcp:80", False),
    ],
)
def test_local(http_bind: str, local: bool) -> None:
    """An address is this machine's alone where it is a loopback address or a socket file; in doubt it isn't."""
    assert ListenAddress.of(http_bind).is_local is local
