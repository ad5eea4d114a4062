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
        "The largest request body, in bytes. A larger one is refused with 413.",
        256 * 1024,
    )
    header_timeout: float = option(
        types.seconds(3600), "The time within which a client must send all headers of a request.", 20.0
    )
    body_timeout: float = option(
        types.seconds(3600), "The time within which a client must send the whole body of a request.", 60.0
    )
    idle_timeout: float = option(
        types.seconds(3600), "How long an idle connection stays open for the next request.", 60.0
    )
    max_connections: int = option(
        types.whole(1, 10**6),
        "The most connections at once, over all clients. Lower if the system's limit of open "
        "files is too small.",
        1000,
    )
    max_connections_per_client: int = option(
        types.whole(1, 10**6),
        "The most connections at once from one address (IPv6: from one /64). A proxy counts as one client.",
        500,
    )
    max_headers: int = option(types.whole(1, 10000), "The most headers of a request.", 100)
    max_header_size: int = option(
        types.whole(256, 2**20),
        "The largest size of the request line and all headers together, in bytes.",
        16384,
    )
    max_json_depth: int = option(
        types.whole(1, DEEPEST), "How deep arrays and objects in JSON may be nested.", 64
    )
