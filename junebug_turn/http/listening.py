"""Listening for HTTP: alone or together with other processes, with TLS certificates that can be renewed meanwhile."""

from __future__ import annotations

import re
import socket
from typing import Any

from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLContextFactory,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from junebug_turn.errors import ConfigError

BACKLOG = 1024
"""Connections that wait to be accepted, where a description names no other number.

Twisted's 50 are too few for a burst: the kernel lets the others wait a second, and longer, before they may try again.
"""

# What ``endpoint_description`` makes of host:port, and the same written by hand.
_TCP = re.compile(r"tcp6?:(?P<port>[0-9]+)(:interface=(?P<interface>([^:\\]|\\:)*))?", re.ASCII)


def check_reuse_port(description: str) -> tuple[str, int]:
    """Interface and port of an address that several processes can share.

    :raises ConfigError: they can't
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("reuse_port: this system does not have it")
    match = _TCP.fullmatch(description)
    if match is None:
        raise ConfigError("reuse_port: works with an http_bind of the form host:port or [v6]:port only")
    return (match["interface"] or "").replace("\\:", ":"), int(match["port"])


def listen_together(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen where other processes may listen too, each in this way; the system gives each connection to one of them.

    :raises OSError: the system has something against it
    """
    host, number = check_reuse_port(description)
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ours.bind(address)
        ours.listen(BACKLOG)
        ours.setblocking(False)
        # The port has a copy of the descriptor.
        port: IListeningPort = reactor.adoptStreamPort(ours.fileno(), family, factory)
        return port


@implementer(IOpenSSLContextFactory)
class RenewableContext:
    """The TLS context that new connections get; those that are made keep the one that they have.

    :param description: an ``ssl:`` endpoint description, whose files are read again
    :raises Exception: the files can't be used
    """

    def __init__(self, reactor: Any, description: str) -> None:
        self._reactor = reactor
        self._description = description
        self._options = self._load()

    def _load(self) -> Any:
        endpoint: Any = serverFromString(self._reactor, self._description)
        options = endpoint._sslContextFactory
        options.getContext()  # an error that only shows when the context is made shall show here
        return options

    def getContext(self) -> Any:
        """The context, as pyOpenSSL has it; Twisted asks for each connection."""
        return self._options.getContext()

    def renew(self) -> None:
        """Read the files again.

        :raises Exception: they can't be used; then everything stays as it was
        """
        self._options = self._load()


def server_endpoint(reactor: Any, description: str) -> tuple[IStreamServerEndpoint, RenewableContext | None]:
    """The endpoint for a description, with what renews its certificate where it has one.

    :raises Exception: the description or the files that it names can't be used
    """
    endpoint: Any = serverFromString(reactor, description)
    if hasattr(endpoint, "_backlog") and ":backlog=" not in description:
        endpoint._backlog = BACKLOG
    if not isinstance(endpoint, SSL4ServerEndpoint):
        return endpoint, None
    context = RenewableContext(reactor, description)
    endpoint._sslContextFactory = context
    return endpoint, context
