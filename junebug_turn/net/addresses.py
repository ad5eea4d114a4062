"""Host rules: which addresses a client's URL may never lead to, and which hosts it may by configuration.

Some addresses answer only to the machine that asks, and give it secrets: the metadata services of clouds, and others
on the link.  A client must not have the daemon ask them.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self, TypeAlias

import idna
from attrs import frozen

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# Refused to clients always.  The addresses of metadata services are those that the providers document.
FORBIDDEN: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host, by a name that is none
        "169.254.0.0/16",  # link-local; AWS, Azure, GCP, Oracle, OpenStack, DigitalOcean and others
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # Oracle Cloud
        "224.0.0.0/4",  # multicast
        "255.255.255.255/32",  # broadcast
        "::/128",  # this host
        "fe80::/10",  # link-local
        "fec0::/10",  # link-local's older relative
        "fd00:ec2::/32",  # AWS: metadata, names, time
        "fd20:ce::254/128",  # GCP
        "fd00:42::42/128",  # Scaleway
        "ff00::/8",  # multicast
    )
)

# IPv6 addresses that stand for an IPv4 one, which begins after the given number of bits.
_EMBEDDING: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("::ffff:0:0/96"), 96),  # mapped
    (IPv6Network("::ffff:0:0:0/96"), 96),  # translated
    (IPv6Network("::/96"), 96),  # compatible
    (IPv6Network("64:ff9b::/96"), 96),  # NAT64
    (IPv6Network("64:ff9b:1::/48"), 96),  # NAT64 of a site's own, in its usual form
    (IPv6Network("2002::/16"), 16),  # 6to4
)

_TEREDO = IPv6Network("2001::/32")
_IPV4 = 0xFFFFFFFF


def plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for; any other as it is, without its zone."""
    if isinstance(address, IPv4Address):
        return address
    number = int(address)
    for network, start in _EMBEDDING:
        if address in network and number > 1:  # not :: and ::1, which are IPv6's own
            return IPv4Address(number >> (96 - start) & _IPV4)
    if address in _TEREDO:
        # The client's address has all of its bits inverted (RFC 4380, section 4).
        return IPv4Address(~number & _IPV4)
    return IPv6Address(number)


def is_forbidden(address: Address) -> bool:
    """Whether no client may have the daemon connect to ``address``."""
    address = plain(address)
    return any(address in network for network in FORBIDDEN)


def as_address(host: str) -> Address | None:
    """Read the address that ``host`` spells, in any form that a resolver would take; None for a name.

    Resolvers take ``2852039166``, ``0xa9fea9fe``, ``0251.0376.0251.0376`` and ``169.254.43518`` for addresses.
    """
    host = host.removeprefix("[").removesuffix("]").rstrip(".")
    with suppress(ValueError):
        return plain(ip_address(host))
    if re.fullmatch(r"[0-9][0-9a-fA-FxX.]*", host):
        with suppress(OSError):
            return IPv4Address(socket.inet_aton(host))
    return None


@frozen
class HostRules:
    """Rules for the hosts that a client's URL may name.

    :ivar names: host names in lower case; ``*.example.org`` stands for all names below example.org, ``*`` for all
    :ivar networks: networks whose addresses may be connected to under any name
    """

    names: tuple[str, ...]
    networks: tuple[Network, ...]

    @classmethod
    def of(cls, rules: Iterable[str]) -> Self:
        """Read rules.

        :raises ValueError: one of them is neither a name, nor a wildcard, nor a network
        """
        names: list[str] = []
        networks: list[Network] = []
        for rule in rules:
            network = _network(rule)
            if network is not None:
                networks.append(network)
            elif re.fullmatch(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*\.?", rule):
                names.append(_ascii(rule.rstrip(".")))
            else:
                raise ValueError('must have only host names, wildcards such as "*.example.org", and networks')
        return cls(tuple(names), tuple(networks))

    def allows_name(self, host: str) -> bool:
        """Whether ``host``, a name in ASCII or an address, may be connected to at any address."""
        host = host.lower().rstrip(".")
        if "*" in self.names:
            return True
        if as_address(host) is not None:
            return False
        return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in self.names)

    def allows_address(self, address: Address) -> bool:
        """Whether ``address`` may be connected to under any name."""
        address = plain(address)
        return any(address in network for network in self.networks)

    def refuses(self, host: str) -> str | None:
        """Return why ``host`` is refused before it is looked up, as the end of a sentence; None when it isn't."""
        address = as_address(host)
        if address is not None:
            if is_forbidden(address):
                return "its address is one that is never connected to"
            if not (self.allows_name(host) or self.allows_address(address)):
                return "its address is not among those that are allowed here"
        elif not (self.allows_name(host) or self.networks):
            return "its host is not among those that are allowed here"
        return None

    def permits(self, host: str, address: Address) -> bool:
        """Whether a connection for ``host`` may be made to ``address``, which ``host`` was resolved to."""
        return not is_forbidden(address) and (self.allows_name(host) or self.allows_address(address))


MAX_NAME = 253
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_LOCAL_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")

ALL_HOSTS = HostRules(("*",), ())


def _ascii(rule: str) -> str:
    """Return a name or wildcard as it goes over the wire; UnicodeError, which is a ValueError, where there is none."""
    if rule == "*":
        return rule
    wildcard = "*." if rule.startswith("*.") else ""
    return wildcard + ascii_name(rule.removeprefix(wildcard))


def ascii_name(name: str) -> str:
    """Return a host name, or an IPv4 address, as it goes over the wire: in lower case and in ASCII, by IDNA.

    :raises UnicodeError: there is no such name
    """
    if is_local_name(name):
        return name.lower()
    return idna.encode(name, uts46=True).decode("ascii").lower()


def is_local_name(name: str) -> bool:
    """Whether this is a name in ASCII with underscores, as services of Docker Compose have.

    IDNA has no such names, since no registry gives them; a resolver takes them all the same.
    """
    return "_" in name and len(name) <= MAX_NAME and _LOCAL_NAME.fullmatch(name) is not None


def _network(text: str) -> Network | None:
    """Read a network; one of IPv4 that is written as one of IPv6 becomes that of IPv4, as addresses do by ``plain``."""
    try:
        network = ip_network(text.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        return None
    for embedding, start in _EMBEDDING:
        if start == 96 and isinstance(network, IPv6Network) and network.subnet_of(embedding):
            first = plain(network.network_address)
            if isinstance(first, IPv4Address) and network.prefixlen >= start:
                return IPv4Network((first, network.prefixlen - start))
    return network
