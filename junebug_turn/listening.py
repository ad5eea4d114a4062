"""Listening for HTTP, alone or together with other processes."""

from __future__ import annotations

import re
import socket
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from junebug_turn.errors import ConfigError

BACKLOG = 1024

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


def listen(
    reactor: Any, description: str, factory: IProtocolFactory, *, reuse_port: bool
) -> Deferred[IListeningPort]:
    """Listen at a Twisted server endpoint description; fails with what the system says against it.

    :param reuse_port: whether other processes may listen there too, each with ``reuse_port``; the system then gives
        each connection to one of them
    """
    if reuse_port:
        return maybeDeferred(_listen_together, reactor, description, factory)
    return maybeDeferred(lambda: serverFromString(reactor, description).listen(factory))


def _listen_together(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
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
