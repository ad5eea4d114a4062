"""The daemon: how its parts listen, start and stop, and in which order."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.daemon.build import Parts, assemble
from junebug_turn.daemon.settings import Settings
from junebug_turn.http.listening import ListenAddress, RenewableContext, listen_together, server_endpoint
from junebug_turn.http.server import ApiSite
from junebug_turn.net.tcp import accept_promptly

COUNT_INTERVAL = 15.0
"""Seconds between questions to the broker for the lengths of its queues."""


class Daemon(Service):
    """All applications of the settings, on one broker connection.

    :param shutdown_timeout: seconds that what is under way has when the daemon stops
    :ivar ready: whether it listens and all its parts are started
    """

    log = Logger()

    def __init__(self, reactor: Any, parts: Parts, shutdown_timeout: float) -> None:
        self._reactor = reactor
        self._shutdown_timeout = shutdown_timeout
        self._broker = parts.broker
        self._deliverer = parts.deliverer
        self._middlewares = parts.middlewares
        self._caches = parts.caches
        self._sites = parts.sites
        self._shared = parts.shared
        self._vitals = parts.vitals
        self._renew_tls = parts.renew_tls
        self._counting = LoopingCall(lambda: Deferred.fromCoroutine(self._vitals.count()))
        self._counting.clock = reactor
        self._certificates: dict[str, RenewableContext] = {}
        self._ports: list[IListeningPort] = []
        self._starting: Deferred[None] | None = None
        self.ready = False

    def health(self) -> Mapping[str, Mapping[str, Any]]:
        """The state of each component, as ``/health`` tells it."""
        return self._vitals.health()

    def privilegedStartService(self) -> None:
        """Listen, while there still may be the right to take a low port.

        :raises SystemExit: an address can't be had; the process ends with a line that says so
        """
        super().privilegedStartService()
        for address, site in self._sites.items():
            try:
                listening = self._listen(address, site)
            except Exception:
                listening = fail(Failure())
            failures: list[Failure] = []
            listening.addCallbacks(self._listens, failures.append)
            for failure in failures:
                reason: Any = getattr(failure.value, "socketError", failure.value)
                words = getattr(reason, "strerror", None) or reason
                line = f"http_bind: can't listen on {address.description}: {words}"
                self.log.critical("{line}", line=line)
                raise SystemExit(f"junebug-turn: {line}")

    def reload(self) -> None:
        """Read the certificates again, for new connections; one that can't be used leaves its place unchanged."""
        renewals = {"outgoing HTTPS": self._renew_tls}
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

    def _listen(self, address: ListenAddress, site: ApiSite) -> Deferred[IListeningPort]:
        if address in self._shared:
            return succeed(listen_together(self._reactor, address, site))
        endpoint, certificate = server_endpoint(self._reactor, address)
        if certificate is not None:
            self._certificates[address.description] = certificate
        return endpoint.listen(site)

    def _listens(self, port: IListeningPort) -> None:
        accept_promptly(port)
        self._ports.append(port)

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


def make_service(reactor: Any, settings: Settings) -> Daemon:
    """The daemon for these settings.

    :raises ConfigError: the settings can't be used
    """
    return Daemon(reactor, assemble(reactor, settings), settings.daemon.shutdown_timeout)
