"""Proxies of outgoing HTTP: which one a URL's connection is made through, and which hosts are connected to directly."""

from __future__ import annotations

import re
from base64 import b64encode
from ipaddress import ip_network
from typing import Any, Self
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from junebug_turn.config.types import ValueType, split_url, text
from junebug_turn.net.addresses import Network, as_address


class ProxyFault(Exception):
    """A connection could not be made through a proxy; the text names the proxy, without credentials."""


@frozen
class Proxy:
    """An HTTP proxy.

    :ivar authorization: the value of ``Proxy-Authorization``; None without a user
    """

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name in the log, without credentials."""
        return f"the proxy {f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the proxy at ``http://user:password@host:port``; user and password are percent-decoded.

        :raises ValueError: it is no such URL; the text begins with "must"
        """
        parts = split_url(url if "://" in url else f"http://{url}", "http")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must have nothing after host and port")
        authorization = None
        if parts.username is not None:
            login = (unquote_to_bytes(part or "") for part in (parts.username, parts.password))
            authorization = b"Basic " + b64encode(b":".join(login))
        return cls(parts.hostname or "", parts.port or 80, authorization)

    def fault(self, status: int) -> ProxyFault:
        """Put the answer by which it refuses a request into words."""
        words = f"{self.name} answered HTTP status {status}"
        if status in (401, 407):
            words += ": it wants a user and a password in the URL of the option, or others"
        elif status in (403, 405):
            words += ": it does not allow this destination"
        elif status >= 500:
            words += ": it can't reach the destination"
        return ProxyFault(words)


@frozen
class DirectHosts:
    """Hosts that are connected to without a proxy.

    :ivar names: in lower case, each also for all names below it; ``*`` for every host
    :ivar networks: for URLs with an address in place of a name
    """

    names: tuple[tuple[str, int | None], ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, text: str) -> Self:
        """Read a list with commas: networks, addresses and names, these with or without ``.`` or ``*.`` before them
        and a port after them.
        """
        names: list[tuple[str, int | None]] = []
        networks: list[Network] = []
        for entry in text.split(",") if text else ():
            try:
                networks.append(ip_network(entry.removeprefix("[").removesuffix("]"), strict=False))
            except ValueError:
                host, _, port = entry.lower().partition(":")
                host = host if host == "*" else host.removeprefix("*").strip(".")
                names.append((host, int(port) if re.fullmatch("[0-9]{1,5}", port, re.ASCII) else None))
        return cls(tuple(names), tuple(networks))

    def has(self, host: str, port: int) -> bool:
        """Whether the connection to ``host``, a name in ASCII or an address, is made directly."""
        host = host.lower().rstrip(".")
        address = as_address(host)
        if address is not None and any(address in network for network in self.networks):
            return True
        return any(
            name == "*" or (only in (None, port) and (host == name or host.endswith(f".{name}")))
            for name, only in self.names
        )


@frozen
class Proxies:
    """The proxies of a configuration.

    :ivar http: for http URLs
    :ivar https: for https URLs
    """

    http: Proxy | None = None
    https: Proxy | None = None
    direct: DirectHosts = DirectHosts()

    @classmethod
    def of(cls, http: str | None, https: str | None, direct: str) -> Self:
        """Make them of the URLs of their options; without one for https that for http is for both."""
        https = https or http
        return cls(
            Proxy.of(http) if http else None, Proxy.of(https) if https else None, DirectHosts.of(direct)
        )

    def proxy(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy for a connection; None: it is made directly."""
        found = self.https if scheme == "https" else self.http
        return None if found is None or self.direct.has(host, port) else found


DIRECT = Proxies()
"""No proxies."""


def _proxy_url(value: Any) -> str:
    Proxy.of(text(value))
    return str(value) if "://" in value else f"http://{value}"


def _direct_hosts(value: Any) -> str:
    entries = value if isinstance(value, list) else re.split(r"[\s,]+", text(value))
    return ",".join(text(entry) for entry in entries if entry)


THIS_MACHINE = "localhost,127.0.0.0/8,::1"
PROXY_URL = ValueType("URL", _proxy_url, is_url=True)
DIRECT_HOSTS = ValueType("list of hosts", _direct_hosts)
