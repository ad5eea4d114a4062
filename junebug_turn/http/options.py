"""The options of the HTTP servers' limits, which bound the cost of any client."""

from __future__ import annotations

from attrs import frozen

from junebug_turn.config import types
from junebug_turn.config.option import option
from junebug_turn.messages.strictjson import DEEPEST


@frozen(kw_only=True)
class LimitOptions:
    """Limits of all HTTP servers of the daemon together, for all clients."""

    max_body_size: int = option(
        types.whole(1, 2**30),
        "The largest body of a request, in bytes; a larger one is refused while it arrives.",
        256 * 1024,
    )
    header_timeout: float = option(
        types.seconds(3600), "How long a client may take to send a request's headers, all of them.", 20.0
    )
    body_timeout: float = option(
        types.seconds(3600), "How long a client may take to send a request's body, all of it.", 60.0
    )
    idle_timeout: float = option(
        types.seconds(3600), "How long a connection is kept open after an answer for the next request.", 60.0
    )
    max_connections: int = option(
        types.whole(1, 10**6),
        "How many connections there can be at once, over all addresses; fewer where the system allows too few open "
        "files.",
        1000,
    )
    max_connections_per_client: int = option(
        types.whole(1, 10**6),
        "How many of these can come from one address (for IPv6, from one /64); a proxy counts as one client.",
        500,
    )
    max_headers: int = option(types.whole(1, 10000), "How many headers a request can have.", 100)
    max_header_size: int = option(
        types.whole(256, 2**20), "The size of a request's first line and headers together, in bytes.", 16384
    )
    max_json_depth: int = option(
        types.whole(1, DEEPEST), "How deep arrays and objects can nest in a request's JSON.", 64
    )
