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
        "The URL to POST inbound messages to, required unless there is an amqp_queue; user and password in it are "
        "used for Basic authentication.",
        None,
        secret=True,
    )
    mo_message_url_auth_token: str | None = option(
        optional(types.FILLED),
        "The token for inbound message requests; without one there is no Token authentication.",
        None,
        secret=True,
    )
    amqp_queue: str | None = option(
        optional(QUEUE_NAME),
        "The name of the AMQP queues of an application without HTTP: inbound messages and events go to its .inbound "
        "and .event, and what is in its .outbound is sent.",
        None,
    )
    default_event_url: str | None = option(
        optional(types.URL),
        "The URL to POST events to whose message gave none; without one such events are logged.",
        None,
        secret=True,
    )
    default_event_auth_token: str | None = option(
        optional(types.FILLED), "The token for requests to default_event_url.", None, secret=True
    )
    event_url_allowed_hosts: HostRules | None = option(
        optional(HOST_RULES),
        "Where the event_url of a request may lead: host names, wildcards such as *.example.org, and networks; "
        "without it anywhere but to addresses of links and clouds.",
        None,
    )
    event_webhook_secret: str | None = option(
        optional(WEBHOOK_SECRET),
        "The secret that deliveries to the event_url of a request are signed with, in the forms of webhook_secret, "
        "which never signs these; without one they have no webhook-signature.",
        None,
        secret=True,
    )
    base_url_path: str = option(
        types.PATH,
        "The path that outbound messages are POSTed under, as {base_url_path}/messages; /channels/{channel_id} "
        "for clients of Junebug.",
        "",
    )
    default_from_addr: str | None = option(
        optional(types.FILLED),
        "The from address of outbound messages that aren't replies and give none.",
        None,
    )
    status_url: str | None = option(
        optional(types.URL),
        "The URL to POST the statuses to that the transport publishes; without one they are not POSTed.",
        None,
        secret=True,
    )
    transport_status: bool = option(
        types.BOOLEAN,
        "Whether the statuses that the transport publishes are kept; with a status_url they are in any case.",
        False,
    )
    metric_window: float = option(
        types.seconds(3600),
        "How many seconds a counter of messages covers; the rates in the channel's status are of the last one.",
        10.0,
    )
    require_from: bool = option(
        types.BOOLEAN,
        "Whether an outbound message that is no reply needs a from address; without one it goes out with null, and "
        "the transport chooses.",
        True,
    )
    forward_session_close: bool = option(
        types.BOOLEAN,
        "Whether an inbound message that closes a session is forwarded; Junebug forwarded none.",
        True,
    )
    forward_events: tuple[str, ...] | None = events_option(*EVENT_TYPES.values())
    allow_expired_replies: bool = option(
        types.BOOLEAN,
        "Whether a reply to an unknown message that also has a to address is sent as a new message.",
        False,
    )
    state_cache_class: str = option(
        types.FILLED,
        "The class of the cache for inbound messages (replies) and event URLs.",
        "vumi2.applications.junebug_message_api.junebug_state_cache.InMemorySmppCache",
    )
    state_cache_config: Mapping[str, Any] = mapping_option("The options of the state cache.")

    @property
    def open_to_all(self) -> bool:
        """Whether everybody may send messages, and have events sent to any host."""
        return super().open_to_all and self.event_url_allowed_hosts is None
