"""Options of an External channel of RapidPro."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import frozen

from junebug_turn.applications.base import ApplicationOptions, events_option
from junebug_turn.config import types
from junebug_turn.config.option import mapping_option, option
from junebug_turn.config.types import optional


@frozen(kw_only=True)
class RapidProOptions(ApplicationOptions):
    """One External channel of RapidPro."""

    path_option: ClassVar[str] = "base_url_path"
    url_options: ClassVar[tuple[str, ...]] = ("rapidpro_url",)
    store_option: ClassVar[str] = "message_cache"
    remember_last: ClassVar[bool] = True

    rapidpro_url: str = option(
        types.BASE_URL,
        "The address of the channel at RapidPro, https://HOST/c/ex/UUID, that /receive, /sent, /delivered and "
        "/failed are appended to.",
        secret=True,
    )
    base_url_path: str = option(
        types.PATH, "The path that RapidPro sends its messages to, as {base_url_path}/send.", ""
    )
    default_from_addr: str | None = option(
        optional(types.FILLED),
        "The from address of outbound messages that aren't replies and give none.",
        None,
    )
    session_start_text: str | None = option(
        optional(types.FILLED),
        "The text of a session's start that has none of its own; without this option the address that was dialled.",
        None,
    )
    late_replies: str = option(
        types.choice("send", "refuse"),
        "What becomes of a message to a phone whose session has ended: send makes it a new message, refuse "
        "answers 400.",
        "send",
    )
    strip_plus: bool = option(
        types.BOOLEAN,
        "Whether the plus at the beginning of a number is taken away in messages that aren't replies.",
        False,
    )
    message_cache_class: str = option(
        types.FILLED,
        "The class of the cache for messages, RapidPro's ids, menus and sessions.",
        "MemoryMessageCache",
    )
    message_cache_config: Mapping[str, Any] = mapping_option("The options of that cache.")
    forward_events: tuple[str, ...] | None = events_option("sent", "delivered", "failed")
