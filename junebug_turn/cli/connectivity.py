"""Connections to the broker and the destinations of a configuration, to see whether they can be reached."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI
from zope.interface import implementer

from junebug_turn.amqp.channel import describe
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.reconnecting import CLOSE_TIMEOUT, connect
from junebug_turn.daemon.settings import Settings
from junebug_turn.delivery.destination import Destination
from junebug_turn.errors import DeliveryRefused
from junebug_turn.net.endpoints import NameEndpoint
from junebug_turn.net.tls import ClientTls, TlsFiles


@frozen
class Reached:
    """The result of one try to connect.

    :ivar what: ``broker``, or the option with the URL
    :ivar application: the connector of the application that it is for; None: the daemon
    :ivar where: scheme, host and port
    :ivar fault: None where it was reached
    """

    what: str
    application: str | None
    where: str
    fault: str | None


async def reach(reactor: Any, settings: Settings, timeout: float) -> list[Reached]:
    """Connect to the broker, with its login, and to each destination, with TLS; nothing is sent to these.

    :param timeout: seconds, for all of it
    """
    daemon = settings.daemon
    tls = TlsFiles(daemon.ca_file, daemon.client_cert_file, daemon.client_key_file).load()
    scheme = "amqps" if daemon.amqp.tls else "amqp"
    broker = f"{scheme}://{daemon.amqp.hostname}:{daemon.amqp.port}"
    tries: list[tuple[str, str | None, str, Deferred[None]]] = [
        ("broker", None, broker, Deferred.fromCoroutine(_log_in(reactor, daemon.amqp)))
    ]
    for options in settings.applications:
        for name, url in options.urls.items():
            try:
                destination = Destination.of(url, None)
            except DeliveryRefused as error:
                tries.append((name, options.connector_name, "?", fail(error)))
                continue
            connecting = Deferred.fromCoroutine(_connect(reactor, destination, tls))
            tries.append((name, options.connector_name, destination.origin, connecting))
    for *_, trying in tries:
        trying.addTimeout(timeout, reactor)
    found = []
    for what, application, where, trying in tries:
        try:
            await trying
        except Exception as error:
            found.append(Reached(what, application, where, _words(error, timeout)))
        else:
            found.append(Reached(what, application, where, None))
    return found


def _words(error: Exception, timeout: float) -> str:
    if isinstance(error, DeferredTimeout | TimeoutError):
        return f"no answer within {timeout:g} seconds"
    if isinstance(error, DNSLookupError):
        return "the host's name is not known"
    if isinstance(error, SSL.Error):
        return "its certificate can't be verified, or TLS fails"
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


async def _log_in(reactor: Any, options: AmqpOptions) -> None:
    protocol = await connect(reactor, options, "checking")
    await protocol.disconnect(CLOSE_TIMEOUT)


async def _connect(reactor: Any, destination: Destination, tls: ClientTls) -> None:
    uri = URI.fromBytes(destination.url.encode("ascii"))
    host = uri.host.decode("ascii").strip("[]")
    endpoint: Any = NameEndpoint(reactor, host, uri.port)
    secure = uri.scheme == b"https"
    if secure:
        endpoint = wrapClientTLS(tls.creator(host), endpoint)
    factory = Factory.forProtocol(_Handshake if secure else Protocol)
    factory.noisy = False
    connected: Any = await endpoint.connect(factory)
    try:
        if secure:
            await connected.done
    finally:
        connected.transport.abortConnection()
