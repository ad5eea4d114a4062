"""The private names of libraries that the package relies on.

setup.cfg lets minor releases of these libraries in.  When one moves a private name, a test here fails and says which
module of ours needs another way; without it a daemon would fail at its work.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from klein import Klein
from klein.resource import KleinResource
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.tcp import Connector, Port, Server
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol, Request, TransportProxyProducer
from twisted.web.client import HTTPConnectionPool
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from txamqp.client import Closed
from txamqp.protocol import AMQChannel
from zope.interface import implementer

from junebug_turn.delivery.status_line import StatusLineFactory, StatusLineProtocol

reactor: Any = _reactor
ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("twisted", "klein", "treq", "txamqp", "werkzeug")
MISSING = object()

# Private name -> the module that relies on it, and why.
NAMES = {
    "_respondToBadRequestAndDisconnect": (
        "http/connection.py",
        "replaces Twisted's refusal, which has no body",
    ),
    "_receivedHeaderCount": ("http/connection.py", "tells a client that it sent too many headers"),
    "_receivedHeaderSize": ("http/connection.py", "tells a client that its headers are too large"),
    "_path": (
        "http/connection.py",
        "finds the form of the error for a request that is refused before its end",
    ),
    "_transferDecoder": (
        "http/connection.py",
        "lets go of the decoder of a body that isn't complete, which has the connection",
    ),
    "_app": ("http/routing.py", "renders the endpoints of a Klein application itself"),
    "_sslContextFactory": ("http/listening.py", "gives new connections a renewed certificate"),
    "_backlog": ("http/listening.py", "lets more connections wait than Twisted's 50"),
    "_hostAsBytesAndText": ("net/endpoints.py", "connects to names with underscores"),
    "_makeTransport": ("net/tcp.py", "makes connections that send at the end of the reactor's turn"),
    "_producer": (
        "delivery/answer_body.py",
        "aborts the connection of an answer that is too long or too late",
    ),
    "_factory": ("delivery/http_client.py", "has a pool make connections that keep an answer's status"),
    "_putConnection": ("delivery/pool.py", "bounds the idle connections to all hosts together"),
    "_removeConnection": ("delivery/pool.py", "closes the oldest idle connection"),
    "_timeouts": ("delivery/pool.py", "counts the idle connections, in the order in which they became idle"),
    "_connections": ("delivery/pool.py", "forgets the hosts that have no idle connection"),
    "_giveUp": ("delivery/status_line.py", "keeps the status of an answer whose rest can't be parsed"),
    "_parser": ("delivery/status_line.py", "keeps the status of an answer whose rest can't be parsed"),
    "_closing": ("amqp/channel.py", "makes a channel without txamqp's own __init__, whose close() reads it"),
    "_raise_closed": ("amqp/channel.py", "fails a call on a channel that is closed"),
}


def moved(library: str, name: str) -> str:
    """The message of a test that fails."""
    module, use = NAMES[name]
    return (
        f"{library} {version(library)} has moved or changed the private name {name}: "
        f"junebug_turn/{module} relies on it; it {use}. Find another way there, or bound {library} in setup.cfg."
    )


def attribute(holder: Any, name: str) -> Any:
    return getattr(holder, name, MISSING)


@pytest.fixture
def channel() -> HTTPChannel:
    channel = HTTPChannel()
    channel.makeConnection(StringTransport())
    return channel


def test_http_channel_bad_request(channel: HTTPChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twisted's HTTPChannel calls ``_respondToBadRequestAndDisconnect`` for a request that can't be read."""
    called: list[bool] = []
    name = "_respondToBadRequestAndDisconnect"
    monkeypatch.setattr(HTTPChannel, name, lambda self: called.append(True), raising=False)
    channel.dataReceived(b"no HTTP\r\n")
    assert called, moved("twisted", name)


@pytest.mark.parametrize(("name", "value"), [("_receivedHeaderCount", 2), ("_receivedHeaderSize", 18)])
def test_http_channel_counts(channel: HTTPChannel, name: str, value: int) -> None:
    """Twisted's HTTPChannel counts headers in ``_receivedHeaderCount`` and bytes in ``_receivedHeaderSize``."""
    channel.dataReceived(b"GET / HTTP/1.1\r\na: 1\r\n")
    before = attribute(channel, name)
    channel.dataReceived(b"b: 2\r\n")
    assert before is not MISSING, moved("twisted", name)
    assert attribute(channel, name) > before, moved("twisted", name)


