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
        "Classes that log or change messages and events, applied in this order. Each entry has a "
        "class_path, may have enable_for_connectors, and has the options of its class.",
        None,
        secret=True,
    )
    worker_concurrency: int = option(
        types.whole(1, 65535),
        "How many messages of each queue are handled at once (the prefetch).",
        20,
    )
    queue_type: str = option(
        types.choice(*QUEUE_TYPES),
        "The type of new queues for delayed and parked messages: classic, quorum, or default (the "
        "virtual host's default). Existing queues are not changed.",
        "default",
    )
    ca_file: str | None = option(
        optional(types.FILLED),
        "A PEM file with the certificate authorities for HTTPS destinations. By default those of "
        "the operating system.",
        None,
    )
    client_cert_file: str | None = option(
        optional(types.FILLED),
        "A PEM file with the client certificate for configured HTTPS destinations.",
        None,
    )
    client_key_file: str | None = option(
        optional(types.FILLED),
        "A PEM file with the private key of the client certificate. Not needed if "
        "client_cert_file contains the key.",
        None,
    )
    http_proxy: str | None = option(
        optional(PROXY_URL),
        "The HTTP proxy for deliveries, http://user:password@host:port.",
        None,
        secret=True,
        variables=("HTTP_PROXY", "http_proxy"),
    )
    https_proxy: str | None = option(
        optional(PROXY_URL),
        "The HTTP proxy for deliveries to https URLs. By default http_proxy.",
        None,
        secret=True,
        variables=("HTTPS_PROXY", "https_proxy"),
    )
    no_proxy: str = option(
        DIRECT_HOSTS,
        "Hosts that are reached without the proxy: names (with all their subdomains), addresses "
        "and networks, or * for all hosts.",
        THIS_MACHINE,
        variables=("NO_PROXY", "no_proxy"),
    )
    operator_url: str | None = option(
        optional(types.URL),
        "The URL for operator events: a circuit opened or closed, messages parked, a consumer "
        "lost, the broker away.",
        None,
        secret=True,
    )
    operator_webhook_secret: str | tuple[str, ...] | None = option(
        optional(types.secrets(WEBHOOK_SECRET)),
        "The secret that signs operator events: whsec_ and base64, or a text. With a list, each "
        "secret makes one signature.",
        None,
        secret=True,
    )
    sentry_dsn: str | None = option(
        optional(types.URL), "The Sentry DSN for reports of bugs.", None, secret=True
    )
    log_level: str = option(
        types.LOG_LEVEL,
        "The lowest level that is logged. Upper and lower case are the same; WARNING means WARN.",
        "INFO",
    )
    log_format: str = option(
        types.choice("text", "json"), "The format of the log: text, or json with one object per line.", "text"
    )
    log_addresses: str = option(
        types.choice("masked", "full"),
        "Whether the log shows addresses masked (only their last four digits) or in full.",
        "masked",
    )
    metrics_bind: ListenAddress | None = option(
        optional(BIND),
        "A separate address for /metrics. Without it, every http_bind serves /metrics.",
        None,
    )
    admin_bind: ListenAddress | None = option(
        optional(BIND),
        "The address of the operators' page and API, with /metrics and /health. Without it they "
        "are switched off.",
        None,
    )
    admin_auth: Credentials | None = option(
        optional(CREDENTIALS),
        "The tokens and the users with passwords that may use admin_bind. Required if other "
        "machines can reach that address.",
        None,
        secret=True,
    )
    drain_delay: float = option(
        types.seconds(3600, zero=True),
        "How long requests are still served after SIGTERM while /health/ready answers 503, so "
        "that a load balancer can notice.",
        0.0,
    )
    shutdown_timeout: float = option(
        types.seconds(3600, zero=True),
        "How long requests and deliveries may take to finish when the daemon stops.",
        30.0,
    )

    @property
    def proxies(self) -> Proxies:
        """The proxies of these options."""
        return Proxies.of(self.http_proxy, self.https_proxy, self.no_proxy)

    @property
    def other_binds(self) -> dict[ListenAddress, str]:
        """The addresses that are no ``http_bind``, with the names of their options."""
        binds = {"metrics_bind": self.metrics_bind, "admin_bind": self.admin_bind}
        return {address: name for name, address in binds.items() if address is not None}
