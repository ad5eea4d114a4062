"""Addresses to listen at for HTTP: alone or shared with other processes, with renewable TLS certificates."""

from __future__ import annotations

import re
import socket
from functools import cache
from ipaddress import AddressValueError, IPv6Address, ip_address
from typing import Any, Self

from attrs import field, frozen
from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLContextFactory,
    IProtocolFactory,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import getPlugins
from zope.interface import implementer

from junebug_turn.config.types import ValueType, filled
from junebug_turn.errors import ConfigError
from junebug_turn.http.proxy_protocol import ProxyEndpoint
from junebug_turn.net.tls import context_of, not_after

BACKLOG = 1024
"""Connections that wait to be accepted, where a description names no other number.

Twisted's 50 are too few for a burst: the kernel lets the others wait a second, and longer, before they may try again.
"""

DEFAULT_PORT = 8000
"""The port of an address that has none, as vumi2's server has it."""

_HOST_AND_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]*|\[[A-Za-z0-9:.%]+\]):(?P<port>[0-9]+)", re.ASCII)
# A number alone is a port that lacks its host.
_HOST = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9._-]+|\[[A-Za-z0-9:.%]+\]", re.ASCII)

# A description that is made of host:port, and the same written by hand.
_TCP = re.compile(r"tcp6?:(?P<port>[0-9]+)(:interface=(?P<interface>([^:\\]|\\:)*))?", re.ASCII)

_INTERFACE = re.compile(r":interface=((?:[^:\\]|\\.)*)")
_PROXIED = "haproxy:"


@frozen
class ListenAddress:
    """An address to listen at.  Two spellings of one address are equal.

    :ivar text: the address as the configuration has it
    :ivar description: the Twisted server endpoint description that it means
    """

    text: str = field(eq=False)
    description: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse ``host:port``, ``[v6]:port``, ``unix:/path`` or a Twisted server endpoint description.

        ``host`` alone has the port 8000; ``:port`` is at every IPv4 address.  Port 0 is any free port.  A socket
        file without a mode is for the daemon's user and group, where Twisted would let in everybody.

        :raises ValueError: it is none of these
        """
        return cls(text, _description(text))

    def __str__(self) -> str:
        return self.text

    @property
    def is_local(self) -> bool:
        """Whether it is surely reached from this machine only: a loopback address, or a socket file."""
        description = self.description.removeprefix(_PROXIED)
        if description.startswith("unix:"):
            return True
        found = _INTERFACE.search(description)
        host = found[1].replace("\\", "").partition("%")[0] if found else ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def reached_from_elsewhere(self) -> bool:
        """Whether other machines can connect to it, where its description says so; systemd's doesn't."""
        kind = self.description.removeprefix(_PROXIED).partition(":")[0]
        return kind in ("tcp", "tcp6", "ssl") and not self.is_local

    @property
    def short(self) -> str:
        """Its kind and port, without the files that a description names: ``ssl:443``."""
        kind, _, arguments = self.description.removeprefix(_PROXIED).partition(":")
        return f"{kind}:{arguments.partition(':')[0]}"

    def interface_and_port(self) -> tuple[str, int]:
        """The socket address that several processes can share.

        :raises ConfigError: they can't share this one
        """
        if not hasattr(socket, "SO_REUSEPORT"):
            raise ConfigError("reuse_port: this system does not have it")
        match = _TCP.fullmatch(self.description)
        if match is None:
            raise ConfigError("reuse_port: works with an http_bind of the form host:port or [v6]:port only")
        return (match["interface"] or "").replace("\\:", ":"), int(match["port"])


@cache
def _kinds() -> frozenset[str]:
    """Find the kinds of server endpoint descriptions, once: each search reads all plugin folders."""
    plugins = getPlugins(IStreamServerEndpointStringParser)
    return frozenset({"tcp", "unix", "ssl"}.union(each.prefix for each in plugins))


def _description(text: str) -> str:
    kind, _, arguments = text.partition(":")
    known = _kinds()
    if _HOST.fullmatch(text) and text not in known:
        text = f"{text}:{DEFAULT_PORT}"
    match = _HOST_AND_PORT.fullmatch(text)
    if match and kind not in known:
        host, port = match["host"], int(match["port"])
        if port > 65535:
            raise ValueError("must have a port from 1 to 65535")
        if not host.startswith("["):
            return f"tcp:{port}:interface={host}" if host else f"tcp:{port}"
        try:
            IPv6Address(host[1:-1])
        except AddressValueError:
            raise ValueError("must have an IPv6 address between the brackets") from None
        interface = host[1:-1].replace(":", r"\:")
        return f"tcp6:{port}:interface={interface}"
    if not arguments or kind not in known:
        raise ValueError("must be host:port, [v6]:port, unix:/path or a Twisted server endpoint description")
    if kind == "unix" and ":mode=" not in text:
        return f"{text}:mode=660"
    return text


BIND = ValueType("address", lambda value: ListenAddress.of(filled(value)), shown=str)


def listen_together(reactor: Any, address: ListenAddress, factory: IProtocolFactory) -> IListeningPort:
    """Listen where other processes may listen too, each in this way; the system gives each connection to one of them.

    :raises OSError: the system has something against it
    """
    host, number = address.interface_and_port()
    family, kind, protocol, _, socket_address = socket.getaddrinfo(
        host or None, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ours.bind(socket_address)
        ours.listen(BACKLOG)
        ours.setblocking(False)
        # The port has a copy of the descriptor.
        port: IListeningPort = reactor.adoptStreamPort(ours.fileno(), family, factory)
        return port


@implementer(IOpenSSLContextFactory)
class RenewableContext:
    """The TLS context of new connections; established connections keep theirs.

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
        context_of(options)  # the options keep it; an error that only shows when it is made shall show here
        return options

    def getContext(self) -> Any:
        """The context, as pyOpenSSL has it; Twisted asks for each connection."""
        return self._options.getContext()

    @property
    def not_after(self) -> float:
        """The Unix time at which its certificate ends: see ``net.tls.not_after``."""
        return not_after(self._options.certificate, *(self._options.extraCertChain or ()))

    def renew(self) -> None:
        """Read the files again.

        :raises Exception: they can't be used; then everything stays as it was
        """
        self._options = self._load()


def server_endpoint(
    reactor: Any, address: ListenAddress
) -> tuple[IStreamServerEndpoint, RenewableContext | None]:
    """The endpoint of an address, and its TLS context where it has one.

    :raises Exception: the address or the files that it names can't be used
    """
    description = address.description
    if description.startswith(_PROXIED):
        behind, context = server_endpoint(reactor, ListenAddress.of(description.removeprefix(_PROXIED)))
        return ProxyEndpoint(behind), context
    endpoint: Any = serverFromString(reactor, description)
    if hasattr(endpoint, "_backlog") and ":backlog=" not in description:
        endpoint._backlog = BACKLOG
    if not isinstance(endpoint, SSL4ServerEndpoint):
        return endpoint, None
    context = RenewableContext(reactor, description)
    endpoint._sslContextFactory = context
    return endpoint, context
