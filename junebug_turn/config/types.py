"""The kinds of value that an option can have: what is accepted, and how a fault is told.

A kind's ``read`` gets a value as YAML or a text gave it and returns it as the daemon uses it.  It raises
ValueError with a text that begins with "must"; the text never holds the value, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import AddressValueError, IPv6Address
from math import isfinite
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import frozen
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

from junebug_turn.delivery.signature import signing_key

DAY = 86400


@frozen
class Kind:
    """What an option's value may be.

    :ivar name: for the documentation and ``--help``
    :ivar read: the value from what was given; ValueError where it isn't of this kind
    :ivar from_yaml: whether an environment variable's or a flag's text is YAML; otherwise it is the value
    """

    name: str
    read: Callable[[Any], Any]
    from_yaml: bool = False


def _text(value: Any) -> str:
    if not isinstance(value, str):
        # Making a text of a number would be a guess: YAML has already taken leading zeros and the like away.
        raise ValueError("must be text" if isinstance(value, dict | list) else "must be text, in quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text in UTF-8") from None
    # Such a character would end a header, a log line or an error line early.
    if not value.isprintable():
        raise ValueError("must not have line ends or control characters")
    return value


def _filled(value: Any) -> str:
    text = _text(value)
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _host(value: Any) -> str:
    host = _filled(value)
    try:
        if not re.fullmatch(r"[\w.-]+", host):
            IPv6Address(host)
    except AddressValueError:
        raise ValueError("must be a host name or an address, without port or brackets") from None
    return host


def _queue_name(value: Any) -> str:
    name = _filled(value)
    # AMQP has 255 bytes for a queue's name, and ours append words such as ".inbound.parked".
    if len(name.encode()) > 200:
        raise ValueError("must be at most 200 bytes long")
    if name.startswith("amq."):
        raise ValueError('must not begin with "amq.", which the broker keeps for itself')
    return name


def _vhost(value: Any) -> str:
    vhost = _filled(value)
    if len(vhost.encode()) > 255:
        raise ValueError("must be at most 255 bytes long")
    return vhost


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a mapping with texts as keys")
    return dict(value)


def _mappings(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("must be a list of mappings, one for each application")
    return value


def _log_level(value: Any) -> str:
    level = value.upper() if isinstance(value, str) else ""
    if level not in {"DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL"}:
        raise ValueError("must be one of DEBUG, INFO, WARN, ERROR, CRITICAL")
    return "WARN" if level == "WARNING" else level


def split_url(value: Any, *schemes: str) -> SplitResult:
    """The parts of a URL that has one of ``schemes`` and a host.

    :raises ValueError: it isn't one
    """
    url = _filled(value)
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in schemes or " " in url:
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"must be a URL that begins with {wanted} and has a host")
    return parts


def _url(value: Any) -> str:
    split_url(value, "http", "https")
    return str(value)


def _webhook_secret(value: Any) -> str:
    secret = _filled(value)
    signing_key(secret)
    return secret


def _base_url(value: Any) -> str:
    if value == "":
        return ""
    parts = split_url(value, "http", "https")
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment, since paths are appended to it")
    return str(value).rstrip("/#?")


def _path(value: Any) -> str:
    """A URL path with a leading slash and without a trailing one; the root is the empty text."""
    path = _text(value).strip("/")
    if re.search(r"[\s?#]", path) or "//" in path or {".", ".."} & set(path.split("/")):
        raise ValueError("must be a URL path: no white space, ?, #, // or dots alone")
    return f"/{path}" if path else ""


def _amqp_url(value: Any) -> dict[str, Any]:
    """The options of ``amqp`` that a URL means, all of them; see https://www.rabbitmq.com/docs/uri-spec."""
    parts = split_url(value, "amqp", "amqps")
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment; # and ? in a password are %23 and %3F")
    tls = parts.scheme == "amqps"
    named = (parts.username or "guest", "guest" if parts.password is None else parts.password)
    try:
        username, password, vhost = (
            _text(unquote(part, errors="strict")) for part in (*named, parts.path.removeprefix("/") or "/")
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


_HOST_AND_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[A-Za-z0-9:.%]+\]):(?P<port>[0-9]+)", re.ASCII)


