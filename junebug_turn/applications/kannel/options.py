"""Options of Kannel's HTTP interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import frozen

from junebug_turn.applications.base import ApplicationOptions, events_option
from junebug_turn.config import types
from junebug_turn.config.option import mapping_option, option
from junebug_turn.config.types import optional
from junebug_turn.net.addresses import HostRules
from junebug_turn.net.options import HOST_RULES


@frozen(kw_only=True)
class KannelOptions(ApplicationOptions):
    """One channel for a client of Kannel."""

    path_option: ClassVar[str] = "base_url_path"
    url_options: ClassVar[tuple[str, ...]] = ("receive_url",)
    store_option: ClassVar[str] = "message_cache"

    receive_url: str = option(
        types.URL,
        "The URL for inbound messages. A user and password in it are sent as Basic authentication.",
        secret=True,
    )
    receive_method: str = option(
        types.choice("post", "get"),
        "How inbound messages are sent: post (a form with id, ts, message, sender and to), or get "
        "(with Kannel's escapes in the URL).",
        "post",
    )
    base_url_path: str = option(
        types.PATH,
        "The path before /cgi-bin/sendsms and /send.",
        "",
    )
    default_from_addr: str | None = option(
        optional(types.FILLED), "The from address of messages that have none.", None
    )
    event_url_allowed_hosts: HostRules | None = option(
        optional(HOST_RULES),
        "The hosts that a dlr-url may name: host names, wildcards such as *.example.org, and "
        "networks. Without it all hosts but link-local and cloud metadata addresses.",
        None,
    )
    message_cache_class: str = option(
        types.FILLED, "The cache for dlr-urls: memory, redis, sqlite, or a class path.", "MemoryMessageCache"
    )
    message_cache_config: Mapping[str, Any] = mapping_option("The options of the cache for dlr-urls.")
    forward_events: tuple[str, ...] | None = events_option(
        "delivered", "failed", "buffered", "accepted", "rejected"
    )

    @property
    def header_credentials(self) -> None:
        """None: requests can have their credentials as parameters, which the API checks."""
        return None
