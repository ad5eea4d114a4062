"""Every option of the daemon and of its applications: name, kind, default, and what it is for.

The classes are what the daemon is built from; their fields' metadata is what the configuration's layers, the
command line flags, ``docs/options.md`` and ``etc/junebug-turn.yaml`` are made from or held against.  A field
without default is a required option.  Secrets have no place in a ``repr``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import attrs
from attrs import frozen

from junebug_turn import guardkinds, kinds
from junebug_turn.addresses import HostRules
from junebug_turn.guardkinds import Credentials
from junebug_turn.kinds import DAY, optional
from junebug_turn.limits import LimitOptions
from junebug_turn.messages import TRANSPORT_TYPES
from junebug_turn.option import Option, group_option
from junebug_turn.option import mapping_option as _mapping_option
from junebug_turn.option import option as _option


@frozen(kw_only=True)
class AmqpOptions:
    """Where the broker is."""

    hostname: str = _option(kinds.HOST, "The broker's host name or address.", "127.0.0.1")
    port: int = _option(kinds.whole(1, 65535), "The broker's port; 5671 is usual with TLS.", 5672)
    username: str = _option(kinds.FILLED, "The user name at the broker.", "guest")
    password: str = _option(kinds.TEXT, "The password at the broker.", "guest", secret=True)
    vhost: str = _option(kinds.VHOST, "The virtual host at the broker.", "/")
    tls: bool = _option(kinds.BOOLEAN, "Whether to speak TLS with the broker and verify it.", False)
    ca_file: str | None = _option(
        optional(kinds.FILLED),
        "The file with the authorities that may sign the broker's certificate; else those of the platform.",
        None,
    )
    client_cert_file: str | None = _option(
        optional(kinds.FILLED), "The file with the certificate that the broker is shown.", None
    )
    client_key_file: str | None = _option(
        optional(kinds.FILLED), "The file with its key, unless it stands in client_cert_file.", None
    )


@frozen(kw_only=True)
class DaemonOptions:
    """What the whole daemon has once."""

    amqp: AmqpOptions = group_option(AmqpOptions, "Where the broker is.")
    limits: LimitOptions = group_option(LimitOptions, "What the HTTP servers take.")
    middlewares: tuple[Mapping[str, Any], ...] | None = _option(
        optional(guardkinds.MIDDLEWARES),
        "What messages and events pass through, in this order; each has a class_path, enable_for_connectors and "
        "options of its own.",
        None,
        secret=True,
    )
    worker_concurrency: int = _option(
        kinds.whole(1, 65535),
        "How many messages of a queue are handled at once (the prefetch of each queue).",
        20,
    )
    ca_file: str | None = _option(
        optional(kinds.FILLED),
        "The file with the authorities that may sign the certificates of HTTPS destinations; else those of the "
        "platform.",
        None,
    )
    client_cert_file: str | None = _option(
        optional(kinds.FILLED),
        "The file with the certificate that configured HTTPS destinations are shown.",
        None,
    )
    client_key_file: str | None = _option(
        optional(kinds.FILLED), "The file with its key, unless it stands in client_cert_file.", None
    )
    sentry_dsn: str | None = _option(
        optional(kinds.URL), "The Sentry DSN that bugs are reported to.", None, secret=True
    )
    log_level: str = _option(
        kinds.LOG_LEVEL, "The lowest level that is logged, in any case; WARNING is WARN.", "INFO"
    )
    log_format: str = _option(
        kinds.choice("text", "json"), "The form of log lines: text, or one JSON object a line.", "text"
    )
    log_addresses: str = _option(
        kinds.choice("masked", "full"),
        "Whether log lines have people's addresses in full or only their last four digits.",
        "masked",
    )
    metrics_bind: str | None = _option(
        optional(kinds.BIND),
        "The address where /metrics is, and nothing else; without one it is at every http_bind.",
        None,
    )
    shutdown_timeout: float = _option(
        kinds.seconds(3600, zero=True),
        "How long requests and deliveries under way have to finish when the daemon is stopped.",
        30.0,
    )


@frozen(kw_only=True)
class _ApplicationOptions:
    """What every application has.

    :cvar name: its word in ``application``
    :cvar path_key: the option that is its URL path
    """

    name: ClassVar[str]
    path_key: ClassVar[str]

    connector_name: str = _option(
        kinds.QUEUE_NAME,
        "The name of the AMQP queues to publish outbound messages on and to consume inbound messages and "
        "events from.",
    )
    http_bind: str = _option(
        kinds.BIND,
        "The address of the HTTP server: host:port, [v6]:port, unix:/path (mode 660 unless the description "
        "has a mode) or a Twisted server endpoint description.",
    )
    reuse_port: bool = _option(
        kinds.BOOLEAN,
        "Whether several processes listen at the same http_bind (host:port), each with this option.",
        False,
    )
    transport_type: str = _option(
        kinds.choice(*sorted(TRANSPORT_TYPES)),
        "The transport type of outbound messages that aren't replies.",
        "sms",
    )
    request_timeout: float = _option(
        kinds.seconds(DAY), "How long the handling of an outbound message request may take.", 240.0
    )
    mo_message_url_timeout: float = _option(
        kinds.seconds(600),
        "How long one HTTP request with an inbound message may take, with its answer.",
        10.0,
    )
    event_url_timeout: float = _option(
        kinds.seconds(600), "How long one HTTP request with an event may take, with its answer.", 10.0
    )
    webhook_secret: str | None = _option(
        optional(kinds.WEBHOOK_SECRET),
        "The secret that deliveries are signed with, as whsec_ and base64 or as a text; without one they have no "
        "webhook-signature.",
        None,
        secret=True,
    )
    max_retries: int = _option(
        kinds.whole(0, 100), "How many further attempts follow a delivery's first one.", 3
    )
    retry_delay_base: int = _option(
        kinds.whole(0, 3600),
        "The b of the longest delay before further attempt n (0, 1, ...), b ** (n * e) seconds.",
        2,
    )
    retry_delay_exponent: int = _option(kinds.whole(0, 16), "The e of that longest delay.", 2)
    retry_window: float = _option(
        kinds.seconds(30 * DAY, zero=True),
        "How long after its first failure a delivery is tried again, with delays in the broker; 0 parks at once.",
        86400.0,
    )
    session_retry_window: float = _option(
        kinds.seconds(900, zero=True),
        "The same for inbound messages of USSD, which are held, in order, since a delay would outlive the session.",
        180.0,
    )
    parked_ttl: float = _option(
        # RabbitMQ takes no expiration of 2 ** 32 ms, which is 49.7 days.
        kinds.seconds(49 * DAY, zero=True),
        "How long a parked message is kept; 0 keeps it for ever.",
        1209600.0,
    )
    api_auth: Credentials | None = _option(
        optional(guardkinds.CREDENTIALS),
        "Who may use the API: a list of tokens, and users with their passwords; without it everybody may.",
        None,
        secret=True,
    )
    rate_limit: float | None = _option(
        optional(guardkinds.number(1e6)),
        "How many requests are taken in a second; what is over is refused, with Retry-After.",
        None,
    )
    character_limit: int | None = _option(
        optional(kinds.whole(1, 10**6)),
        "How many characters the content of an outbound message can have.",
        None,
    )

    @property
    def path(self) -> str:
        """The path that its requests come to: empty, or with a leading and without a trailing slash."""
        return str(getattr(self, self.path_key))


@frozen(kw_only=True)
class JunebugOptions(_ApplicationOptions):
    """One Junebug Message API."""

    name: ClassVar[str] = "junebug"
    path_key: ClassVar[str] = "base_url_path"

    mo_message_url: str = _option(
        kinds.URL,
        "The URL to POST inbound messages to; user and password in it are used for Basic authentication.",
        secret=True,
    )
    mo_message_url_auth_token: str | None = _option(
        optional(kinds.FILLED),
        "The token for inbound message requests; without one there is no Token authentication.",
        None,
        secret=True,
    )
    default_event_url: str | None = _option(
        optional(kinds.URL),
        "The URL to POST events to whose message gave none; without one such events are logged.",
        None,
        secret=True,
    )
    default_event_auth_token: str | None = _option(
        optional(kinds.FILLED), "The token for requests to default_event_url.", None, secret=True
    )
    event_url_allowed_hosts: HostRules | None = _option(
        optional(guardkinds.HOST_RULES),
        "Where the event_url of a request may lead: host names, wildcards such as *.example.org, and networks; "
        "without it anywhere but to addresses of links and clouds.",
        None,
    )
    base_url_path: str = _option(
        kinds.PATH,
        "The path that outbound messages are POSTed under, as {base_url_path}/messages; /channels/{channel_id} "
        "for clients of Junebug.",
        "",
    )
    default_from_addr: str | None = _option(
        optional(kinds.FILLED),
        "The from address of outbound messages that aren't replies and give none.",
        None,
    )
    allow_expired_replies: bool = _option(
        kinds.BOOLEAN,
        "Whether a reply to an unknown message that also has a to address is sent as a new message.",
        False,
    )
    state_cache_class: str = _option(
        kinds.FILLED,
        "The class of the cache for inbound messages (replies) and event URLs.",
        "vumi2.applications.junebug_message_api.junebug_state_cache.InMemorySmppCache",
    )
    state_cache_config: Mapping[str, Any] = _mapping_option("The options of the state cache.")


@frozen(kw_only=True)
class TurnOptions(_ApplicationOptions):
    """One Turn Channels API."""

    name: ClassVar[str] = "turn"
    path_key: ClassVar[str] = "vumi_api_path"

    default_from_addr: str = _option(
        kinds.FILLED, "The from address of outbound messages that aren't replies and give none."
    )
    auth_token: str = _option(kinds.FILLED, "The token for requests to Turn.", secret=True)
    turn_hmac_secret: str = _option(
        kinds.FILLED, "The key that Turn signs its requests with; it can't be empty.", secret=True
    )
    vumi_api_path: str = _option(
        kinds.PATH, "The path that outbound messages are POSTed under, as {vumi_api_path}/messages.", ""
    )
    turn_api_url: str = _option(
        kinds.BASE_URL,
        "The URL of Turn that /messages and /statuses are appended to; while it is empty nothing can be "
        "delivered to Turn.",
        "",
        secret=True,
    )
    message_cache_class: str = _option(
        kinds.FILLED, "The class of the cache for messages.", "MemoryMessageCache"
    )
    message_cache_config: Mapping[str, Any] = _mapping_option("The options of the message cache.")
    status_format: str = _option(
        kinds.choice("flat", "nested"),
        "The form of events: flat, as documented for vumi2, or nested, as Turn's API takes today.",
        "flat",
    )
    render_interactive: bool = _option(
        kinds.BOOLEAN,
        "Whether buttons and lists become a numbered text, and the number that comes back the choice.",
        True,
    )
    duplicate_window: float = _option(
        kinds.seconds(DAY, zero=True),
        "How long a webhook that comes again, unanswered, is known as the same one; 0 switches this off.",
        60.0,
    )


ApplicationOptions: TypeAlias = JunebugOptions | TurnOptions
APPLICATIONS: dict[str, type[ApplicationOptions]] = {
    "junebug": JunebugOptions,
    "turn": TurnOptions,
}

_VUMI2 = "vumi2.applications."
_CLASS_PATHS = [
    ("junebug", "junebug"),
    ("turn", "turn"),
    (_VUMI2 + "JunebugMessageApi", "junebug"),
    (_VUMI2 + "junebug_message_api.JunebugMessageApi", "junebug"),
    (_VUMI2 + "junebug_message_api.junebug_message_api.JunebugMessageApi", "junebug"),
    (_VUMI2 + "TurnChannelsApi", "turn"),
    (_VUMI2 + "turn_channels_api.TurnChannelsApi", "turn"),
    (_VUMI2 + "turn_channels_api.turn_channels_api.TurnChannelsApi", "turn"),
]

# What shapes the configuration but isn't itself a part of the settings.
SELECTORS: dict[str, Option] = {
    "amqp_url": Option(
        "The broker as a URL, amqp://user:password@host:port/vhost or amqps://...; it beats all of amqp.",
        optional(kinds.AMQP_URL),
        secret=True,
    ),
    "application": Option(
        "Which application runs; required, unless every one of applications says it.",
        kinds.chosen(_CLASS_PATHS, ("junebug", "turn")),
    ),
    "applications": Option(
        "Several applications, each with its own options over those of the top level.", kinds.MAPPINGS
    ),
}


@frozen
class Entry:
    """An option as people see it.

    :ivar path: its keys in the YAML file, outermost first
    :ivar owners: ``daemon`` or the names of the applications that have it
    :ivar default: ``NOTHING`` where it is required
    """

    path: tuple[str, ...]
    option: Option
    default: Any
    owners: tuple[str, ...]

    @property
    def key(self) -> str:
        """``amqp.hostname``"""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """``amqp-hostname``, without the dashes before it."""
        return "-".join(self.path).replace("_", "-")

    @property
    def name(self) -> str:
        """``amqp_hostname``, as ``config.load`` takes it."""
        return "_".join(self.path)


def entries(cls: type[Any], owner: str, parents: tuple[str, ...] = ()) -> Iterator[Entry]:
    """The options of one option class, those of its groups in their place."""
    for field in attrs.fields(cls):
        option: Option = field.metadata["option"]
        default = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory()
        if option.kind is kinds.GROUP:
            yield from entries(type(default), owner, (*parents, field.name))
        else:
            yield Entry((*parents, field.name), option, default, (owner,))


def all_entries() -> list[Entry]:
    """Every option there is: the daemon's, then those of one or more applications.

    An option that two applications have with different defaults or meanings stands there once for each.
    """
    found = [Entry((key,), option, None, ("daemon",)) for key, option in SELECTORS.items()]
    found += entries(DaemonOptions, "daemon")
    for name, cls in APPLICATIONS.items():
        for entry in entries(cls, name):
            for place, other in enumerate(found):
                if attrs.evolve(entry, owners=other.owners) == other:
                    found[place] = attrs.evolve(other, owners=(*other.owners, name))
                    break
            else:
                found.append(entry)
    return found
