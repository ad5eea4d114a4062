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
        types.FILLED, "The from address of outbound messages that are not replies and have none."
    )
    auth_token: str | tuple[str, ...] | None = option(
        types.nullable(types.secrets(types.FILLED)),
        "The token for requests to Turn, sent as Authorization: Bearer. Of a list the first is "
        "used. With null no token is sent.",
        secret=True,
    )
    turn_hmac_secret: str | tuple[str, ...] = option(
        types.secrets(types.FILLED),
        "The secret with which Turn signs its webhooks. With a list, any of them is accepted. It "
        "must not be empty.",
        secret=True,
    )
    vumi_api_path: str = option(types.PATH, "The path before /messages, where Turn sends its webhooks.", "")
    turn_api_url: str = option(
        types.BASE_URL,
        "The URL of the channel's API at Turn; /messages and /statuses are appended. While it is "
        "empty nothing is delivered to Turn.",
        "",
        secret=True,
    )
    message_cache_class: str = option(
        types.FILLED, "The cache for messages: memory, redis, sqlite, or a class path.", "MemoryMessageCache"
    )
    message_cache_config: Mapping[str, Any] = mapping_option("The options of the message cache.")
    status_format: str = option(
        types.choice("flat", "nested"),
        "The format of statuses: nested, which Turn accepts today, or flat, which vumi2 documents.",
        "flat",
    )
    forward_events: tuple[str, ...] | None = events_option("sent", "delivered", "failed")
    forward_unknown_events: bool = option(
        types.BOOLEAN,
        "Whether events of unknown or expired messages are forwarded, in the flat format.",
        False,
    )
    render_interactive: bool = option(
        types.BOOLEAN,
        "Whether buttons and lists are shown as a numbered text, and the number that comes back "
        "is sent to Turn as the choice.",
        True,
    )
    render_media: bool = option(
        types.BOOLEAN,
        "Whether images, documents, locations and similar messages are sent as a text with a link.",
        True,
    )
    webhook_answer_timeout: float = option(
        types.seconds(DAY),
        "The time limit for the answer to a webhook, if request_timeout is not shorter. Turn "
        "gives up after 5 s.",
        4.0,
    )
    contact_name: str = option(
        types.FILLED,
        "The contact's name that is sent to Turn: address (the phone's number), none, or a key of "
        "helper_metadata that holds the name.",
        "address",
    )
    media_url_key: str | None = option(
        optional(types.FILLED),
        "The key of helper_metadata or transport_metadata in which the transport puts the URL of "
        "media. The URL is added to the text.",
        None,
    )
    duplicate_window: float = option(
        types.seconds(DAY, zero=True),
        "How long an unanswered webhook is remembered, so that its repeat does not send the "
        "message again. 0 switches this off.",
        60.0,
    )

    @property
    def cautions(self) -> tuple[str, ...]:
        """Warnings at the start."""
        host = urlsplit(self.turn_api_url).hostname or ""
        if host != "turn.io" and not host.endswith(".turn.io"):
            return ()
        found = []
        if self.status_format == "flat":
            found.append(
                "status_format is flat, and Turn takes nested today: its statuses may be refused (docs/turn.md)"
            )
        if self.api_auth is not None:
            found.append(
                "api_auth is set, and Turn sends no Authorization header: its webhooks will get 401.  Give api_auth "
                "to the other applications only (docs/operations.md#secrets)"
            )
        return tuple(found)

    @property
    def open_to_all(self) -> bool:
        """Nobody may use it without Turn's signature."""
        return False