def _endpoint_types() -> set[str]:
    return {"tcp", "unix", "ssl"} | {p.prefix for p in getPlugins(IStreamServerEndpointStringParser)}


def endpoint_description(http_bind: str) -> str:
    """``http_bind`` as the Twisted server endpoint description that it means.

    It is ``host:port``, ``[v6]:port``, ``unix:/path`` or already a description.  Port 0 is any free port.  A
    socket file without a mode is for the daemon's user and group, where Twisted would let in everybody.

    :raises ValueError: it is none of these
    """
    match = _HOST_AND_PORT.fullmatch(http_bind)
    kind, _, arguments = http_bind.partition(":")
    if match and kind not in _endpoint_types():
        host, port = match["host"], int(match["port"])
        if port > 65535:
            raise ValueError("must have a port from 1 to 65535")
        if not host.startswith("["):
            return f"tcp:{port}:interface={host}"
        try:
            IPv6Address(host[1:-1])
        except AddressValueError:
            raise ValueError("must have an IPv6 address between the brackets") from None
        interface = host[1:-1].replace(":", r"\:")
        return f"tcp6:{port}:interface={interface}"
    if not arguments or kind not in _endpoint_types():
        raise ValueError("must be host:port, [v6]:port, unix:/path or a Twisted server endpoint description")
    if kind == "unix" and ":mode=" not in http_bind:
        return f"{http_bind}:mode=660"
    return http_bind


def _bind(value: Any) -> str:
    text = _filled(value)
    endpoint_description(text)
    return text


def whole(low: int, high: int) -> Kind:
    """A whole number from ``low`` to ``high``."""

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return Kind(f"whole number, {low} to {high}", read, from_yaml=True)


def seconds(high: float, *, zero: bool = False) -> Kind:
    """A number of seconds up to ``high``; 0 only where it has a meaning."""
    low = "from 0" if zero else "above 0"

    def read(value: Any) -> float:
        wrong = f"must be a number of seconds {low} and at most {high:.15g}"
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= high:
            raise ValueError(wrong)
        if not isfinite(value) or (value == 0 and not zero):
            raise ValueError(wrong)
        return float(value)

    return Kind(f"seconds, {low} to {high:.15g}", read, from_yaml=True)


def choice(*words: str) -> Kind:
    """One of ``words``, as they are written."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return Kind("one of " + ", ".join(words), read)


def chosen(names: Iterable[tuple[str, str]], shown: tuple[str, ...]) -> Kind:
    """One of several things, each with several ``names`` (name, thing); messages only tell those ``shown``."""
    things = dict(names)

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in things:
            raise ValueError(f"must be one of {', '.join(shown)}, or the class path of one of these")
        return things[value]

    return Kind(f"{' or '.join(shown)}, or a class path", read)


def optional(kind: Kind) -> Kind:
    """``kind``, or None for null and for an empty text, which is how a variable is switched off."""

    def read(value: Any) -> Any:
        return None if value is None or value == "" else kind.read(value)

    return Kind(kind.name, read, kind.from_yaml)


TEXT = Kind("text", _text)
FILLED = Kind("text", _filled)
HOST = Kind("host", _host)
QUEUE_NAME = Kind("text", _queue_name)
VHOST = Kind("text", _vhost)
BOOLEAN = Kind("true or false", _boolean, from_yaml=True)
MAPPING = Kind("mapping", _mapping, from_yaml=True)
GROUP = Kind("group", _mapping, from_yaml=True)
MAPPINGS = Kind("list of mappings", _mappings, from_yaml=True)
LOG_LEVEL = Kind("DEBUG, INFO, WARN, ERROR or CRITICAL", _log_level)
URL = Kind("URL", _url)
AMQP_URL = Kind("URL", _amqp_url)
BASE_URL = Kind("URL", _base_url)
WEBHOOK_SECRET = Kind("text", _webhook_secret)
PATH = Kind("URL path", _path)
BIND = Kind("address", _bind)
