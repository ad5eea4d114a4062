"""Options of the Turn Channels API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from attrs import frozen

from junebug_turn.applications.base import ApplicationOptions, events_option
from junebug_turn.config import types
from junebug_turn.config.option import mapping_option, option
from junebug_turn.config.types import DAY, optional


@frozen(kw_only=True)
class TurnOptions(ApplicationOptions):
    """One Turn Channels API."""

    path_option: ClassVar[str] = "vumi_api_path"
    url_options: ClassVar[tuple[str, ...]] = ("turn_api_url",)
    store_option: ClassVar[str] = "message_cache"
    remember_last: ClassVar[bool] = True

    default_from_addr: str = option(
        types.FILLED, "The from address of outbound messages that aren't replies and give none."
    )
    auth_token: str | tuple[str, ...] | None = option(
        types.nullable(types.secrets(types.FILLED)),
        "The token for requests to Turn, the first one of several; null: they have none.",
        secret=True,
    )
    turn_hmac_secret: str | tuple[str, ...] = option(
        types.secrets(types.FILLED),
        "The key that Turn signs its requests with, any of several; it can't be empty.",
        secret=True,
    )
    vumi_api_path: str = option(
        types.PATH, "The path that outbound messages are POSTed under, as {vumi_api_path}/messages.", ""
    )
    turn_api_url: str = option(
        types.BASE_URL,
        "The URL of Turn that /messages and /statuses are appended to; while it is empty nothing can be "
        "delivered to Turn.",
        "",
        secret=True,
    )
    message_cache_class: str = option(
        types.FILLED, "The class of the cache for messages.", "MemoryMessageCache"
    )
    message_cache_config: Mapping[str, Any] = mapping_option("The options of the message cache.")
    status_format: str = option(
        types.choice("flat", "nested"),
        "The form of events: flat, as documented for vumi2, or nested, as Turn's API takes today.",
        "flat",
    )
    forward_events: tuple[str, ...] | None = events_option("sent", "delivered", "failed")
    forward_unknown_events: bool = option(
        types.BOOLEAN,
        "Whether events whose messages are not known, or no longer, are forwarded in the flat form.",
        False,
    )
    render_interactive: bool = option(
        types.BOOLEAN,
        "Whether buttons and lists become a numbered text, and the number that comes back the choice.",
        True,
    )
    render_media: bool = option(
        types.BOOLEAN,
        "Whether images, documents, locations and the like become a text with their link.",
        True,
    )
    webhook_answer_timeout: float = option(
        types.seconds(DAY),
        "The longest time until a webhook is answered, if request_timeout is not shorter; Turn gives up after 5 s.",
        4.0,
    )
    contact_name: str = option(
        types.FILLED,
        "The contact's name for Turn: address, none, or the key of helper_metadata that has it.",
        "address",
    )
    media_url_key: str | None = option(
        optional(types.FILLED),
        "The key of an inbound message's helper_metadata or transport_metadata with the URL of its media; the URL is "
        "added to the text.",
        None,
    )
    duplicate_window: float = option(
        types.seconds(DAY, zero=True),
        "How long a webhook that comes again, unanswered, is known as the same one; 0 switches this off.",
        60.0,
    )

    @property
    def cautions(self) -> tuple[str, ...]:
        """Warnings at the start."""
        host = urlsplit(self.turn_api_url).hostname or ""
        if self.status_format == "flat" and (host == "turn.io" or host.endswith(".turn.io")):
            return (
                "status_format is flat, and Turn takes nested today: its statuses may be refused (docs/turn.md)",
            )
        return ()

    @property
    def open_to_all(self) -> bool:
        """Nobody may use it without Turn's signature."""
        return False
