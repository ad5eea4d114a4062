"""Parts of the daemon that its applications and its servers share, and the making of both.

Tested by tests/unit/daemon/test_build.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import Factory, frozen

from junebug_turn.amqp.broker import Broker
from junebug_turn.applications.base import ApplicationOptions, Services
from junebug_turn.applications.registry import type_of
from junebug_turn.connectors.connector import Connector
from junebug_turn.connectors.retry_queues import RetryWindows
from junebug_turn.daemon.openapi import daemon_document
from junebug_turn.daemon.operators.build import operators_mounts
from junebug_turn.daemon.operators.service import OperatorsService
from junebug_turn.daemon.process import connections_within
from junebug_turn.daemon.settings import Settings
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.http.admin.metrics import MetricsPage
from junebug_turn.http.admin.openapi import OpenApiPage
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.connection_limits import ConnectionLimits
from junebug_turn.http.listening import ListenAddress
from junebug_turn.http.mounts import Mount
from junebug_turn.http.server import ApiSite
from junebug_turn.middlewares.base import BaseMiddleware
from junebug_turn.middlewares.chain import Chain
from junebug_turn.state.journal import Journals
from junebug_turn.state.message_store import MessageStore
from junebug_turn.telemetry.metrics import Metrics


@frozen
class Parts:
    """The parts that the applications and the servers share."""

    reactor: Any
    settings: Settings
    metrics: Metrics
    broker: Broker
    deliverer: Deliverer
    middlewares: Sequence[BaseMiddleware]
    descriptors: int
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

    def sites(
        self, mounts: Mapping[str, Mount], common: Mapping[str, Mount], operators: OperatorsService | None
    ) -> dict[ListenAddress, ApiSite]:
        """Make a site for each address.

        :param mounts: connector -> the mount of its application
        :param common: path -> the mount of a page that is at every address but ``metrics_bind``
        :param operators: None where they have no address
        """
        limits, metrics_bind = self.settings.daemon.limits, self.settings.daemon.metrics_bind
        most = connections_within(self.settings, self.descriptors)
        connections = ConnectionLimits(self.reactor, most, limits.max_connections_per_client)
        pages: dict[ListenAddress, dict[str, Mount]] = {}
        if self.settings.channels is not None:
            pages[self.settings.channels.http_bind] = dict(common)
        for options in self.settings.applications:
            there = pages.setdefault(options.http_bind, dict(common))
            there[options.path] = mounts[options.connector_name]
        metrics_page = Mount(MetricsPage(self.metrics, self.reactor))
        for there in (pages.setdefault(metrics_bind, {}),) if metrics_bind else pages.values():
            there.setdefault(MetricsPage.path, metrics_page)
        daemon = self.settings.daemon
        if daemon.admin_bind is not None and operators is not None:
            shared = {**common, MetricsPage.path: metrics_page}
            shared[OpenApiPage.path] = Mount(OpenApiPage(lambda: daemon_document(self.settings)))
            pages[daemon.admin_bind] = operators_mounts(self.reactor, daemon, operators, shared)
        return {
            address: ApiSite(
                there, self.reactor, limits=limits, connections=connections, metrics=self.metrics
            )
            for address, there in pages.items()
        }
