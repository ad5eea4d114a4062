"""Connections to the broker and the destinations of a configuration, to see whether they can be reached."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI
from zope.interface import implementer

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.channel import describe
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.reconnecting import CLOSE_TIMEOUT, connect
from junebug_turn.daemon.build import make_daemon
from junebug_turn.daemon.settings import Settings
from junebug_turn.delivery.destination import Destination
from junebug_turn.errors import DeliveryRefused
from junebug_turn.net.endpoints import UrlEndpoints, host_of
from junebug_turn.net.proxies import ProxyFault
from junebug_turn.net.tls import TlsFiles

NO_SIZE = (
    "the broker's max_message_size can't be asked for over AMQP, nor by its management API; "
    "`rabbitmqctl environment | grep max_message_size` shows it"
)
"""Note on the limit that only shows when a message is over it."""


@frozen
class Reached:
    """The result of one try to connect.

    :ivar what: ``broker``, or the option with the URL
    :ivar application: the connector of the application that it is for; None: the daemon
    :ivar where: scheme, host and port
    :ivar fault: None where it was reached
    :ivar lacks: what the daemon needs there and doesn't get
    :ivar notes: what else was found
    """

    what: str
    application: str | None
    where: str
    fault: str | None
    lacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it was reached and gives what the daemon needs."""
        return self.fault is None and not self.lacks


async def reach(reactor: Any, settings: Settings, timeout: float) -> list[Reached]:
    """Connect to each host of the broker, with the login, and to each destination, with TLS; nothing is sent to these.

    What the daemon needs of the broker is looked at; nothing is made or changed there.

    :param timeout: seconds, for all connections
    """
    daemon = settings.daemon
    tls = TlsFiles(daemon.ca_file, daemon.client_cert_file, daemon.client_key_file).load()
    scheme = "amqps" if daemon.amqp.tls else "amqp"
    tries: list[tuple[str, str | None, str, Deferred[Any]]] = []
    for node in daemon.amqp.nodes:
        logging_in = Deferred.fromCoroutine(connect(reactor, node, "checking"))
        tries.append(("broker", None, f"{scheme}://{node.address}", logging_in))
    urls: list[tuple[str, str | None, str]] = []
    if daemon.operator_url is not None:
        urls.append(("operator_url", None, daemon.operator_url))
    for options in settings.applications:
        urls += [(name, options.connector_name, url) for name, url in options.urls.items()]
    for name, connector, url in urls:
        try:
            destination = Destination.of(url, None)
        except DeliveryRefused as error:
            tries.append((name, connector, "?", fail(error)))
            continue
        endpoints = UrlEndpoints(reactor, tls, None, proxies=daemon.proxies)
        connecting = Deferred.fromCoroutine(_connect(destination, endpoints))
        tries.append((name, connector, destination.origin, connecting))
    for *_, trying in tries:
        trying.addTimeout(timeout, reactor)
    found = []
    for what, application, where, trying in tries:
        lacks: list[str] = []
        notes: list[str] = []
        fault = None
        try:
            connected = await trying
            if isinstance(connected, AmqpProtocol):
                await _examine(connected, make_daemon(reactor, settings).broker, lacks, notes)
        except Exception as error:
            fault = _words(error, timeout)
        found.append(Reached(what, application, where, fault, tuple(lacks), tuple(notes)))
    return found


async def _examine(protocol: AmqpProtocol, broker: Broker, lacks: list[str], notes: list[str]) -> None:
    """Look at what the daemon needs of the broker, and log out."""
    try:
        needed = broker.channels_needed
        notes.append(
            f"channel_max {protocol.channel_max}, of which {needed} are needed; frame_max {protocol.frame_max}"
        )
        notes.append(NO_SIZE)
        if protocol.channel_max < needed:
            lacks.append(
                f"{needed} channels on a connection, and the broker allows {protocol.channel_max}: raise channel_max "
                "at the broker"
            )
        found = await broker.examine(protocol)
        if found.missing:
            notes.append(
                "not there yet; the daemon makes them when it starts, if it has the permission (rabbitmqctl "
                f"list_permissions): {', '.join(found.missing)}"
            )
        if found.refused:
            lacks.append(f"the permission to configure {', '.join(found.refused)}")
        if found.unwritable:
            lacks.append(f"the permission to write to the exchanges {', '.join(found.unwritable)}")
    finally:
        await protocol.disconnect(CLOSE_TIMEOUT)


def _words(error: Exception, timeout: float) -> str:
    if isinstance(error, DeferredTimeout | TimeoutError):
        return f"no answer within {timeout:g} seconds"
    if isinstance(error, DNSLookupError):
        return "the host's name is not known"
    if isinstance(error, SSL.Error):
        return "its certificate can't be verified, or TLS fails"
    if isinstance(error, ProxyFault):
        return str(error)
    return describe(error)


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """A connection whose ``done`` fires when its TLS handshake is completed."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def handshakeCompleted(self) -> None:
        self.done.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.errback(reason)


async def _connect(destination: Destination, endpoints: UrlEndpoints) -> None:
    uri = URI.fromBytes(destination.url.encode("ascii"))
    secure = uri.scheme == b"https"
    proxy = None if secure else endpoints.proxies.proxy("http", host_of(uri), uri.port)
    # A request for an http URL goes to the proxy, which connects to the destination.
    endpoint: Any = endpoints.endpointForURI(uri) if proxy is None else endpoints.proxy_endpoint(proxy)
    factory = Factory.forProtocol(_Handshake if secure else Protocol)
    factory.noisy = False
    connected: Any = await endpoint.connect(factory)
    try:
        if secure:
            await connected.done
    finally:
        connected.transport.abortConnection()
