"""The daemon: the only place where the parts meet, and the order in which they start and stop."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.layered import LayeredConnector
from junebug_turn.amqp.retries import RetryWindows
from junebug_turn.caches import make_cache
from junebug_turn.caches.interface import Cache
from junebug_turn.config import Settings, endpoint_description
from junebug_turn.delivery import Deliverer, Destination
from junebug_turn.errors import ConfigError, DeliveryRefused
from junebug_turn.http.connections import Connections
from junebug_turn.http.health import Health
from junebug_turn.http.metrics import MetricsPage
from junebug_turn.http.site import ApiSite, Root
from junebug_turn.junebug.api import JunebugApi
from junebug_turn.junebug.application import JunebugApplication
from junebug_turn.listening import RenewableContext, check_reuse_port, listen_together, server_endpoint
from junebug_turn.metrics import Metrics, State
from junebug_turn.middlewares import BaseMiddleware, Chain, make_middlewares
from junebug_turn.options import ApplicationOptions, TurnOptions
from junebug_turn.retry import RetryPolicy
from junebug_turn.tls import TlsFiles
from junebug_turn.turn.api import TurnApi
from junebug_turn.turn.application import TurnApplication

COUNT_INTERVAL = 15.0
"""Seconds between questions to the broker for the lengths of its queues."""


class Daemon(Service):
    """All applications of the settings, on one broker connection.

    :ivar ready: whether it listens and all its parts are started
    :raises ConfigError: a cache can't be made from its options
    """

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._reactor = reactor
        self._shutdown_timeout = settings.daemon.shutdown_timeout
        self._metrics = Metrics(
            version=_version(),
            applications={options.connector_name: options.name for options in settings.applications},
            origins=_origins(settings.applications),
            state=self._state,
        )
        self._queues: Mapping[str, tuple[int, int]] = {}
        self._counting = LoopingCall(lambda: Deferred.fromCoroutine(self._count()))
        self._counting.clock = reactor
        self._broker = Broker(reactor, settings.daemon.amqp, prefetch=settings.daemon.worker_concurrency)
        daemon = settings.daemon
        self._tls_files = TlsFiles(daemon.ca_file, daemon.client_cert_file, daemon.client_key_file)
        self._certificates: dict[str, RenewableContext] = {}
        # A quarter of the places that a queue has.
        self._deliverer = Deliverer(
            reactor, suspect_limit=max(1, daemon.worker_concurrency // 4), metrics=self._metrics
        )
        self._limits = limits = daemon.limits
        connections = Connections(reactor, limits.max_connections, limits.max_connections_per_client)
        self._caches: dict[str, Cache] = {}
        self._sites: dict[str, ApiSite] = {}
        self._shared: set[str] = set()
        self._ports: list[IListeningPort] = []
        self._starting: Deferred[None] | None = None
        self.ready = False
        mounts: dict[str, dict[str, IResource]] = {}
        faults: list[str] = []
        amqp = daemon.amqp
        amqp_files = TlsFiles(amqp.ca_file, amqp.client_cert_file, amqp.client_key_file, "amqp.")
        self._middlewares: list[BaseMiddleware] = []
        names = [options.connector_name for options in settings.applications]
        for check in (
            self._renew_outgoing,
            amqp_files.load,
            lambda: self._middlewares.extend(make_middlewares(daemon.middlewares or (), names)),
        ):
            try:
                check()
            except ConfigError as error:
                faults += error.lines
        for options in settings.applications:
            try:
                resource = self._add_application(options)
            except (ConfigError, DeliveryRefused) as error:
                lines = str(error).splitlines()
                faults += [f"{line} (application {options.connector_name})" for line in lines]
                continue
            mounts.setdefault(endpoint_description(options.http_bind), {})[options.path] = resource
        if faults:
            raise ConfigError(*faults)
        page = MetricsPage(self._metrics)
        metrics_bind = settings.daemon.metrics_bind and endpoint_description(settings.daemon.metrics_bind)
        connectors = {
            description: {
                options.path: options.connector_name
                for options in settings.applications
                if endpoint_description(options.http_bind) == description
            }
            for description in mounts
        }
        if metrics_bind:
            mounts.setdefault(metrics_bind, {})
        for description, resources in mounts.items():
            own: dict[str, IResource] = {"/health": Health(self.health)} if resources else {}
            if metrics_bind in (None, description):
                own["/metrics"] = page
            self._sites[description] = ApiSite(
                Root(own | resources),
                reactor,
                limits=limits,
                connections=connections,
                metrics=self._metrics,
                connectors=connectors.get(description),
            )

    def _add_application(self, options: ApplicationOptions) -> IResource:
        if options.reuse_port:
            description = endpoint_description(options.http_bind)
            check_reuse_port(description)
            self._shared.add(description)
        windows = RetryWindows(
            retry=options.retry_window, session=options.session_retry_window, parked_ttl=options.parked_ttl
        )
        chain = Chain(self._middlewares, options.connector_name)
        connector = LayeredConnector(
            self._broker, options.connector_name, chain, windows=windows, metrics=self._metrics
        )
        policy = RetryPolicy(options.max_retries, options.retry_delay_base, options.retry_delay_exponent)
        application: JunebugApplication | TurnApplication
        api: JunebugApi | TurnApi
        if isinstance(options, TurnOptions):
            cache = self._add_cache(
                "message_cache", options.message_cache_class, options.message_cache_config, options
            )
            application = TurnApplication(options, connector, cache, self._deliverer, policy)
            api = TurnApi(application, self._reactor, max_json_depth=self._limits.max_json_depth)
        else:
            cache = self._add_cache(
                "state_cache", options.state_cache_class, options.state_cache_config, options
            )
            application = JunebugApplication(options, connector, cache, self._deliverer, policy)
            api = JunebugApi(
                application,
                self._reactor,
                self._publishing,
                max_json_depth=self._limits.max_json_depth,
            )
        connector.consume(application.on_inbound, application.on_event)
        return api.resource()

    def _add_cache(
        self, option: str, class_path: str, config: Mapping[str, Any], options: ApplicationOptions
    ) -> Cache:
        connector = options.connector_name
        cache = make_cache(class_path, config, option=option, connector=connector, clock=self._reactor)
        self._caches[connector] = cache
        return cache

    def _publishing(self) -> bool:
        """Whether what is published goes to the broker at once."""
        amqp = self._broker.status()
        return amqp["publishing"] and not amqp["blocked"]

    def health(self) -> Mapping[str, Mapping[str, Any]]:
        """The state of each component.

        amqp is well when it is connected, can publish and all consumers are live.  A destination or a cache that is
        down makes us not less healthy: nothing is lost, and starting us again would help nobody.
        """
        amqp = self._broker.status()
        well = amqp["connected"] and amqp["publishing"] and all(amqp["consumers"].values())
        degraded = self._deliverer.degraded()
        state = "degraded" if degraded else "ok"
        caches = {connector: cache.status() for connector, cache in self._caches.items()}
        cached = all(status["ok"] for status in caches.values())
        return {
            "amqp": {"ok": well, **amqp},
            "destinations": {"ok": True, "state": state, "origins": degraded},
            "cache": {"ok": True, "state": "ok" if cached else "degraded", "connectors": caches},
        }

    def _state(self) -> State:
        stats = {name: cache.stats() for name, cache in self._caches.items()}
        circuits = dict.fromkeys(self._deliverer.degraded(), True)
        return State(self._broker.status(), self._queues, stats, circuits)

    async def _count(self) -> None:
        """Ask the broker for the lengths of the queues."""
        try:
            self._queues = await self._broker.count_queues()
        except Exception as fault:
            # Old numbers would look like good news.
            self._queues = {}
            self.log.debug("The queues can't be counted: {reason}", reason=type(fault).__name__)

    def privilegedStartService(self) -> None:
        """Listen, while there still may be the right to take a low port.

        :raises SystemExit: an address can't be had; the process ends with a line that says so
        """
        super().privilegedStartService()
        for description, site in self._sites.items():
            try:
                listening = self._listen(description, site)
            except Exception:
                listening = fail(Failure())
            failures: list[Failure] = []
            listening.addCallbacks(self._ports.append, failures.append)
            for failure in failures:
                reason: Any = getattr(failure.value, "socketError", failure.value)
                line = (
                    f"http_bind: can't listen on {description}: {getattr(reason, 'strerror', None) or reason}"
                )
                self.log.critical("{line}", line=line)
                raise SystemExit(f"junebug-turn: {line}")

    def _renew_outgoing(self) -> None:
        tls = self._tls_files.load()
        # Our own certificate is for the operator's destinations, not for whoever gives an event_url.
        self._deliverer.use_tls(tls, tls.anonymous())

    def reload(self) -> None:
        """Read the certificates again, for new connections; one that can't be used leaves its place unchanged."""
        renewals = {"outgoing HTTPS": self._renew_outgoing}
        renewals |= {address: context.renew for address, context in self._certificates.items()}
        for what, renew in renewals.items():
            try:
                renew()
            except Exception as error:
                self.log.error(
                    "the certificates of {what} can't be read again, and stay as they were: {error}",
                    what=what,
                    error=error,
                )
            else:
                self.log.info("read the certificates of {what} again", what=what)

    def _listen(self, description: str, site: ApiSite) -> Deferred[IListeningPort]:
        if description in self._shared:
            return succeed(listen_together(self._reactor, description, site))
        endpoint, certificate = server_endpoint(self._reactor, description)
        if certificate is not None:
            self._certificates[description] = certificate
        return endpoint.listen(site)

    def startService(self) -> None:
        """Start the caches, then the broker, whose consumers need them."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(lambda failure: self.log.failure("the start failed", failure=failure))

    async def _start(self) -> None:
        for middleware in self._middlewares:
            await middleware.setup()
        for cache in self._caches.values():
            await cache.start()
        self._broker.startService()
        self._counting.start(COUNT_INTERVAL)
        self.ready = True
        for port in self._ports:
            self.log.info("listening on {address}", address=port.getHost())

    def stopService(self) -> Deferred[None]:
        """Stop consuming and listening, let what is under way finish within ``shutdown_timeout``, then close."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self._counting.running:
            self._counting.stop()
        self.log.info("stopping: {timeout:g} s at most for what is under way", timeout=self._shutdown_timeout)
        consuming = Deferred.fromCoroutine(self._broker.stop_consuming(self._shutdown_timeout))
        # The broker keeps better what only waits.
        self._deliverer.stop_waiting()
        await self._all("stop listening", (port.stopListening() for port in self._ports))
        requests = self._all("finish requests", [site.drain() for site in self._sites.values()])
        requests.addTimeout(self._shutdown_timeout, self._reactor).addErrback(self._overdue)
        await self._all("stop consuming", [consuming])
        await requests
        await self._deliverer.close()
        await self._all(
            "close the caches", [Deferred.fromCoroutine(cache.stop()) for cache in self._caches.values()]
        )
        await self._all(
            "end the middlewares",
            [Deferred.fromCoroutine(each.teardown_middleware()) for each in self._middlewares],
        )
        await self._all("close the broker's connection", [self._broker.stopService()])
        self.log.info("stopped")

    def _all(self, what: str, waiting: Iterable[Awaitable[Any] | None]) -> Deferred[Any]:
        """Wait for all; one that fails is logged and doesn't keep the others from being waited for."""

        def failed(failure: Failure) -> None:
            self.log.failure("could not {what}", failure=failure, what=what)

        return DeferredList([d.addErrback(failed) for d in waiting if isinstance(d, Deferred)])

    def _overdue(self, failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        self.log.warn("requests still under way after {timeout:g} s are cut", timeout=self._shutdown_timeout)


def _origins(applications: Iterable[ApplicationOptions]) -> set[str]:
    """The origins of the URLs that the configuration has."""
    urls = set()
    for options in applications:
        if isinstance(options, TurnOptions):
            urls.add(options.turn_api_url)
        else:
            urls |= {options.mo_message_url, options.default_event_url or ""}
    origins = set()
    for url in filter(None, urls):
        with suppress(DeliveryRefused):  # which the application tells
            origins.add(Destination.of(url, None).origin)
    return origins


def _version() -> str:
    try:
        return version("junebug-turn")
    except PackageNotFoundError:
        return "unknown"


def make_service(reactor: Any, settings: Settings) -> Daemon:
    """The daemon for these settings.

    :raises ConfigError: the settings can't be used
    """
    return Daemon(reactor, settings)
