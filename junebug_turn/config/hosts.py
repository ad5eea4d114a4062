"""Hosts with ports, one or several, in options and in the place of a URL's host.

Tested by tests/unit/amqp/test_options.py and tests/unit/state/redis/test_address.py.
"""

from __future__ import annotations

import re

from junebug_turn.config import types


def host_and_port(text: str) -> tuple[str, int | None]:
    """Return the parts of ``host`` or ``host:port``; an IPv6 address with a port stands in brackets.

    :raises ValueError: it is neither
    """
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", text, re.ASCII)
    if match is None:
        return types.HOST.read(text), None
    host = types.HOST.read(match[1].removeprefix("[").removesuffix("]"))
    return host, None if match[2] is None else types.whole(1, 65535).read(int(match[2]))


def shown(host: str, port: int | None) -> str:
    """Return the text of a host and, where there is one, its port."""
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def first_host(url: str) -> tuple[str, str | None]:
    """Return a URL with the first of its hosts alone, and the text of the others; None where there are none."""
    scheme, _, rest = url.partition("://")
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    login, at, hosts = rest[:end].rpartition("@")
    first, comma, more = hosts.partition(",")
    return (f"{scheme}://{login}{at}{first}{rest[end:]}", more) if comma else (url, None)
