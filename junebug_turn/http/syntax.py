"""Syntax of a request's first line and of its Host header (RFC 9112 section 3), as far as Twisted doesn't check it.

What Twisted takes beyond it (``GET metrics``, no Host, two Hosts) is read in another way by proxies, whose rules for
paths and hosts it would pass by.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_HEADER_NAME = 256
"""Bytes of a header's name.  Twisted keeps the names of 10,000 headers that clients sent, for ever."""

# The path of a server, or a whole URL as proxies get it, or "*" for OPTIONS.
_TARGET = rb"(?:/|(?i:https?)://[^/?# ]+(?:[/?]|(?= ))|(?<=OPTIONS )\*(?= ))[!\"$-~]*"
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ " + _TARGET + rb" HTTP/1\.[01]")
# An address in brackets or a name, and a port; it may be empty.
_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


def is_request_line(line: bytes) -> bool:
    """Return whether ``line`` is the first line of a request of HTTP/1.0 or HTTP/1.1."""
    return _REQUEST_LINE.fullmatch(line) is not None


def has_long_name(line: bytes) -> bool:
    """Return whether a line of the headers begins with a name of more than ``MAX_HEADER_NAME`` bytes."""
    return b":" not in line[: MAX_HEADER_NAME + 1] and line[:1] not in (b" ", b"\t")


def is_host(values: Sequence[bytes], *, required: bool) -> bool:
    """Return whether the Host headers of a request are right: just one, which only HTTP/1.0 may leave out."""
    if not values:
        return not required
    return len(values) == 1 and _HOST.fullmatch(values[0]) is not None
