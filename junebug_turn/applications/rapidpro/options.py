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
        "The URL of the channel at RapidPro, https://HOST/c/ex/UUID. /receive, /sent, /delivered "
        "and /failed are appended.",
        secret=True,
    )
    base_url_path: str = option(types.PATH, "The path before /send, where RapidPro sends its messages.", "")
    default_from_addr: str | None = option(
        optional(types.FILLED),
        "The from address of outbound messages that are not replies and have none.",
        None,
    )
    session_start_text: str | None = option(
        optional(types.FILLED),
        "The text that RapidPro gets when a session starts without one. By default the number "
        "that was dialled.",
        None,
    )
    late_replies: str = option(
        types.choice("send", "refuse"),
        "How to handle a message to a phone whose session has ended: send it as a new message, or "
        "refuse it with 400.",
        "send",
    )
    strip_plus: bool = option(
        types.BOOLEAN,
        "Whether to remove the plus at the start of a number in messages that are not replies.",
        False,
    )
    message_cache_class: str = option(
        types.FILLED,
        "The cache for messages, RapidPro's ids, menus and sessions: memory, redis, sqlite, or a class path.",
        "MemoryMessageCache",
    )
    message_cache_config: Mapping[str, Any] = mapping_option("The options of that cache.")
    forward_events: tuple[str, ...] | None = events_option("sent", "delivered", "failed")
