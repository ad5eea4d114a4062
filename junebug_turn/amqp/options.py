"""Options of the connection to the broker, and the value types of AMQP names."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from attrs import frozen

from junebug_turn.config import types
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


def _amqp_url(value: Any) -> dict[str, Any]:
    """The values of ``AmqpOptions`` that a URL means; see https://www.rabbitmq.com/docs/uri-spec."""
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
    return {
        "hostname": parts.hostname,
        "port": parts.port or (5671 if tls else 5672),
        "username": username,
        "password": password,
        "vhost": _vhost(vhost),
        "tls": tls,
    }


QUEUE_NAME = ValueType("text", _queue_name)
VHOST = ValueType("text", _vhost)
AMQP_URL = ValueType("URL", _amqp_url)


@frozen(kw_only=True)
class AmqpOptions:
    """The broker's address, and the login there."""

    hostname: str = option(types.HOST, "The broker's host name or address.", "127.0.0.1")
    port: int = option(types.whole(1, 65535), "The broker's port; 5671 is usual with TLS.", 5672)
    username: str = option(types.FILLED, "The user name at the broker.", "guest")
    password: str = option(types.TEXT, "The password at the broker.", "guest", secret=True)
    vhost: str = option(VHOST, "The virtual host at the broker.", "/")
    max_message_size: int = option(
        types.whole(1024, 2**31 - 1),
        "The largest message that is read, in bytes; a larger one is parked as it is.",
        MAX_MESSAGE_SIZE,
    )
    tls: bool = option(types.BOOLEAN, "Whether to speak TLS with the broker and verify it.", False)
    ca_file: str | None = option(
        optional(types.FILLED),
        "The file with the authorities that may sign the broker's certificate; else those of the platform.",
        None,
    )
    client_cert_file: str | None = option(
        optional(types.FILLED), "The file with the certificate that the broker is shown.", None
    )
    client_key_file: str | None = option(
        optional(types.FILLED), "The file with its key, unless it stands in client_cert_file.", None
    )
