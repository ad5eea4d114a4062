"""The daemon's parts, made from the settings and put together; nothing is started here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from attrs import frozen

from junebug_turn import version
from junebug_turn.amqp.broker import Broker
from junebug_turn.applications.base import ApplicationOptions, Services
from junebug_turn.applications.registry import type_of
from junebug_turn.connectors.connector import Connector
from junebug_turn.connectors.retry_queues import RetryWindows
from junebug_turn.daemon.health import Vitals
from junebug_turn.daemon.settings import Settings
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import ConfigError, DeliveryRefused
from junebug_turn.http.admin.health import Health
from junebug_turn.http.admin.metrics import MetricsPage
from junebug_turn.http.connection_limits import ConnectionLimits
from junebug_turn.http.listening import ListenAddress
from junebug_turn.http.mounts import Mount
from junebug_turn.http.server import ApiSite
from junebug_turn.middlewares.base import BaseMiddleware
from junebug_turn.middlewares.chain import Chain, make_middlewares
from junebug_turn.net.tls import TlsFiles
from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import MessageStore
from junebug_turn.telemetry.gauges import BrokerGauges, CircuitGauges, StoreGauges
from junebug_turn.telemetry.metrics import Metrics


@frozen(kw_only=True)
class Parts:
    """What a daemon is made of.

    :ivar caches: connector -> its cache
    :ivar sites: the server of each address
    :ivar shared: the addresses at which other processes listen, too
    :ivar renew_tls: reads the certificates for outgoing HTTPS again; ConfigError where they can't be used
    """

    broker: Broker
    deliverer: Deliverer
    middlewares: tuple[BaseMiddleware, ...]
    caches: Mapping[str, MessageStore]
    sites: Mapping[ListenAddress, ApiSite]
    shared: frozenset[ListenAddress]
    vitals: Vitals
    renew_tls: Callable[[], None]


def assemble(reactor: Any, settings: Settings) -> Parts:
    """All parts of the daemon for these settings.

    :raises ConfigError: the settings can't be used; with a line for each fault of each part
    """
    return _Assembly(reactor, settings).parts()


class _Assembly:
    """The parts while they are made, and the faults that were found with them."""

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._reactor = reactor
        self._settings = settings
        daemon = settings.daemon
        self._caches: dict[str, MessageStore] = {}
        self._middlewares: list[BaseMiddleware] = []
        self._faults: list[str] = []
        names = {options.connector_name: type_of(options).name for options in settings.applications}
        self._metrics = Metrics(version=version() or "unknown", applications=names)
        self._broker = Broker(reactor, daemon.amqp, prefetch=daemon.worker_concurrency)
        # A quarter of the places that a queue has.
        self._deliverer = Deliverer(
            reactor, suspect_limit=max(1, daemon.worker_concurrency // 4), metrics=self._metrics
        )
        self._vitals = Vitals(self._broker, self._deliverer, self._caches)
        self._metrics.register(BrokerGauges(self._broker.status, self._vitals.queues))
        self._metrics.register(
            StoreGauges(names, lambda: {name: cache.stats() for name, cache in self._caches.items()})
        )
        self._metrics.register(CircuitGauges(_origins(settings.applications), self._deliverer.degraded))
        self._tls_files = TlsFiles(daemon.ca_file, daemon.client_cert_file, daemon.client_key_file)

    def parts(self) -> Parts:
        amqp = self._settings.daemon.amqp
        amqp_files = TlsFiles(amqp.ca_file, amqp.client_cert_file, amqp.client_key_file, "amqp.")
        for check in (self._renew_tls, amqp_files.load, self._make_middlewares):
            try:
                check()
            except ConfigError as error:
                self._faults += error.lines
        shared: set[ListenAddress] = set()
        mounts: dict[str, Mount] = {}
        for options in self._settings.applications:
            try:
                if options.reuse_port:
                    options.http_bind.interface_and_port()
                    shared.add(options.http_bind)
                mounts[options.connector_name] = self._make_application(options)
            except (ConfigError, DeliveryRefused) as error:
                lines = str(error).splitlines()
                self._faults += [f"{line} (application {options.connector_name})" for line in lines]
        if self._faults:
            raise ConfigError(*self._faults)
        return Parts(
            broker=self._broker,
            deliverer=self._deliverer,
            middlewares=tuple(self._middlewares),
            caches=self._caches,
            sites=self._make_sites(mounts),
            shared=frozenset(shared),
            vitals=self._vitals,
            renew_tls=self._renew_tls,
        )

    def _renew_tls(self) -> None:
        tls = self._tls_files.load()
        # Our own certificate is for the operator's destinations, not for whoever gives an event_url.
        self._deliverer.use_tls(tls, tls.anonymous())

    def _make_middlewares(self) -> None:
        names = [options.connector_name for options in self._settings.applications]
        self._middlewares += make_middlewares(self._settings.daemon.middlewares or (), names)

    def _make_application(self, options: ApplicationOptions) -> Mount:
        windows = RetryWindows(
            retry=options.retry_window, session=options.session_retry_window, parked_ttl=options.parked_ttl
        )
        chain = Chain(self._middlewares, options.connector_name)
        connector = Connector(
            self._broker, options.connector_name, windows, chain=chain, metrics=self._metrics
        )
        policy = RetryPolicy(options.max_retries, options.retry_delay_base, options.retry_delay_exponent)
        services = Services(
            connector=connector,
            store=self._make_cache(options),
            deliverer=self._deliverer,
            retry_policy=policy,
            metrics=self._metrics,
            clock=self._reactor,
            max_json_depth=self._settings.daemon.limits.max_json_depth,
        )
        application = type_of(options).create(options, services)
        connector.consume(application.handle_inbound, application.handle_event)
        return Mount(application.resource, options.connector_name, application.answer)

    def _make_cache(self, options: ApplicationOptions) -> MessageStore:
        connector = options.connector_name
        cache = make_store(
            options.store_class,
            options.store_config,
            option=options.store_option,
            connector=connector,
            clock=self._reactor,
            remember_last=options.remember_last,
        )
        self._caches[connector] = cache
        return cache

    def _make_sites(self, mounts: Mapping[str, Mount]) -> dict[ListenAddress, ApiSite]:
        """A site for each address.

        :param mounts: connector -> that of its application
        """
        daemon = self._settings.daemon
        limits = daemon.limits
        connections = ConnectionLimits(
            self._reactor, limits.max_connections, limits.max_connections_per_client
        )
        page = MetricsPage(self._metrics)
        applications: dict[ListenAddress, list[ApplicationOptions]] = {}
        for options in self._settings.applications:
            applications.setdefault(options.http_bind, []).append(options)
        if daemon.metrics_bind:
            applications.setdefault(daemon.metrics_bind, [])
        sites = {}
        for address, there in applications.items():
            own = {Health.path: Mount(Health(self._vitals.health))} if there else {}
            if daemon.metrics_bind in (None, address):
                own[MetricsPage.path] = Mount(page)
            sites[address] = ApiSite(
                own | {options.path: mounts[options.connector_name] for options in there},
                self._reactor,
                limits=limits,
                connections=connections,
                metrics=self._metrics,
            )
        return sites


def _origins(applications: Iterable[ApplicationOptions]) -> frozenset[str]:
    """The origins of the URLs that the configuration has."""
    origins = set()
    for url in {url for options in applications for url in options.urls.values()}:
        with suppress(DeliveryRefused):  # which the application tells
            origins.add(Destination.of(url, None).origin)
    return frozenset(origins)
