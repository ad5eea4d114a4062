"""Options of the Junebug Message API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import frozen

from junebug_turn.amqp.options import QUEUE_NAME
from junebug_turn.applications.base import ApplicationOptions, events_option
from junebug_turn.applications.junebug.messages import EVENT_TYPES
from junebug_turn.config import types
from junebug_turn.config.option import mapping_option, option
from junebug_turn.config.types import optional
from junebug_turn.delivery.signature import WEBHOOK_SECRET
from junebug_turn.net.addresses import HostRules
from junebug_turn.net.options import HOST_RULES


@frozen(kw_only=True)
class JunebugOptions(ApplicationOptions):
    """One Junebug Message API."""

    path_option: ClassVar[str] = "base_url_path"
    url_options: ClassVar[tuple[str, ...]] = ("mo_message_url", "default_event_url", "status_url")
    required_unless: ClassVar[Mapping[str, str]] = {"mo_message_url": "amqp_queue"}
    client_events: ClassVar[bool] = True
    store_option: ClassVar[str] = "state_cache"

    mo_message_url: str | None = option(
        optional(types.URL),
        "The URL for inbound messages. Required, unless amqp_queue is set. A user and password in "
        "it are sent as Basic authentication.",
        None,
        secret=True,
    )
    mo_message_url_auth_token: str | None = option(
        optional(types.FILLED),
        "The token for mo_message_url, sent as Authorization: Token. Without it no token is sent.",
        None,
        secret=True,
    )
    amqp_queue: str | None = option(
        optional(QUEUE_NAME),
        "The name of the queues of an application that uses AMQP instead of HTTP: it gets inbound "
        "messages and events in NAME.inbound and NAME.event, and sends through NAME.outbound.",
        None,
    )
    default_event_url: str | None = option(
        optional(types.URL),
        "The URL for events of messages without an event_url. Without it such events are only logged.",
        None,
        secret=True,
    )
    default_event_auth_token: str | None = option(
        optional(types.FILLED),
        "The token for default_event_url, sent as Authorization: Token.",
        None,
        secret=True,
    )
    event_url_allowed_hosts: HostRules | None = option(
        optional(HOST_RULES),
        "The hosts that an event_url may name: host names, wildcards such as *.example.org, and "
        "networks. Without it all hosts but link-local and cloud metadata addresses.",
        None,
    )
    event_webhook_secret: str | None = option(
        optional(WEBHOOK_SECRET),
        "The secret that signs deliveries to the event_url of a request, in the forms of "
        "webhook_secret. Without it they are not signed.",
        None,
        secret=True,
    )
    base_url_path: str = option(
        types.PATH,
        "The path before /messages. Clients of Junebug expect /channels/CHANNEL_ID.",
        "",
    )
    default_from_addr: str | None = option(
        optional(types.FILLED),
        "The from address of outbound messages that are not replies and have none.",
        None,
    )
    status_url: str | None = option(
        optional(types.URL),
        "The URL for the statuses that the transport publishes. Without it they are not POSTed.",
        None,
        secret=True,
    )
    transport_status: bool = option(
        types.BOOLEAN,
        "Whether to keep the statuses that the transport publishes. A status_url implies it.",
        False,
    )
    metric_window: float = option(
        types.seconds(3600),
        "The time over which the rates in the channel's status are counted.",
        10.0,
    )
    require_from: bool = option(
        types.BOOLEAN,
        "Whether an outbound message that is not a reply needs a from address. If not, from is "
        "null and the transport chooses.",
        True,
    )
    forward_session_close: bool = option(
        types.BOOLEAN,
        "Whether inbound messages that close a session are forwarded. Junebug did not forward them.",
        True,
    )
    forward_events: tuple[str, ...] | None = events_option(*EVENT_TYPES.values())
    allow_expired_replies: bool = option(
        types.BOOLEAN,
        "Whether a reply to an unknown or expired message is sent as a new message, if it has a to address.",
        False,
    )
    state_cache_class: str = option(
        types.FILLED,
        "The cache for inbound messages (to build replies) and event URLs: memory, redis, sqlite, "
        "or a class path.",
        "vumi2.applications.junebug_message_api.junebug_state_cache.InMemorySmppCache",
    )
    state_cache_config: Mapping[str, Any] = mapping_option("The options of that cache.")

    @property
    def open_to_all(self) -> bool:
        """Whether everybody may send messages, and have events sent to any host."""
        return super().open_to_all and self.event_url_allowed_hosts is None
