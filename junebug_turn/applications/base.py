"""The options of each application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

from attrs import frozen

from junebug_turn.config import guard_types, types
from junebug_turn.config.guard_types import Credentials
from junebug_turn.config.option import mapping_option, option
from junebug_turn.config.types import DAY, optional
from junebug_turn.messages.vumi import TRANSPORT_TYPES
from junebug_turn.net.addresses import HostRules


@frozen(kw_only=True)
class _ApplicationOptions:
    """What every application has.

    :cvar name: its word in ``application``
    :cvar path_key: the option that is its URL path
    :cvar url_keys: the options that are URLs to deliver to
    """

    name: ClassVar[str]
    path_key: ClassVar[str]
    url_keys: ClassVar[tuple[str, ...]]

    connector_name: str = option(
        types.QUEUE_NAME,
        "The name of the AMQP queues to publish outbound messages on and to consume inbound messages and "
        "events from.",
    )
    http_bind: str = option(
        types.BIND,
        "The address of the HTTP server: host:port, [v6]:port, unix:/path (mode 660 unless the description "
        "has a mode) or a Twisted server endpoint description.",
    )
    reuse_port: bool = option(
        types.BOOLEAN,
        "Whether several processes listen at the same http_bind (host:port), each with this option.",
        False,
    )
    transport_type: str = option(
        types.choice(*sorted(TRANSPORT_TYPES)),
        "The transport type of outbound messages that aren't replies.",
        "sms",
    )
    request_timeout: float = option(
        types.seconds(DAY), "How long the handling of an outbound message request may take.", 240.0
    )
    mo_message_url_timeout: float = option(
        types.seconds(600),
        "How long one HTTP request with an inbound message may take, with its answer.",
        10.0,
    )
    event_url_timeout: float = option(
        types.seconds(600), "How long one HTTP request with an event may take, with its answer.", 10.0
    )
    webhook_secret: str | None = option(
        optional(types.WEBHOOK_SECRET),
        "The secret that deliveries are signed with, as whsec_ and base64 or as a text; without one they have no "
        "webhook-signature.",
        None,
        secret=True,
    )
    max_retries: int = option(
        types.whole(0, 100), "How many further attempts follow a delivery's first one.", 3
    )
    retry_delay_base: int = option(
        types.whole(0, 3600),
        "The b of the longest delay before further attempt n (0, 1, ...), b ** (n * e) seconds.",
        2,
    )
    retry_delay_exponent: int = option(types.whole(0, 16), "The e of that longest delay.", 2)
    retry_window: float = option(
        types.seconds(30 * DAY, zero=True),
        "How long after its first failure a delivery is tried again, with delays in the broker; 0 parks at once.",
        86400.0,
    )
    session_retry_window: float = option(
        types.seconds(900, zero=True),
        "The same for inbound messages of USSD, which are held, in order, since a delay would outlive the session.",
        180.0,
    )
    parked_ttl: float = option(
        # RabbitMQ takes no expiration of 2 ** 32 ms, which is 49.7 days.
        types.seconds(49 * DAY, zero=True),
        "How long a parked message is kept; 0 keeps it for ever.",
        1209600.0,
    )
    api_auth: Credentials | None = option(
        optional(guard_types.CREDENTIALS),
        "Who may use the API: a list of tokens, and users with their passwords; without it everybody may.",
        None,
        secret=True,
    )
    rate_limit: float | None = option(
        optional(guard_types.number(1e6)),
        "How many requests are taken in a second; what is over is refused, with Retry-After.",
        None,
    )
    character_limit: int | None = option(
        optional(types.whole(1, 10**6)),
        "How many characters the content of an outbound message can have.",
        None,
    )

    @property
    def path(self) -> str:
        """The path that its requests come to: empty, or with a leading and without a trailing slash."""
        return str(getattr(self, self.path_key))

    @property
    def urls(self) -> dict[str, str]:
        """The URLs that it delivers to, by their options; only those that are there."""
        found = {key: getattr(self, key) for key in self.url_keys}
        return {key: url for key, url in found.items() if url}


@frozen(kw_only=True)
class JunebugOptions(_ApplicationOptions):
    """One Junebug Message API."""

    name: ClassVar[str] = "junebug"
    path_key: ClassVar[str] = "base_url_path"
    url_keys: ClassVar[tuple[str, ...]] = ("mo_message_url", "default_event_url")

    mo_message_url: str = option(
        types.URL,
        "The URL to POST inbound messages to; user and password in it are used for Basic authentication.",
        secret=True,
    )
    mo_message_url_auth_token: str | None = option(
        optional(types.FILLED),
        "The token for inbound message requests; without one there is no Token authentication.",
        None,
        secret=True,
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
        optional(guard_types.HOST_RULES),
        "Where the event_url of a request may lead: host names, wildcards such as *.example.org, and networks; "
        "without it anywhere but to addresses of links and clouds.",
        None,
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


@frozen(kw_only=True)
class TurnOptions(_ApplicationOptions):
    """One Turn Channels API."""

    name: ClassVar[str] = "turn"
    path_key: ClassVar[str] = "vumi_api_path"
    url_keys: ClassVar[tuple[str, ...]] = ("turn_api_url",)

    default_from_addr: str = option(
        types.FILLED, "The from address of outbound messages that aren't replies and give none."
    )
    auth_token: str = option(types.FILLED, "The token for requests to Turn.", secret=True)
    turn_hmac_secret: str = option(
        types.FILLED, "The key that Turn signs its requests with; it can't be empty.", secret=True
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
    render_interactive: bool = option(
        types.BOOLEAN,
        "Whether buttons and lists become a numbered text, and the number that comes back the choice.",
        True,
    )
    duplicate_window: float = option(
        types.seconds(DAY, zero=True),
        "How long a webhook that comes again, unanswered, is known as the same one; 0 switches this off.",
        60.0,
    )


ApplicationOptions: TypeAlias = JunebugOptions | TurnOptions
APPLICATIONS: dict[str, type[ApplicationOptions]] = {
    "junebug": JunebugOptions,
    "turn": TurnOptions,
}
