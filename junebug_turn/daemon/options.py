"""Options of the daemon as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.config import types
from junebug_turn.config.option import group_option, option
from junebug_turn.config.types import optional
from junebug_turn.connectors.queue_types import QUEUE_TYPES
from junebug_turn.daemon.channels.options import ChannelsOptions
from junebug_turn.delivery.signature import WEBHOOK_SECRET
from junebug_turn.http.authentication import CREDENTIALS, Credentials
from junebug_turn.http.listening import BIND, ListenAddress
from junebug_turn.http.options import LimitOptions
from junebug_turn.middlewares.base import MIDDLEWARES
from junebug_turn.net.proxies import DIRECT_HOSTS, PROXY_URL, THIS_MACHINE, Proxies


@frozen(kw_only=True)
class DaemonOptions:
    """The options that are not those of an application."""

    amqp: AmqpOptions = group_option(AmqpOptions, "Where the broker is.")
    limits: LimitOptions = group_option(LimitOptions, "What the HTTP servers take.")
    channels: ChannelsOptions = group_option(
        ChannelsOptions, "Channels that are made at run time, by Junebug's HTTP API."
    )
    middlewares: tuple[Mapping[str, Any], ...] | None = option(
        optional(MIDDLEWARES),
        "What messages and events pass through, in this order; each has a class_path, enable_for_connectors and "
        "options of its own.",
        None,
        secret=True,
    )
    worker_concurrency: int = option(
        types.whole(1, 65535),
        "How many messages of a queue are handled at once (the prefetch of each queue).",
        20,
    )
    queue_type: str = option(
        types.choice(*QUEUE_TYPES),
        "The type of the daemon's own queues, for delayed and parked messages: classic, quorum, or default, which is "
        "that of the virtual host. Queues that are there stay as they are.",
        "default",
    )
    ca_file: str | None = option(
        optional(types.FILLED),
        "The file with the authorities that may sign the certificates of HTTPS destinations; else those of the "
        "platform.",
        None,
    )
    client_cert_file: str | None = option(
        optional(types.FILLED),
        "The file with the certificate that configured HTTPS destinations are shown.",
        None,
    )
    client_key_file: str | None = option(
        optional(types.FILLED), "The file with its key, unless it stands in client_cert_file.", None
    )
    http_proxy: str | None = option(
        optional(PROXY_URL),
        "The HTTP proxy that deliveries go through, http://user:password@host:port.",
        None,
        secret=True,
        variables=("HTTP_PROXY", "http_proxy"),
    )
    https_proxy: str | None = option(
        optional(PROXY_URL),
        "The HTTP proxy for https URLs, where it is another one than http_proxy.",
        None,
        secret=True,
        variables=("HTTPS_PROXY", "https_proxy"),
    )
    no_proxy: str = option(
        DIRECT_HOSTS,
        "Hosts that deliveries reach without the proxy: names, which stand for all names below them too, addresses and "
        "networks; or * for all.",
        THIS_MACHINE,
        variables=("NO_PROXY", "no_proxy"),
    )
    operator_url: str | None = option(
        optional(types.URL),
        "The URL that operator events are POSTed to: a circuit opened or closed, messages parked, a consumer lost, the "
        "broker away.",
        None,
        secret=True,
    )
    operator_webhook_secret: str | tuple[str, ...] | None = option(
        optional(types.secrets(WEBHOOK_SECRET)),
        "The secret that operator events are signed with, as whsec_ and base64 or as a text; with several there is one "
        "signature of each.",
        None,
        secret=True,
    )
    sentry_dsn: str | None = option(
        optional(types.URL), "The Sentry DSN that bugs are reported to.", None, secret=True
    )
    log_level: str = option(
        types.LOG_LEVEL, "The lowest level that is logged, in any case; WARNING is WARN.", "INFO"
    )
    log_format: str = option(
        types.choice("text", "json"), "The form of log lines: text, or one JSON object a line.", "text"
    )
    log_addresses: str = option(
        types.choice("masked", "full"),
        "Whether log lines have people's addresses in full or only their last four digits.",
        "masked",
    )
    metrics_bind: ListenAddress | None = option(
        optional(BIND),
        "The address where /metrics is, and nothing else; without one it is at every http_bind.",
        None,
    )
    admin_bind: ListenAddress | None = option(
        optional(BIND),
        "The address for operators, with their page and API, /metrics and /health; without one there is none.",
        None,
    )
    admin_auth: Credentials | None = option(
        optional(CREDENTIALS),
        "Who may use admin_bind: a list of tokens, and users with their passwords; required where other machines may "
        "reach it.",
        None,
        secret=True,
    )
    drain_delay: float = option(
        types.seconds(3600, zero=True),
        "How long requests are still served after SIGTERM, while /health/ready is 503, before the listeners close.",
        0.0,
    )
    shutdown_timeout: float = option(
        types.seconds(3600, zero=True),
        "How long requests and deliveries under way have to finish when the daemon is stopped.",
        30.0,
    )

    @property
    def proxies(self) -> Proxies:
        """The proxies of these options."""
        return Proxies.of(self.http_proxy, self.https_proxy, self.no_proxy)
