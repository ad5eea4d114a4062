"""The application interface: options, the services that an application is given, and the declaration of its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from junebug_turn.amqp.options import QUEUE_NAME
from junebug_turn.config import types
from junebug_turn.config.durations import durations
from junebug_turn.config.option import option
from junebug_turn.config.types import DAY, optional
from junebug_turn.delivery.rate import DELIVERY_RATE, DeliveryRate
from junebug_turn.delivery.signature import WEBHOOK_SECRET
from junebug_turn.http.authentication import CREDENTIALS, Credentials
from junebug_turn.http.errors import Answer
from junebug_turn.http.listening import BIND, ListenAddress
from junebug_turn.messages.vumi import TRANSPORT_TYPES, Event, Message

if TYPE_CHECKING:
    # Reading options is quick: what only a running application needs is not loaded for it.
    from junebug_turn.connectors.connector import Connector
    from junebug_turn.delivery.deliverer import Deliverer
    from junebug_turn.http.openapi import Part
    from junebug_turn.state.journal import Journal
    from junebug_turn.state.message_store import MessageStore
    from junebug_turn.telemetry.metrics import Metrics


@frozen(kw_only=True)
class ApplicationOptions:
    """The options that every application has; each type of application has a subclass.

    :cvar path_option: the option that is its URL path
    :cvar url_options: the options that are URLs to deliver to
    :cvar required_unless: an option that is required -> the option that can stand in for it
    :cvar store_option: the name that the options of its store begin with: ``<store_option>_class`` and
        ``<store_option>_config``
    :cvar client_events: whether clients give URLs for their events, which wait behind those to configured URLs
    :cvar remember_last: whether it asks its store for the last inbound message of an address
    """

    path_option: ClassVar[str]
    url_options: ClassVar[tuple[str, ...]]
    required_unless: ClassVar[Mapping[str, str]] = {}
    store_option: ClassVar[str]
    client_events: ClassVar[bool] = False
    remember_last: ClassVar[bool] = False

    connector_name: str = option(
        QUEUE_NAME,
        "The name of the connector: its queues are NAME.inbound, NAME.event and NAME.outbound. "
        "The same name as at the transport.",
    )
    http_bind: ListenAddress = option(
        BIND,
        "The address of the HTTP server: host:port, [v6]:port, unix:/path (mode 660 unless the description "
        "has a mode) or a Twisted server endpoint description.",
    )
    reuse_port: bool = option(
        types.BOOLEAN,
        "Whether several processes may listen at the same http_bind (host:port). Set it for each of them.",
        False,
    )
    transport_type: str = option(
        types.choice(*sorted(TRANSPORT_TYPES)),
        "The transport type of outbound messages that are not replies.",
        "sms",
    )
    request_timeout: float = option(
        types.seconds(DAY),
        "The time limit for a request with an outbound message. After it the answer is 503.",
        240.0,
    )
    mo_message_url_timeout: float = option(
        types.seconds(600),
        "The time limit for one delivery attempt of an inbound message, including the answer.",
        10.0,
    )
    event_url_timeout: float = option(
        types.seconds(600), "The time limit for one delivery attempt of an event, including the answer.", 10.0
    )
    webhook_secret: str | tuple[str, ...] | None = option(
        optional(types.secrets(WEBHOOK_SECRET)),
        "The secret that signs deliveries to configured URLs: whsec_ and base64, or a text. "
        "Without it they are not signed; with a list, each secret makes one signature.",
        None,
        secret=True,
    )
    delivery_rate_limit: DeliveryRate | None = option(
        optional(DELIVERY_RATE),
        "The quota of one configured URL, for example {calls: 60, seconds: 60}. Deliveries beyond it wait.",
        None,
    )
    max_retries: int = option(
        types.whole(0, 100), "How many quick further attempts follow the first attempt of a delivery.", 3
    )
    retry_delay_base: int = option(
        types.whole(0, 3600),
        "The base b of the delay before quick attempt n (0, 1, ...): a random time up to b ** (n "
        "* e) seconds.",
        2,
    )
    retry_delay_exponent: int = option(types.whole(0, 16), "The exponent e of that delay.", 2)
    retry_window: float = option(
        types.seconds(30 * DAY, zero=True),
        "How long after its first failure a delivery is retried through the delay queues. With 0 "
        "it is parked after the quick attempts.",
        86400.0,
    )
    retry_delays: tuple[float, ...] = option(
        durations(7 * DAY),
        "The waiting times in the delay queues: for the first retry, the second, and so on. The "
        "last one is used for all further retries.",
        (30.0, 300.0, 1800.0, 7200.0),
    )
    session_retry_window: float = option(
        types.seconds(900, zero=True),
        "The retry_window of inbound USSD messages, which are retried every 5 seconds. A longer "
        "time would outlive the session.",
        180.0,
    )
    parked_ttl: float = option(
        # RabbitMQ takes no expiration of 2 ** 32 ms, which is 49.7 days.
        types.seconds(49 * DAY, zero=True),
        "How long a parked message is kept. With 0 it never expires.",
        1209600.0,
    )
    api_auth: Credentials | None = option(
        optional(CREDENTIALS),
        "The tokens and the users with passwords that may use the API. Without it everybody may.",
        None,
        secret=True,
    )
    rate_limit: float | None = option(
        optional(types.number(1e6)),
        "The most requests per second. Requests beyond it are refused with Retry-After.",
        None,
    )
    character_limit: int | None = option(
        optional(types.whole(0, 10**6)),
        "The most characters in an outbound message. A longer one is refused with 400.",
        None,
    )

    @property
    def forward_events(self) -> tuple[str, ...] | None:
        """The types of events that it forwards, in the words of its API; None: all.

        An application whose API has events has an option of this name, made by ``events_option``.
        """
        return None

    @property
    def cautions(self) -> tuple[str, ...]:
        """Warnings at the start: options that work, and are probably not meant."""
        return ()

    @property
    def path(self) -> str:
        """The path that its requests come to: empty, or with a leading and without a trailing slash."""
        return str(getattr(self, self.path_option))

    @property
    def header_credentials(self) -> Credentials | None:
        """The credentials for the Authorization header, which each request must have then; None: it needs none."""
        return self.api_auth

    @property
    def open_to_all(self) -> bool:
        """Whether everybody who reaches its address may use it, without any restriction."""
        return self.api_auth is None

    @property
    def urls(self) -> dict[str, str]:
        """The URLs that it delivers to, by their options; an empty option has none."""
        found = {key: getattr(self, key) for key in self.url_options}
        return {key: url for key, url in found.items() if url}

    @property
    def store_class(self) -> str:
        """The name or the class path of its store."""
        return str(getattr(self, f"{self.store_option}_class"))

    @property
    def store_config(self) -> Mapping[str, Any]:
        """The options of its store."""
        found: Mapping[str, Any] = getattr(self, f"{self.store_option}_config")
        return found


def events_option(*words: str) -> Any:
    """The option ``forward_events`` of an application whose API has these words for the types of events."""
    return option(
        optional(types.choices(*words)),
        "The types of events to forward. Without it all events are forwarded.",
        None,
    )


class Application(Protocol):
    """One running application: a channel between its connector and its HTTP clients and destinations."""

    @property
    def resource(self) -> IResource:
        """The resource that the server mounts at the options' path."""

    def answer(self, answer: Answer, /) -> tuple[int, Any]:
        """Return the HTTP status and the JSON of an error, in this application's own form; bytes are a line of text."""

    def renew(self, options: Any, /) -> None:
        """Use the secrets of ``options``, which were read again, from now on."""

    async def handle_inbound(self, message: Message, /) -> None:
        """Deliver an inbound message.

        :raises DeliveryFailed: it could not be delivered
        """

    async def handle_event(self, event: Event, /) -> None:
        """Deliver an event.

        :raises DeliveryFailed: it could not be delivered
        """


@frozen(kw_only=True)
class Services:
    """The parts of the daemon that one application is given.

    :ivar connector: its own, which publishes its outbound messages
    :ivar store: its own
    :ivar clock: the reactor
    :ivar max_json_depth: the deepest nesting of arrays and objects in a request's JSON
    :ivar journal: gets the steps of each message; None: no steps are kept
    """

    connector: Connector
    store: MessageStore
    deliverer: Deliverer
    metrics: Metrics
    clock: IReactorTime
    max_json_depth: int
    journal: Journal | None = None


@frozen
class ApplicationType:
    """A type of application; ``registry.APPLICATION_TYPES`` has all of them.

    :ivar name: the word in the option ``application``
    :ivar title: its name in the documentation, with the article
    :ivar aliases: class paths that mean it in existing configuration files
    :ivar options: its options
    :ivar create: the application's class, or a function that makes one; ConfigError or DeliveryRefused where its
        options can't be used
    :ivar openapi: returns its part of the OpenAPI document; None: it has none
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    options: type[ApplicationOptions]
    create: Callable[[Any, Services], Application]
    openapi: Callable[[], Part | None] = lambda: None
