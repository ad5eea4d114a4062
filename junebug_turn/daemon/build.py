"""The daemon, made from the settings; nothing is started here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from attrs import Factory, frozen

from junebug_turn import version
from junebug_turn.amqp.broker import Broker
from junebug_turn.applications.base import ApplicationOptions, Services
from junebug_turn.applications.registry import type_of
from junebug_turn.connectors.connector import Connector
from junebug_turn.connectors.deferred import DeferredMessages
from junebug_turn.connectors.retry_queues import RetryWindows
from junebug_turn.daemon.channels.build import make_channels
from junebug_turn.daemon.channels.service import ChannelsService
from junebug_turn.daemon.collected_faults import collected
from junebug_turn.daemon.delay_queues import delay_queues
from junebug_turn.daemon.drain import Drain
from junebug_turn.daemon.gauges import configured_origins, register_gauges
from junebug_turn.daemon.health import health
from junebug_turn.daemon.operators.build import make_operator_events, make_operators
from junebug_turn.daemon.operators.pausing import Pausing
from junebug_turn.daemon.outgoing_tls import OutgoingTls
from junebug_turn.daemon.process import MAX_DESCRIPTORS
from junebug_turn.daemon.queue_counts import QueueCounts
from junebug_turn.daemon.service import Daemon
from junebug_turn.daemon.settings import Settings
from junebug_turn.daemon.sites import make_sites
from junebug_turn.daemon.traces import Traces, sources
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.errors import ConfigError
from junebug_turn.http.admin.health import Health
from junebug_turn.http.admin.probes import Liveness, Readiness
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.listening import ListenAddress
from junebug_turn.http.mounts import Mount
from junebug_turn.middlewares.base import BaseMiddleware
from junebug_turn.middlewares.chain import Chain, make_middlewares
from junebug_turn.net.tls import ClientTls
from junebug_turn.state.connector_settings import ConnectorSettings
from junebug_turn.state.factory import make_store
from junebug_turn.state.journal import Journals
from junebug_turn.state.message_store import MessageStore
from junebug_turn.telemetry.metrics import Metrics


def make_daemon(reactor: Any, settings: Settings, *, descriptors: int = MAX_DESCRIPTORS) -> Daemon:
    """Make the daemon for these settings.

    :param descriptors: how many files and connections the process may have open
    :raises ConfigError: the settings can't be used; with a line for each fault of each part
    """
    options, amqp = settings.daemon, settings.daemon.amqp
    names = {each.connector_name: type_of(each).name for each in settings.applications}
    metrics = Metrics(version=version() or "unknown", applications=names)
    broker = Broker(reactor, amqp, prefetch=options.worker_concurrency)
    deferred = DeferredMessages(reactor, broker.dead_letter)
    # A quarter and a half of the places that a queue has; one message that hangs stops no other.
    half = max(1, options.worker_concurrency // 2)
    deliverer = Deliverer(
        reactor,
        suspect_limit=max(2, options.worker_concurrency // 4),
        failed_limit=half,
        client_limit=half,
        metrics=metrics,
        proxies=options.proxies,
        recovered=deferred.recovered,
    )
    faults: list[str] = []
    operator_events = None
    with collected(faults, " (operator_url)"):
        operator_events = make_operator_events(reactor, options, broker, deliverer, metrics)

    def use_tls(tls: ClientTls) -> None:
        # Our own certificate is for the operator's destinations, not for an event_url that a client gives.
        deliverer.use_tls(tls, tls.anonymous())
        if operator_events is not None:
            operator_events.notifier.use_tls(tls)

    outgoing_tls = OutgoingTls(options, use_tls)
    with collected(faults):
        outgoing_tls.renew()
    with collected(faults):
        outgoing_tls.check_amqp()
    middlewares: list[BaseMiddleware] = []
    with collected(faults):
        middlewares += make_middlewares(options.middlewares or (), names, more=settings.channels is not None)
    journals = Journals(reactor)
    parts = _Parts(reactor, settings, metrics, broker, deliverer, middlewares, journals)
    stores: dict[str, MessageStore] = {}
    mounts: dict[str, Mount] = {}
    shared: set[ListenAddress] = set()
    for each in settings.applications:
        with collected(faults, f" (application {each.connector_name})"):
            if each.reuse_port:
                each.http_bind.interface_and_port()
                shared.add(each.http_bind)
            stores[each.connector_name] = store = make_store(
                each.store_class,
                each.store_config,
                option=each.store_option,
                connector=each.connector_name,
                clock=reactor,
                remember_last=each.remember_last,
            )
            mounts[each.connector_name] = parts.mount(each, store)
    if faults:
        raise ConfigError(*faults)
    queue_counts = QueueCounts(reactor, broker)
    channels: ChannelsService | None = None

    def connector_settings(name: str) -> ConnectorSettings:
        if name in stores or channels is None:
            return stores[name].connector_settings()
        return channels.connector_settings(name)

    traces = Traces(reactor, amqp, deliverer, journals, partial(sources, settings, stores, channels))
    pausing = Pausing(reactor, broker, lambda: names, connector_settings)
    operators = None
    if options.admin_bind is not None:
        operators = make_operators(
            reactor,
            options,
            applications=names,
            health=lambda: report_health(),
            queues=queue_counts.latest,
            pausing=pausing,
            traces=traces,
            delay_queues=delay_queues(settings),
            metrics=metrics,
        )
    pages = {
        Health.path: Mount(Health(lambda: report_health())),
        Liveness.path: Mount(Liveness(), while_stopping=True),
        Readiness.path: Mount(Readiness(lambda: daemon.obstacle()), while_stopping=True),
    }
    sites = make_sites(reactor, settings, metrics, descriptors, mounts, pages, operators)
    if settings.channels is not None:
        channels = make_channels(
            reactor,
            settings,
            settings.channels,
            broker=broker,
            services=parts.services,
            mounts=sites[settings.channels.http_bind].mounts,
            configured=mounts,
            stores=stores,
            metrics=metrics,
            applications=names,
            components=lambda: report_health(),
            queue_counts=queue_counts,
        )

    configured = configured_origins(settings.applications)
    register_gauges(
        metrics,
        names,
        broker=broker,
        queue_counts=queue_counts,
        stores=stores,
        deliverer=deliverer,
        origins=configured,
        expiries=outgoing_tls.expiries,
    )
    report_health = partial(
        health, broker, deliverer, stores, configured, channels.status if channels else None
    )
    daemon = Daemon(
        reactor=reactor,
        broker=broker,
        deferred=deferred,
        queue_counts=queue_counts,
        pausing=pausing,
        operators=operators,
        deliverer=deliverer,
        middlewares=middlewares,
        journals=journals,
        traces=traces,
        stores=stores,
        sites=sites,
        shared=frozenset(shared),
        certificates={"outgoing HTTPS": outgoing_tls.renew},
        expiries=outgoing_tls.expiries,
        renewals=parts.renewals,
        operator_events=operator_events,
        health=report_health,
        drain=Drain(options.drain_delay, reactor),
        shutdown_timeout=options.shutdown_timeout,
        channels=channels,
        binds=options.other_binds,
    )
    return daemon


@frozen
class _Parts:
    """The parts that the applications share."""

    reactor: Any
    settings: Settings
    metrics: Metrics
    broker: Broker
    deliverer: Deliverer
    middlewares: Sequence[BaseMiddleware]
    journals: Journals
    renewals: dict[str, Callable[[Any], None]] = Factory(dict)

    def mount(self, options: ApplicationOptions, store: MessageStore) -> Mount:
        """Make an application, connect its queues, and return its mount."""
        name = options.connector_name
        services = self.services(options, store, self.broker, name)
        application = type_of(options).create(options, services)
        self.renewals[name] = application.renew
        services.connector.consume(application.handle_inbound, application.handle_event)
        return Mount(
            application.resource, name, application.answer, Authenticator(options.header_credentials)
        )

    def services(
        self, options: ApplicationOptions, store: MessageStore, broker: Broker, queues: str
    ) -> Services:
        """Make the services of an application.

        :param queues: the name of its queues
        """
        windows = RetryWindows(
            retry=options.retry_window,
            session=options.session_retry_window,
            parked_ttl=options.parked_ttl,
            delays=options.retry_delays,
            queue_type=self.settings.daemon.queue_type,
        )
        chain = Chain(self.middlewares, queues)
        journal = self.journals.of(store)
        return Services(
            connector=Connector(broker, queues, windows, chain=chain, metrics=self.metrics, journal=journal),
            store=store,
            deliverer=self.deliverer,
            metrics=self.metrics,
            clock=self.reactor,
            max_json_depth=self.settings.daemon.limits.max_json_depth,
            journal=journal,
        )
