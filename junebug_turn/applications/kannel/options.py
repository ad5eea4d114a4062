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
        "The URL that inbound messages go to; user and password in it are used for Basic authentication.",
        secret=True,
    )
    receive_method: str = option(
        types.choice("post", "get"),
        "How they go there: post as a form of id, ts, message, sender and to, or get with Kannel's escapes in the "
        "URL.",
        "post",
    )
    base_url_path: str = option(
        types.PATH,
        "The path that messages are sent to, as {base_url_path}/cgi-bin/sendsms or {base_url_path}/send.",
        "",
    )
    default_from_addr: str | None = option(
        optional(types.FILLED), "The from address of messages that give none.", None
    )
    event_url_allowed_hosts: HostRules | None = option(
        optional(HOST_RULES),
        "Where the dlr-url of a request may lead: host names, wildcards such as *.example.org, and networks; "
        "without it anywhere but to addresses of links and clouds.",
        None,
    )
    message_cache_class: str = option(
        types.FILLED, "The class of the cache for dlr-urls.", "MemoryMessageCache"
    )
    message_cache_config: Mapping[str, Any] = mapping_option("The options of the cache for dlr-urls.")
    forward_events: tuple[str, ...] | None = events_option(
        "delivered", "failed", "buffered", "accepted", "rejected"
    )

    @property
    def header_credentials(self) -> None:
        """None: requests can have their credentials as parameters, which the API checks."""
        return None