def test_http_channel_path(channel: HTTPChannel) -> None:
    """Twisted's HTTPChannel has the path of the request line in ``_path``."""
    channel.dataReceived(b"GET /path?query HTTP/1.1\r\n")
    assert attribute(channel, "_path") == b"/path?query", moved("twisted", "_path")


def test_http_channel_decoder(channel: HTTPChannel) -> None:
    """Twisted's HTTPChannel has the decoder of a body in ``_transferDecoder``, and calls itself by it."""
    channel.dataReceived(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n")
    channel.dataReceived(b"X: y\r\n")
    decoder = attribute(channel, "_transferDecoder")
    assert getattr(decoder, "finishCallback", None) == channel._finishRequestBody, moved(
        "twisted", "_transferDecoder"
    )


def test_klein_app() -> None:
    """Klein's resource has its application in ``_app``."""
    app = Klein()
    assert attribute(KleinResource(app), "_app") is app, moved("klein", "_app")


def test_ssl_endpoint_context() -> None:
    """Twisted's SSL endpoint has its context factory in ``_sslContextFactory``."""
    context = CertificateOptions()
    endpoint = SSL4ServerEndpoint(reactor, 0, context)
    assert attribute(endpoint, "_sslContextFactory") is context, moved("twisted", "_sslContextFactory")


@pytest.mark.parametrize("description", ["tcp:0", "tcp6:0"])
def test_endpoint_backlog(description: str) -> None:
    """Twisted's server endpoints have the length of the queue in ``_backlog``."""
    endpoint = serverFromString(reactor, f"{description}:backlog=7")
    assert attribute(endpoint, "_backlog") == 7, moved("twisted", "_backlog")


def test_hostname_endpoint() -> None:
    """Twisted's HostnameEndpoint asks ``_hostAsBytesAndText`` whether a host is bad, and for its two forms."""
    convert = attribute(HostnameEndpoint, "_hostAsBytesAndText")
    assert convert is not MISSING, moved("twisted", "_hostAsBytesAndText")
    assert convert("example.org") == (False, b"example.org", "example.org"), moved(
        "twisted", "_hostAsBytesAndText"
    )
    assert convert("a_b")[0], (
        "Twisted takes names with underscores now: NameEndpoint need not replace the method"
    )


def test_tcp_connector() -> None:
    """Twisted's TCP connector makes its connection in ``_makeTransport``, and a port its connections as ``Server``."""
    made: list[Connector] = []

    class Recording(Connector):
        def _makeTransport(self) -> Any:
            made.append(self)
            return super()._makeTransport()  # type: ignore[misc]

    connector = Recording("127.0.0.1", 1, ClientFactory(), 1, None, reactor)
    connector.connect()
    connector.disconnect()
    assert made, moved("twisted", "_makeTransport")
    assert Port.transport is Server, (
        "Twisted's Port.transport is no longer tcp.Server: junebug_turn/net/tcp.py"
    )


def test_response_transport() -> None:
    """The transport of a response of Twisted's has the connection in ``_producer``."""
    connection = StringTransport()
    assert attribute(TransportProxyProducer(connection), "_producer") is connection, moved(
        "twisted", "_producer"
    )


def test_pool_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twisted's HTTP pool makes its connections with ``_factory``, from a callback and a text."""
    pool = HTTPConnectionPool(reactor)
    assert attribute(pool, "_factory") is not MISSING, moved("twisted", "_factory")
    connections: list[Any] = []

    @implementer(IStreamClientEndpoint)
    class Endpoint:
        def connect(self, factory: Any) -> Deferred[Any]:
            connections.append(factory.buildProtocol(None))
            return succeed(connections[0])

    pool._factory = StatusLineFactory
    pool.getConnection("key", Endpoint())
    assert [type(connection) for connection in connections] == [StatusLineProtocol], moved(
        "twisted", "_factory"
    )


def test_pool_of_idle_connections() -> None:
    """Twisted's HTTP pool keeps idle connections by ``_putConnection`` and closes them by ``_removeConnection``; it has
    them in ``_connections`` by their host, and in ``_timeouts``."""
    pool: Any = HTTPConnectionPool(Clock())
    for number in range(2):
        connection: Any = HTTP11ClientProtocol()
        connection.makeConnection(StringTransport())
        assert hasattr(pool, "_putConnection"), moved("twisted", "_putConnection")
        pool._putConnection(number, connection)
    assert [len(kept) for kept in attribute(pool, "_connections").values()] == [1, 1], moved(
        "twisted", "_connections"
    )
    assert list(attribute(pool, "_timeouts")) == [*pool._connections[0], *pool._connections[1]], moved(
        "twisted", "_timeouts"
    )
    pool._removeConnection(0, pool._connections[0][0])
    assert (len(pool._timeouts), pool._connections[0]) == (1, []), moved("twisted", "_removeConnection")


def test_client_protocol() -> None:
    """Twisted's HTTP client protocol has the parser of an answer in ``_parser``, whose ``response`` has the status,
    and calls ``_giveUp`` with the exception where what follows can't be parsed."""
    given_up: list[Failure] = []

    class Recording(HTTP11ClientProtocol):
        def _giveUp(self, reason: Failure) -> None:
            given_up.append(reason)
            super()._giveUp(reason)

    protocol = Recording()
    protocol.makeConnection(StringTransport())
    request = Request(b"GET", b"/", Headers({b"Host": [b"h"]}), None)
    protocol.request(request).addErrback(lambda _: None)
    protocol.dataReceived(b"HTTP/1.1 201 Created\r\n")
    parser = attribute(protocol, "_parser")
    assert getattr(getattr(parser, "response", None), "code", None) == 201, moved("twisted", "_parser")
    assert hasattr(parser, "lineLengthExceeded"), moved("twisted", "_parser")
    # The bounds of an answer's headers stand on these two.
    headers: list[bytes] = []
    parser.headerReceived = lambda name, value: headers.append(name)
    protocol.dataReceived(b"a: 1\r\nb: 2\r\n")
    assert headers == [b"a"], moved("twisted", "_parser")
    assert parser.line_mode, moved("twisted", "_parser")
    protocol.dataReceived(b"no colon\r\n\r\n")
    assert [reason.type for reason in given_up] == [ValueError], moved("twisted", "_giveUp")


def test_txamqp_closing() -> None:
    """txamqp's channel notes in ``_closing`` that it is closed by this side."""
    assert attribute(AMQChannel(1, None, None), "_closing") is False, moved("txamqp", "_closing")


def test_txamqp_raise_closed() -> None:
    """txamqp's channel raises the reason of its end by ``_raise_closed``."""
    assert attribute(AMQChannel, "_raise_closed") is not MISSING, moved("txamqp", "_raise_closed")
    with pytest.raises(Closed, match="lost"):
        AMQChannel._raise_closed(ConnectionError("lost"))


def _is_private(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"_[A-Za-z]\w*", name) is not None


def _used(place: str, source: str) -> Iterator[str]:
    """Private names in a module that are those of another object, or inherited from a library."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name):
                yield name
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(name), *_]
            ):
                yield name
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.bases:
            module = importlib.import_module("junebug_turn." + place.removesuffix(".py").replace("/", "."))
            theirs = "".join(
                inspect.getsource(base)
                for base in getattr(module, node.name).__mro__
                if base.__module__.partition(".")[0] in LIBRARIES
            )
            names = {getattr(inner, "attr", getattr(inner, "name", None)) for inner in ast.walk(node)}
            yield from (name for name in names if name and re.search(rf"\b{name}\b", theirs))


def test_the_list_is_complete() -> None:
    """The names above are all private names of these libraries that the package uses."""
    package = ROOT / "junebug_turn"
    sources = {str(path.relative_to(package)): path.read_text("utf-8") for path in package.rglob("*.py")}
    ours = set(re.findall(r"(?:self\.|def |^    )(_\w+)(?: =|:|\()", "".join(sources.values()), re.M)) - set(
        NAMES
    )
    used = {
        (name, place)
        for place, source in sources.items()
        for name in _used(place, source)
        if _is_private(name) and name not in ours
    }
    listed = {(name, place) for name, (place, _) in NAMES.items()}
    assert used - listed == set(), (
        "a private name of a library is used: do without it, or list it and test it here"
    )
    assert listed - used == set(), "a private name is not used any more: take it from the list, with its test"
