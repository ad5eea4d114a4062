"""The daemon: the only place where the parts meet, and the order in which they start and stop."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.connector import Connector
from junebug_turn.amqp.retries import RetryWindows
from junebug_turn.caches import make_cache
from junebug_turn.caches.interface import Cache
from junebug_turn.config import Settings, endpoint_description
from junebug_turn.delivery import Deliverer
from junebug_turn.errors import ConfigError, DeliveryRefused
from junebug_turn.http.health import Health
from junebug_turn.http.site import ApiSite, Root
from junebug_turn.junebug.api import JunebugApi
from junebug_turn.junebug.application import JunebugApplication
from junebug_turn.options import ApplicationOptions, TurnOptions
from junebug_turn.retry import RetryPolicy
from junebug_turn.turn.api import TurnApi
from junebug_turn.turn.application import TurnApplication


class Daemon(Service):
    """All applications of the settings, on one broker connection.

    :raises ConfigError: a cache can't be made from its options
    """

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._reactor = reactor
        self._shutdown_timeout = settings.daemon.shutdown_timeout
        self._broker = Broker(reactor, settings.daemon.amqp, prefetch=settings.daemon.worker_concurrency)
        # A quarter of the places that a queue has.
        self._deliverer = Deliverer(reactor, suspect_limit=max(1, settings.daemon.worker_concurrency // 4))
        self._caches: list[Cache] = []
        self._sites: dict[str, ApiSite] = {}
        self._ports: list[IListeningPort] = []
        self._starting: Deferred[None] | None = None
        mounts: dict[str, dict[str, IResource]] = {}
        faults: list[str] = []
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
        for description, resources in mounts.items():
            root = Root({"/health": Health(self.health), **resources})
            self._sites[description] = ApiSite(root, reactor)

    def _add_application(self, options: ApplicationOptions) -> IResource:
        windows = RetryWindows(
            retry=options.retry_window, session=options.session_retry_window, parked_ttl=options.parked_ttl
        )
        connector = Connector(self._broker, options.connector_name, windows)
        policy = RetryPolicy(options.max_retries, options.retry_delay_base, options.retry_delay_exponent)
        application: JunebugApplication | TurnApplication
        api: JunebugApi | TurnApi
        if isinstance(options, TurnOptions):
            cache = self._add_cache(
                "message_cache", options.message_cache_class, options.message_cache_config, options
            )
            application = TurnApplication(options, connector, cache, self._deliverer, policy)
            api = TurnApi(application, self._reactor)
        else:
            cache = self._add_cache(
                "state_cache", options.state_cache_class, options.state_cache_config, options
            )
            application = JunebugApplication(options, connector, cache, self._deliverer, policy)
            api = JunebugApi(application, self._reactor, self._publishing)
        connector.consume(application.on_inbound, application.on_event)
        return api.resource()

    def _add_cache(
        self, option: str, class_path: str, config: Mapping[str, Any], options: ApplicationOptions
    ) -> Cache:
        connector = options.connector_name
        cache = make_cache(class_path, config, option=option, connector=connector, clock=self._reactor)
        self._caches.append(cache)
        return cache

    def _publishing(self) -> bool:
        """Whether what is published goes to the broker at once."""
        amqp = self._broker.status()
        return amqp["publishing"] and not amqp["blocked"]

    def health(self) -> Mapping[str, Mapping[str, Any]]:
        """The state of each component.

        amqp is well when it is connected, can publish and all consumers are live.  A destination that is down
        makes us not less healthy: nothing is lost, and starting us again would help nobody.
        """
        amqp = self._broker.status()
        well = amqp["connected"] and amqp["publishing"] and all(amqp["consumers"].values())
        degraded = self._deliverer.degraded()
        state = "degraded" if degraded else "ok"
        return {
            "amqp": {"ok": well, **amqp},
            "destinations": {"ok": True, "state": state, "origins": degraded},
        }

    def privilegedStartService(self) -> None:
        """Listen, while there still may be the right to take a low port.

        :raises SystemExit: an address can't be had; the process ends with a line that says so
        """
        super().privilegedStartService()
        for description, site in self._sites.items():
            try:
                listening = serverFromString(self._reactor, description).listen(site)
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

    def startService(self) -> None:
        """Start the caches, then the broker, whose consumers need them."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(lambda failure: self.log.failure("the start failed", failure=failure))

    async def _start(self) -> None:
        for cache in self._caches:
            await cache.start()
        self._broker.startService()
        for port in self._ports:
            self.log.info("listening on {address}", address=port.getHost())

    def stopService(self) -> Deferred[None]:
        """Stop consuming and listening, let what is under way finish within ``shutdown_timeout``, then close."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
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
        await self._all("close the caches", [Deferred.fromCoroutine(cache.stop()) for cache in self._caches])
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


def make_service(reactor: Any, settings: Settings) -> Daemon:
    """The daemon for these settings.

    :raises ConfigError: the settings can't be used
    """
    return Daemon(reactor, settings)
