"""Options of the connection to the broker, and the value types of AMQP names."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from attrs import evolve, frozen

from junebug_turn.config import hosts, types
from junebug_turn.config.option import option
from junebug_turn.config.types import ValueType, optional

MAX_MESSAGE_SIZE = 16 * 1024 * 1024
"""Bytes of the largest message that is read, by default: the largest that RabbitMQ 4 takes by its own default."""


def _queue_name(value: Any) -> str:
    name = types.filled(value)
    # AMQP has 255 bytes for a queue's name, and ours append words such as ".inbound.parked".
    if len(name.encode()) > 200:
        raise ValueError("must be at most 200 bytes long")
    if name.startswith("amq."):
        raise ValueError('must not begin with "amq.", which the broker keeps for itself')
    return name


def _vhost(value: Any) -> str:
    vhost = types.filled(value)
    if len(vhost.encode()) > 255:
        raise ValueError("must be at most 255 bytes long")
    return vhost


MAX_HOSTS = 20


def _hosts(value: Any) -> str:
    """One host, or several with commas between them; each with its port where it has one."""
    texts = value if isinstance(value, list) else types.filled(value).split(",")
    try:
        found = [hosts.host_and_port(types.filled(text).strip()) for text in texts]
    except ValueError:
        found = []
    if not 1 <= len(found) <= MAX_HOSTS:
        raise ValueError("must be a host name or an address, host:port, or a list of these")
    return ",".join(hosts.shown(*each) for each in found)


def _amqp_url(value: Any) -> dict[str, Any]:
    """The values of ``AmqpOptions`` that a URL means; see https://www.rabbitmq.com/docs/uri-spec.

    Several hosts may stand in the place of one, with commas between them.
    """
    value, more = hosts.first_host(value) if isinstance(value, str) else (value, None)
    parts = types.split_url(value, "amqp", "amqps")
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment; # and ? in a password are %23 and %3F")
    tls = parts.scheme == "amqps"
    named = (parts.username or "guest", "guest" if parts.password is None else parts.password)
    try:
        username, password, vhost = (
            types.text(unquote(part, errors="strict"))
            for part in (*named, parts.path.removeprefix("/") or "/")
        )
    except ValueError:
        raise ValueError("must have percent-encoded UTF-8 as user, password and virtual host") from None
    hostname, port = parts.hostname or "", parts.port
    if more is not None:
        hostname, port = _hosts(f"{hosts.shown(hostname, port)},{more}"), None
    return {
        "hostname": hostname,
        "port": port or (5671 if tls else 5672),
        "username": username,
        "password": password,
        "vhost": _vhost(vhost),
        "tls": tls,
    }


QUEUE_NAME = ValueType("text", _queue_name)
VHOST = ValueType("text", _vhost)
HOSTS = ValueType("host, or list of host:port", _hosts)
AMQP_URL = ValueType("URL", _amqp_url)


@frozen(kw_only=True)
class AmqpOptions:
    """The broker's address, and the login there.

    :ivar hostname: one host, or several nodes of a cluster as ``nodes`` has them apart
    """

    hostname: str = option(
        HOSTS,
        "The broker's host name or address. For a cluster, a list of host or host:port; "
        "the daemon uses one that answers.",
        "127.0.0.1",
    )
    port: int = option(
        types.whole(1, 65535),
        "The broker's port, for hosts without one of their own. The usual port with TLS is 5671.",
        5672,
    )
    username: str = option(types.FILLED, "The user name for the broker.", "guest")
    password: str = option(types.TEXT, "The password for the broker.", "guest", secret=True)
    vhost: str = option(VHOST, "The virtual host of the broker.", "/")
    max_message_size: int = option(
        types.whole(1024, 2**31 - 1),
        "The largest message that is read, in bytes. A larger one is parked unread.",
        MAX_MESSAGE_SIZE,
    )
    tls: bool = option(
        types.BOOLEAN, "Whether to connect to the broker with TLS and verify its certificate.", False
    )
    ca_file: str | None = option(
        optional(types.FILLED),
        "A PEM file with the certificate authorities for the broker's certificate. By default "
        "those of the operating system.",
        None,
    )
    client_cert_file: str | None = option(
        optional(types.FILLED), "A PEM file with the client certificate for the broker.", None
    )
    client_key_file: str | None = option(
        optional(types.FILLED),
        "A PEM file with the private key of the client certificate. Not needed if "
        "client_cert_file contains the key.",
        None,
    )

    @property
    def nodes(self) -> tuple[AmqpOptions, ...]:
        """The options for each of the hosts alone."""
        found = (hosts.host_and_port(text) for text in self.hostname.split(","))
        return tuple(evolve(self, hostname=host, port=port or self.port) for host, port in found)

    @property
    def address(self) -> str:
        """Host and port, for the log; without credentials."""
        return ", ".join(hosts.shown(node.hostname, node.port) for node in self.nodes)
