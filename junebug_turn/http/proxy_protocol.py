"""The PROXY protocol: a proxy names the client of a connection in a header before the client's bytes.

Its source is https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 and 2.2.  Twisted's
``haproxy:`` endpoint is replaced, since it cuts off ``PROXY UNKNOWN`` and headers that come in pieces, and its
protocols ask for the client before the header has come.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from twisted.internet import address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

_V1 = b"PROXY "
_V1_LONGEST = 107
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = 16
_V2_LOCAL, _V2_PROXY = 0x20, 0x21
_V2_SIZES = {1: 4, 2: 16}  # bytes of an address, by family


def read_header(data: bytes) -> tuple[IAddress | None, int] | None:
    """Read a header of version 1 or 2 at the start of ``data``.

    :returns: the client, None where the proxy names none (it connects for itself, or doesn't know), with the length of
        the header; None while the header is not complete
    :raises ValueError: there is no header
    """
    if data[: len(_V2)] == _V2[: len(data)]:
        return _read_v2(data)
    if data[: len(_V1)] == _V1[: len(data)]:
        return _read_v1(data)
    raise ValueError("no PROXY header")


def _read_v1(data: bytes) -> tuple[IAddress | None, int] | None:
    line, ended, _ = data[:_V1_LONGEST].partition(b"\r\n")
    if not ended:
        if len(data) >= _V1_LONGEST:
            raise ValueError("a PROXY header without end")
        return None
    size = len(line) + 2
    fields = line.decode("ascii").split(" ")
    if fields[1] == "UNKNOWN":
        return None, size
    family = {"TCP4": IPv4Address, "TCP6": IPv6Address}[fields[1]]
    source, port = ip_address(fields[2]), int(fields[4])
    if not isinstance(source, family) or len(fields) != 6:
        raise ValueError("a wrong PROXY header")
    return _address(source, port), size


def _read_v2(data: bytes) -> tuple[IAddress | None, int] | None:
    if len(data) < _V2_HEAD:
        return None
    command, family = data[12], data[13] >> 4
    size = _V2_HEAD + int.from_bytes(data[14:16], "big")
    if command not in (_V2_LOCAL, _V2_PROXY):
        raise ValueError("another version or command of the PROXY protocol")
    if len(data) < size:
        return None
    length = _V2_SIZES.get(family)
    if command == _V2_LOCAL or length is None:
        return None, size
    addresses = data[_V2_HEAD:size]
    if len(addresses) < 2 * length + 4:
        raise ValueError("a PROXY header without its addresses")
    port = int.from_bytes(addresses[2 * length : 2 * length + 2], "big")
    return _address(ip_address(addresses[:length]), port), size


def _address(host: IPv4Address | IPv6Address, port: int) -> IAddress:
    cls = address.IPv4Address if isinstance(host, IPv4Address) else address.IPv6Address
    return cls("TCP", str(host), port)


@implementer(IHalfCloseableProtocol)
class ProxiedConnection(ProtocolWrapper):
    """A connection from a proxy, and the transport of the ``ApiConnection`` that it carries.

    :ivar awaits_client: the header has not come yet, so that ``getPeer`` is the proxy
    """

    log = Logger()
    transport: Any
    wrappedProtocol: Any

    awaits_client = True
    _buffer = b""
    _client: IAddress | None = None

    def dataReceived(self, data: bytes) -> None:
        """Read the header, and pass on the bytes that follow it."""
        if self.awaits_client:
            self._buffer += data
            try:
                found = read_header(self._buffer)
            except (ValueError, LookupError):
                self.log.warn(
                    "Closed a connection from {proxy} that began without a PROXY header, which http_bind has with "
                    "haproxy:",
                    proxy=getattr(self.getPeer(), "host", "a socket file"),
                )
                self._buffer = b""
                self.transport.abortConnection()
                return
            if found is None:
                return
            self._client, size = found
            data, self._buffer = self._buffer[size:], b""
            self.awaits_client = False
            self.wrappedProtocol.client_known()
        if data:
            self.wrappedProtocol.dataReceived(data)

    def getPeer(self) -> Any:
        """Return the address of the client; that of the proxy where it names none."""
        return self._client or self.transport.getPeer()

    def readConnectionLost(self) -> None:
        """Pass on that the other side has closed its half."""
        self.wrappedProtocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Pass on that our half is closed."""
        self.wrappedProtocol.writeConnectionLost()


@implementer(IStreamServerEndpoint)
class ProxyEndpoint:
    """The server endpoint of a ``haproxy:`` description.

    :param endpoint: where the proxies connect to
    """

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen for connections of proxies."""
        # Named with its parameter in an annotation only: the class of older Twisteds takes none.
        factory: WrappingFactory[ProxiedConnection] = WrappingFactory(protocolFactory)
        factory.protocol = ProxiedConnection
        factory.noisy = False
        listening: Deferred[IListeningPort] = self._endpoint.listen(factory)
        return listening
